"""What this installation signs pictures with: the operator's certificate, or one of its own (`own_certificate`)."""

import datetime as dt
import itertools
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import ObjectIdentifier

from tintype import settings
from tintype.errors import SetupError
from tintype.media.provenance import own_certificate

FOLDER = Path("provenance") / "own"
MAX_BYTES = 1 << 20
CLAIM_SIGNING = ObjectIdentifier("1.3.6.1.4.1.62558.2.1")
DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")
USAGES = (Usage.EMAIL_PROTECTION, CLAIM_SIGNING, DOCUMENT_SIGNING)
FORBIDDEN_USAGES = (Usage.ANY_EXTENDED_KEY_USAGE, Usage.TIME_STAMPING, Usage.OCSP_SIGNING)
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
Certificates = Sequence[x509.Certificate]


class CertificateError(SetupError):
    """The certificate or key that pictures are signed with cannot be used."""

    code = "certificate_unusable"


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A signing certificate: its chain (PEM, leaf first), its key (PKCS#8 PEM) and the C2PA name of its algorithm.

    `tsa_url` is where time stamps are asked for, if anywhere; `roots_pem` the roots that ingredients are judged by.
    """

    chain_pem: str
    key_pem: str = field(repr=False)
    algorithm: str
    expires_at: dt.datetime
    tsa_url: str | None = None
    roots_pem: str = field(default="", repr=False)


def load(home: Path, chosen: settings.Provenance) -> Credentials:
    """The operator's credentials, or this data folder's own, made now if it has none.

    Raises:
        CertificateError: they cannot be read, or a C2PA signature cannot be made with them; says what to do.
    """
    if chosen.certificate_chain and chosen.private_key:
        found = read(chosen.certificate_chain, chosen.private_key)
    else:
        found = _own(home / FOLDER)
    return replace(found, tsa_url=chosen.tsa_url, roots_pem=trusted_roots(home, chosen))


def _own(folder: Path) -> Credentials:
    try:
        if not folder.exists():
            own_certificate.make(folder)
    except OSError as error:
        raise CertificateError(f"no certificate can be made in {folder}: {error.strerror}; make it writable") from error
    return read(folder / own_certificate.CHAIN, folder / own_certificate.KEY)


def trusted_roots(home: Path, chosen: settings.Provenance) -> str:
    """The roots whose signatures count as trusted, as PEM: our own, if there is one, and the operator's list.

    Raises:
        CertificateError: the operator's list cannot be read.
    """
    own = home / FOLDER / own_certificate.ROOT
    paths = [path for path in (own if own.is_file() else None, chosen.trusted_roots) if path is not None]
    texts = [_text(path) for path in paths]
    for path, text in zip(paths, texts, strict=True):
        _certificates(path, text)
    return "\n".join(texts)


def read(chain: Path, key: Path) -> Credentials:
    """The credentials in two PEM files, after everything a signature needs of them was checked.

    Raises:
        CertificateError: what is wrong with which file, and what to do.
    """
    chain_pem = _text(chain)
    if stat.S_IMODE(_status(key).st_mode) & 0o077:
        raise CertificateError(f"others can read {key}: run `chmod 600 {key}`")
    key_pem = _text(key)
    certificates = _certificates(chain, chain_pem)
    private = _private_key(key, key_pem)
    _check_chain(chain, certificates)
    _check_leaf(chain, certificates[0])
    if _public_bytes(private.public_key()) != _public_bytes(certificates[0].public_key()):
        raise CertificateError(f"{key} is not the key of the first certificate in {chain}: name the two that belong")
    return Credentials(
        chain_pem=chain_pem,
        key_pem=key_pem,
        algorithm=_algorithm(key, private),
        expires_at=certificates[0].not_valid_after_utc,
    )


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from error


def _text(path: Path) -> str:
    if _status(path).st_size > MAX_BYTES:
        raise CertificateError(f"{path} is too large to hold certificates or a key: name a PEM file")
    try:
        return path.read_text("ascii")
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CertificateError(f"{path} is not PEM: convert it with `openssl x509 -inform der`") from error


def _certificates(path: Path, text: str) -> Certificates:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise CertificateError(f"{path} holds no certificates in PEM form (BEGIN CERTIFICATE)") from error


def _private_key(path: Path, text: str) -> PrivateKey:
    if "BEGIN PRIVATE KEY" not in text:
        new = path.with_suffix(".pkcs8.pem")
        mend = f"convert it with `openssl pkcs8 -topk8 -nocrypt -in {path} -out {new}`"
        raise CertificateError(f"{path} is not an unencrypted PKCS#8 key (BEGIN PRIVATE KEY): {mend}")
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{path} is damaged: name an unencrypted PKCS#8 key") from error
    if not isinstance(key, PrivateKey):
        raise CertificateError(f"{path} is a key that C2PA does not know: use ECDSA on P-256, Ed25519 or RSA")
    return key


def _algorithm(path: Path, key: PrivateKey) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return CURVES[key.curve.name]
    raise CertificateError(f"{path}: C2PA accepts ECDSA on P-256, P-384 or P-521, Ed25519, or RSA of 2048 bits or more")


def _check_chain(path: Path, certificates: Certificates) -> None:
    for below, above in itertools.pairwise(certificates):
        try:
            below.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise CertificateError(
                f"{path}: each certificate must be followed by the one that issued it, the signing one first; "
                f"{_subject(above)} did not issue {_subject(below)}"
            ) from error


def _check_leaf(path: Path, leaf: x509.Certificate) -> None:
    """What C2PA demands of the certificate that signs; each of these is refused only when signing."""
    now = dt.datetime.now(dt.UTC)
    if leaf.not_valid_after_utc <= now:
        raise CertificateError(f"{path}: the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}: renew it")
    if leaf.not_valid_before_utc > now:
        when = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise CertificateError(f"{path}: the certificate is valid from {when}: wait, or set this machine's clock")
    for is_well, demand in _demands(path, leaf):
        if not is_well:
            raise CertificateError(f"{path}: the first certificate ({_subject(leaf)}) {demand}")


def _demands(path: Path, leaf: x509.Certificate) -> list[tuple[bool, str]]:
    def extension(kind: type[x509.ExtensionType]) -> x509.ExtensionType | None:
        try:
            return leaf.extensions.get_extension_for_class(kind).value
        except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
            return None

    basic, key_usage = extension(x509.BasicConstraints), extension(x509.KeyUsage)
    extended = extension(x509.ExtendedKeyUsage)
    usages = tuple(extended) if isinstance(extended, x509.ExtendedKeyUsage) else ()
    signs = isinstance(key_usage, x509.KeyUsage) and key_usage.digital_signature
    issues = isinstance(key_usage, x509.KeyUsage) and key_usage.key_cert_sign
    is_authority = (isinstance(basic, x509.BasicConstraints) and basic.ca) or issues
    wanted = "emailProtection, documentSigning or C2PA claim signing"
    return [
        (not is_authority, f"is a certificate authority: put one that it issued for signing before it in {path.name}"),
        (signs, "lacks the key usage digitalSignature: have one issued with it"),
        (any(usage in USAGES for usage in usages), f"lacks the extended key usage {wanted}: have one issued with it"),
        (
            not any(usage in FORBIDDEN_USAGES for usage in usages),
            "is also for anything, time stamps or OCSP, which C2PA refuses: have one issued for signing alone",
        ),
        (
            extension(x509.AuthorityKeyIdentifier) is not None,
            "lacks the extension authorityKeyIdentifier: have one issued with it (a self-signed one does not do)",
        ),
    ]


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:200] or "without a name"


def _public_bytes(key: object) -> bytes:
    if isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return b""
