"""Certificates to sign with, good ones and every kind of bad one, made on the spot."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEYS = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "small rsa": lambda: rsa.generate_private_key(65537, 1024),
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: object

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def key_pem(self, form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8) -> str:
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def authority(name: str = "root", by: Pair | None = None) -> Pair:
    """One that issues others; its own root unless `by` is given."""
    return _issued(name, KEYS["es256"](), by, ca=True, usage="issue", eku=())


def signer(
    by: Pair,
    *,
    algorithm: str = "es256",
    days: tuple[float, float] = (-1, 365),
    eku: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.EMAIL_PROTECTION,),
    usage: str = "sign",
    ca: bool = False,
    names_issuer: bool = True,
) -> Pair:
    """One that signs, by default as it should be."""
    return _issued("signer", KEYS[algorithm](), by, ca=ca, usage=usage, eku=eku, days=days, names_issuer=names_issuer)


def write(folder: Path, chain: Sequence[Pair], key_pem: str | None = None) -> tuple[Path, Path]:
    """The paths of the chain and of its key, written as an operator would."""
    certificates, key = folder / "chain.pem", folder / "key.pem"
    certificates.write_text("".join(pair.pem for pair in chain))
    key.write_text(chain[0].key_pem() if key_pem is None else key_pem)
    key.chmod(0o600)
    return certificates, key


def _issued(name, key, by, *, ca, usage, eku, days=(-1, 3650), names_issuer=True) -> Pair:
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    issuer_key = by.key if by else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if usage:
        flags = dict.fromkeys(
            ["content_commitment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"],
            False,
        )
        flags |= {
            "digital_signature": "sign" in usage,
            "key_cert_sign": "issue" in usage,
            "key_encipherment": "encipher" in usage,
        }
        builder = builder.add_extension(x509.KeyUsage(**flags), critical=True)
    if eku:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(eku)), critical=False)
    if names_issuer:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    algorithm = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Pair(certificate=builder.sign(issuer_key, algorithm), key=key)
