"""What pictures are signed with: made once at the first start, or the operator's, with errors that say what to do."""

import io
import stat
import subprocess
import sys
from pathlib import Path

import c2pa
import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.x509 import load_pem_x509_certificates
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests import certificates
from tintype import settings
from tintype.media.provenance import credentials, findings, gate
from tintype.media.provenance.credentials import CertificateError
from tintype.media.provenance.manifest import Facts

PIXELS = np.full((40, 40, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def root() -> certificates.Pair:
    return certificates.authority()


def chosen(paths: tuple[Path, Path], **others: object) -> settings.Provenance:
    return settings.Provenance(certificate_chain=paths[0], private_key=paths[1], **others)


def signed(home: Path, group: settings.Provenance) -> bytes:
    return gate.seal(PIXELS, "png", None, Facts(model="sketch"), gate.open(home, group))


def test_the_first_start_makes_a_certificate_that_only_its_owner_can_read(tmp_path):
    made = credentials.load(tmp_path, settings.Provenance())
    folder = tmp_path / "provenance" / "own"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        ["chain.pem", "key.pem", "root.pem"], 0o600
    )
    leaf, authority = load_pem_x509_certificates(made.chain_pem.encode())
    leaf.verify_directly_issued_by(authority)
    assert 19.9 < (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days / 365 < 20.1
    assert made.algorithm == "es256"
    assert credentials.load(tmp_path, settings.Provenance()) == made, "made once"
    assert "PRIVATE" not in repr(made)


def test_two_installations_sign_with_different_keys(tmp_path):
    one, two = (credentials.load(tmp_path / name, settings.Provenance()) for name in "ab")
    assert one.key_pem != two.key_pem


def test_processes_that_start_at_once_agree_on_one_certificate(tmp_path):
    code = (
        "import sys, pathlib; from tintype import settings; from tintype.media.provenance import credentials\n"
        "sys.stdin.read()\n"
        "print(hash(credentials.load(pathlib.Path(sys.argv[1]), settings.Provenance()).key_pem))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {"PYTHONHASHSEED": "0"}
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(6)
    ]
    for process in running:
        process.stdin.write("go")
        process.stdin.close()
        process.stdin = None
    said = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0] * 6
    assert len(said) == 1
    assert [path.name for path in (tmp_path / "provenance").iterdir()] == ["own"], "nothing is left lying about"


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "provenance").write_text("in the way")
    with pytest.raises(CertificateError, match="make it writable"):
        credentials.load(tmp_path, settings.Provenance())


@pytest.mark.parametrize("algorithm", ["es256", "es384", "ps256", "ed25519"])
def test_an_operators_certificate_of_any_usual_kind_signs(tmp_path, root, algorithm):
    between = certificates.authority("between", root)
    paths = certificates.write(tmp_path, [certificates.signer(between, algorithm=algorithm), between])
    data = signed(tmp_path, chosen(paths))
    assert findings.read(data, "image/png").state == "untrusted"
    assert findings.read(data, "image/png", root.pem).state == "trusted"


@pytest.mark.parametrize("usage", [credentials.CLAIM_SIGNING, credentials.DOCUMENT_SIGNING])
def test_certificates_as_c2pa_authorities_issue_them_sign(tmp_path, root, usage):
    paths = certificates.write(tmp_path, [certificates.signer(root, eku=[usage])])
    assert findings.read(signed(tmp_path, chosen(paths)), "image/png", root.pem).state == "trusted"


def test_the_operators_roots_and_our_own_count_as_trusted(tmp_path, root):
    (tmp_path / "roots.pem").write_text(root.pem)
    group = settings.Provenance(trusted_roots=tmp_path / "roots.pem")
    assert credentials.trusted_roots(tmp_path, group) == root.pem
    own = credentials.load(tmp_path, group)
    both = credentials.trusted_roots(tmp_path, group)
    assert len(load_pem_x509_certificates(both.encode())) == 2
    assert own.roots_pem == both


BAD = {
    "an authority": (lambda root: [root], "is a certificate authority"),
    "a signer that may issue": (
        lambda root: [certificates.signer(root, usage="sign issue")],
        "is a certificate authority",
    ),
    "expired": (lambda root: [certificates.signer(root, days=(-30, -1))], "expired on .* renew it"),
    "not yet valid": (lambda root: [certificates.signer(root, days=(1, 30))], "wait, or set this machine's clock"),
    "no key usage": (lambda root: [certificates.signer(root, usage="")], "digitalSignature"),
    "for encryption": (lambda root: [certificates.signer(root, usage="encipher")], "digitalSignature"),
    "no extended key usage": (lambda root: [certificates.signer(root, eku=())], "emailProtection"),
    "for servers": (
        lambda root: [certificates.signer(root, eku=[ExtendedKeyUsageOID.SERVER_AUTH])],
        "emailProtection",
    ),
    "for code": (lambda root: [certificates.signer(root, eku=[ExtendedKeyUsageOID.CODE_SIGNING])], "emailProtection"),
    "for anything": (
        lambda root: [
            certificates.signer(
                root, eku=[ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]
            )
        ],
        "is also for anything",
    ),
    "for time stamps too": (
        lambda root: [
            certificates.signer(root, eku=[ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.TIME_STAMPING])
        ],
        "is also for anything",
    ),
    "issuer not named": (lambda root: [certificates.signer(root, names_issuer=False)], "authorityKeyIdentifier"),
    "wrong order": (lambda root: [root, certificates.signer(root)], "the signing one first"),
    "another issuer": (lambda root: [certificates.signer(root), certificates.authority()], "did not issue"),
    "an unknown curve": (lambda root: [certificates.signer(root, algorithm="secp256k1")], "C2PA accepts"),
    "a short RSA key": (lambda root: [certificates.signer(root, algorithm="small rsa")], "2048 bits"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_certificate_that_cannot_sign_is_refused_at_start_and_says_why(tmp_path, root, case):
    make, says = BAD[case]
    paths = certificates.write(tmp_path, make(root))
    with pytest.raises(CertificateError, match=says) as refused:
        gate.open(tmp_path, chosen(paths))
    assert str(tmp_path) in refused.value.detail


REFUSED_BY_C2PA = [case for case in BAD if case not in ("wrong order", "an unknown curve", "a short RSA key")]


@pytest.mark.parametrize("case", [*REFUSED_BY_C2PA, "good"])
def test_what_we_refuse_the_library_refuses_too(tmp_path, root, case):
    make = BAD[case][0] if case in BAD else lambda root: [certificates.signer(root)]
    chain = make(root)
    text = "".join(pair.pem for pair in chain)
    info = c2pa.C2paSignerInfo("es256", text.encode(), chain[0].key_pem().encode(), None)
    actions = [{"action": "c2pa.created", "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/print"}]
    definition = {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": actions}}]}
    own = credentials.load(tmp_path, settings.Provenance())
    picture = gate.seal(PIXELS, "png", None, Facts(model="m"), gate.Issuer(credentials=own))

    def sign() -> bytes:
        target = io.BytesIO()
        context = c2pa.Context.from_dict({"version": 1}, signer=c2pa.Signer.from_info(info))
        c2pa.Builder(definition, context=context).sign("image/png", io.BytesIO(picture), target)
        return target.getvalue()

    if case == "good":
        assert findings.read(sign(), "image/png", root.pem).state == "trusted"
    elif case == "another issuer":
        assert findings.read(sign(), "image/png", root.pem).state != "trusted", "signs, and is worth nothing"
    else:
        with pytest.raises(c2pa.C2paError):
            sign()


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL])
def test_a_key_in_the_older_form_is_refused_with_the_command_that_converts_it(tmp_path, root, form):
    signer = certificates.signer(root)
    paths = certificates.write(tmp_path, [signer], key_pem=signer.key_pem(form))
    with pytest.raises(CertificateError, match="openssl pkcs8 -topk8 -nocrypt"):
        gate.open(tmp_path, chosen(paths))


def test_a_key_of_another_certificate_is_refused(tmp_path, root):
    paths = certificates.write(tmp_path, [certificates.signer(root)], key_pem=certificates.signer(root).key_pem())
    with pytest.raises(CertificateError, match="is not the key of the first certificate"):
        gate.open(tmp_path, chosen(paths))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path, root, mode):
    paths = certificates.write(tmp_path, [certificates.signer(root)])
    paths[1].chmod(mode)
    with pytest.raises(CertificateError, match=f"run `chmod 600 {paths[1]}`"):
        gate.open(tmp_path, chosen(paths))


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ä"])
def test_files_that_hold_nothing_of_the_kind_are_named(tmp_path, root, text):
    chain, key = certificates.write(tmp_path, [certificates.signer(root)])
    good = chain.read_text()
    chain.write_text(text)
    with pytest.raises(CertificateError, match=r"chain\.pem"):
        gate.open(tmp_path, chosen((chain, key)))
    chain.write_text(good)
    key.write_text(text)
    with pytest.raises(CertificateError, match=r"key\.pem"):
        gate.open(tmp_path, chosen((chain, key)))
    key.unlink()
    with pytest.raises(CertificateError, match="cannot be read: No such file"):
        gate.open(tmp_path, chosen((chain, key)))


@pytest.mark.parametrize(
    "given",
    [
        {"certificate_chain": "a.pem"},
        {"private_key": "a.pem"},
        {"label_text": "AI", "label_logo": "a.png"},
        {"tsa_url": "file:///etc/passwd"},
        {"labels": False},
        {"enabled": False},
    ],
)
def test_settings_that_do_not_fit_together_or_would_turn_labels_off_are_refused(given):
    with pytest.raises(ValueError, match="validation error"):
        settings.Provenance(**given)
