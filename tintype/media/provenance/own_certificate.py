"""A signing certificate of this data folder's own, made at the first start.

Other programs read its signatures as intact but "untrusted", because no public list knows its root. The key of the
authority that issued it is thrown away at once, so nobody can issue a second certificate under that root.
"""

import datetime as dt
import os
import secrets
import shutil
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CHAIN, KEY, ROOT = "chain.pem", "key.pem", "root.pem"
LIFETIME = dt.timedelta(days=20 * 365)  # without a time stamp a signature is worth nothing once this is over


def make(folder: Path) -> None:
    """Make `folder` (mode 700) with a certificate, its key and its root in it (mode 600).

    Processes that start at once agree on one: the folder is made aside and renamed into place, and only one rename
    wins.

    Raises:
        OSError: it cannot be written.
    """
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = folder.with_name(f".own.{secrets.token_hex(8)}")
    aside.mkdir(mode=0o700)
    try:
        for name, data in _new_pair().items():
            _write(aside / name, data)
        aside.rename(folder)
        _sync(folder.parent)
    except OSError:
        if not (folder / KEY).exists():  # else another process was first: its folder is in the way, and is the one
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_pair() -> dict[str, bytes]:
    """An authority, a certificate it issued for signing, and that one's key; the authority's key is not kept."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    named = secrets.token_hex(4)
    authority_name, name = (_name(f"Tintype {kind} {named}") for kind in ("authority", "installation"))
    authority = _builder(authority_name, authority_name, authority_key, authority_key, issues=True).sign(
        authority_key, hashes.SHA256()
    )
    leaf = _builder(name, authority_name, key, authority_key, issues=False).sign(authority_key, hashes.SHA256())
    leaf_pem, authority_pem = (one.public_bytes(serialization.Encoding.PEM) for one in (leaf, authority))
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {CHAIN: leaf_pem + authority_pem, KEY: key_pem, ROOT: authority_pem}


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey, *, issues: bool
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=not issues,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=issues,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder(subject_name=name, issuer_name=issuer, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))  # clocks of other machines may be behind
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=issues, path_length=0 if issues else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if issues:
        return builder
    return builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tintype"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )
