"""Inspecting: what a file says about how it was made is read from anything, and nothing makes it fail."""

import io
import json
import random
import time

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from tests import certificates, pictures
from tintype import settings
from tintype.cli import app
from tintype.errors import TintypeError
from tintype.media import decoding, encoding, xmp
from tintype.media.provenance import gate, inspect
from tintype.media.provenance.inspect import Inspection, Trust
from tintype.media.provenance.manifest import Facts, Ingredient
from tintype.media.settings_text import GenerationSettings

FORMATS = ("png", "jpeg", "webp")
FACTS = Facts(model="sketch")
SETTINGS = GenerationSettings(prompt="a cat", seed=42, model="sketch")
SMALL = pictures.photograph(width=96, height=64)
LARGE = pictures.photograph(width=300, height=260)


def saved(kind: str, pixels: np.ndarray = LARGE, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_picture_without_any_label_says_nothing_and_that_is_not_proof(trust, kind):
    found = inspect.inspect(saved(kind), trust)
    assert found.content_type == f"image/{kind.lower()}"
    assert (found.manifest.state, found.xmp, found.mark.state) == ("absent", None, "absent")
    assert found.settings.settings is None
    assert not found.is_labelled


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_that_was_saved_anew_still_shows_its_mark(issuer, trust, kind):
    sealed = gate.seal(LARGE, kind, SETTINGS, FACTS, issuer)
    found = inspect.inspect(saved("JPEG", np.asarray(Image.open(io.BytesIO(sealed)).convert("RGB"))), trust)
    assert (found.manifest.state, found.xmp, found.mark.state) == ("absent", None, "created")
    assert found.is_labelled


def test_who_signed_decides_between_trusted_and_untrusted(issuer, tmp_path):
    root = certificates.authority()
    paths = certificates.write(tmp_path, [certificates.signer(root)])
    theirs = gate.open(tmp_path, settings.Provenance(certificate_chain=paths[0], private_key=paths[1]))
    data = gate.seal(SMALL, "png", None, FACTS, theirs)
    stranger = inspect.inspect(data, Trust())
    assert (stranger.manifest.state, stranger.manifest.issuer) == ("untrusted", "Tests")
    assert [reason.code for reason in stranger.manifest.reasons] == ["signingCredential.untrusted"]
    (tmp_path / "roots.pem").write_text(root.pem)
    told = inspect.trust(tmp_path, settings.Provenance(trusted_roots=tmp_path / "roots.pem"))
    assert inspect.inspect(data, told).manifest.state == "trusted"


def test_the_settings_of_another_tool_are_recalled(trust):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64")
    found = inspect.inspect(saved("PNG", pnginfo=info), trust)
    assert (found.settings.source, found.settings.settings.prompt) == ("automatic1111", "a dog")
    assert not found.is_labelled


@pytest.mark.parametrize(
    "written",
    [
        'Iptc4xmpExt:DigitalSourceType="{0}"',
        "Iptc4xmpExt:DigitalSourceType = '{0}'",
        "><Iptc4xmpExt:DigitalSourceType>{0}</Iptc4xmpExt:DigitalSourceType><x",
        '><Iptc4xmpExt:DigitalSourceType rdf:resource="{0}"/><x',
    ],
)
def test_labels_are_read_however_other_programs_write_them(trust, written):
    packet = f"<x:xmpmeta><rdf:Description {written.format(xmp.SourceType.EDITED)}/></x:xmpmeta>"
    found = inspect.inspect(saved("JPEG", xmp=packet.encode()), trust)
    assert found.xmp.source_type == xmp.SourceType.EDITED
    assert found.is_labelled


def test_a_label_that_says_a_camera_took_it_is_no_label_of_a_machine(trust):
    packet = f'<x:xmpmeta Iptc4xmpExt:DigitalSourceType="{xmp.VOCABULARY}digitalCapture"/>'
    found = inspect.inspect(saved("JPEG", xmp=packet.encode()), trust)
    assert found.xmp.source_type.endswith("digitalCapture")
    assert not found.is_labelled


def test_hostile_labels_take_no_time(trust):
    packets = [
        "Iptc4xmpExt:DigitalSourceType" * 2000,
        'Iptc4xmpExt:DigitalSourceType="' + "a" * 60_000,
        "<Iptc4xmpExt:DigitalSourceType " * 2000,
        "Iptc4xmpExt:DigitalSourceType" + " " * 60_000,
        "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><x>&b;</x>",
    ]
    for packet in packets:
        data = saved("JPEG", SMALL, xmp=packet.encode())
        begun = time.process_time()
        assert inspect.inspect(data, trust).xmp is None
        assert time.process_time() - begun < 2


@pytest.mark.parametrize("data", [b"", b"x", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP", b"GIF89a"])
def test_what_is_no_picture_is_looked_at_all_the_same(trust, data):
    found = inspect.inspect(data, trust)
    assert found.size_bytes == len(data)
    assert found.sha256 == encoding.content_hash(data)
    assert found.manifest.state in ("unread", "absent", "unreadable")
    assert found.mark.state == "not_looked_for"
    assert found.mark.reason


def test_a_file_that_is_too_large_is_not_looked_into(issuer, trust):
    data = gate.seal(SMALL, "png", None, FACTS, issuer) + bytes(31 << 20)
    found = inspect.inspect(data, trust)
    assert (found.manifest.state, found.mark.state) == ("unread", "not_looked_for")
    assert "too large" in found.manifest.reasons[0].explanation


def said(found: Inspection) -> dict:
    return found.model_dump(exclude={"sha256", "size_bytes", "mark"})


def pixels(data: bytes) -> np.ndarray | None:
    """What a file shows; None where it shows nothing."""
    try:
        return decoding.decode(data, decoding.Limits()).pixels
    except TintypeError:
        return None


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The same file with a few bytes changed, taken out, put in, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(changed))
        match rng.randrange(6):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
            case 2:
                del changed[at : at + rng.randrange(1, 200)]
            case 3:
                changed[at:at] = rng.randbytes(rng.randrange(1, 200))
            case 4:
                other = rng.randrange(len(changed))
                changed[at : at + 64] = changed[other : other + 64]
            case _:
                changed[at] = rng.randrange(256)
        changed = changed or bytearray(b"\0")
    return bytes(changed if rng.random() > 0.1 else changed[: rng.randrange(len(changed))])


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_never_make_it_fail_or_pass_as_something_else(issuer, trust, kind, part):
    """3 × 3 × 300 of them; metadata is most of these small files, so most mutations hit it."""
    rng = random.Random(f"{kind} {part}")
    before = Ingredient(
        data=gate.seal(SMALL[:20, :20], "jpeg", SETTINGS, FACTS, issuer), content_type="image/jpeg", relation="parentOf"
    )
    good = gate.seal(SMALL[:32, :32], kind, SETTINGS, FACTS, issuer, [before])
    as_it_was = inspect.inspect(good, trust)
    assert as_it_was.manifest.state == "trusted"
    slowest = 0.0
    for _ in range(300):
        data = mutated(good, rng)
        begun = time.process_time()
        found = inspect.inspect(data, trust)
        slowest = max(slowest, time.process_time() - begun)
        json.loads(found.model_dump_json())
        if found.manifest.state in ("trusted", "untrusted"):  # padding and checksums of the manifest are not signed
            assert said(found) == said(as_it_was)
            assert pixels(data) is None or np.array_equal(pixels(data), pixels(good))
    assert slowest < 2


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_uploads_never_keep_a_picture_from_being_sealed(issuer, trust, kind):
    rng = random.Random(kind)
    good = gate.seal(SMALL[:32, :32], kind, SETTINGS, FACTS, issuer)
    for _ in range(100):
        upload = Ingredient(data=mutated(good, rng), content_type=f"image/{kind}", relation="parentOf")
        sealed = gate.seal(SMALL[:16, :16], "png", None, FACTS, issuer, [upload])
        assert inspect.inspect(sealed, trust).manifest.state == "trusted"


@pytest.fixture
def run(provenance_home, issuer, monkeypatch):
    monkeypatch.setenv("TINTYPE_HOME", str(provenance_home))

    def run(*arguments: str):
        return CliRunner().invoke(app.app, ["inspect", *map(str, arguments)])

    return run


def test_the_command_says_it_in_words_and_as_json(run, issuer, tmp_path):
    path = tmp_path / "picture.png"
    hostile = SETTINGS.model_copy(update={"prompt": "a cat\x1b[2J[red]\n\u202e"})
    path.write_bytes(gate.seal(LARGE, "png", hostile, FACTS, issuer))
    said = run(path)
    assert said.exit_code == 0, said.output
    for words in ("made or edited by a machine", "intact, signed by someone trusted", "created (score", "a cat"):
        assert words in said.output
    assert "\x1b" not in said.output
    assert "\u202e" not in said.output
    answer = json.loads(run(path, "--json").output)
    assert (answer["manifest"]["state"], answer["mark"]["state"]) == ("trusted", "created")
    assert answer["settings"]["settings"]["prompt"] == hostile.prompt


def test_the_command_names_a_file_it_cannot_read(run, tmp_path):
    assert "No such file" in str(run(tmp_path / "none.png").exception)
    large = tmp_path / "large.png"
    large.touch()
    with large.open("r+b") as file:
        file.truncate(1 << 40)
    assert "are looked at" in str(run(large).exception)


def test_inspecting_makes_no_certificate(tmp_path, monkeypatch):
    monkeypatch.setenv("TINTYPE_HOME", str(tmp_path / "home"))
    picture = tmp_path / "a.png"
    picture.write_bytes(saved("PNG"))
    assert CliRunner().invoke(app.app, ["inspect", str(picture)]).exit_code == 0
    assert not (tmp_path / "home").exists()
