"""The gate: every file that leaves is labelled, marked and signed, and what was marked before stays marked."""

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from xml.etree import ElementTree

import c2pa
import numpy as np
import pytest
from PIL import Image

from tests import pictures
from tintype import __version__, settings
from tintype.media import encoding, recall, xmp
from tintype.media.provenance import findings, gate, inspect, manifest, mark, visible
from tintype.media.provenance.manifest import Facts, Ingredient, SigningError, TimestampError
from tintype.media.settings_text import GenerationSettings
from tintype.media.xmp import SourceType

FORMATS = ("png", "jpeg", "webp")
FACTS = Facts(model="sketch", model_version="1.2")
SETTINGS = GenerationSettings(prompt='a <red> cat & a "dog", кот', seed=42, steps=20, model="sketch")
PIXELS = pictures.photograph(width=320, height=288)
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


def picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def parent(data: bytes, kind: str = "png") -> Ingredient:
    return Ingredient(data=data, content_type=f"image/{kind}", relation="parentOf")


def source(data: bytes, kind: str = "png") -> Ingredient:
    return Ingredient(data=data, content_type=f"image/{kind}", relation="inputTo")


def raw(data: bytes, kind: str) -> dict:
    with c2pa.Reader(f"image/{kind}", io.BytesIO(data)) as reader:
        return json.loads(reader.json())


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_leaves_is_signed_labelled_marked_and_says_its_settings(issuer, trust, kind):
    data = gate.seal(PIXELS, kind, SETTINGS, FACTS, issuer)
    found = inspect.inspect(data, trust)
    assert found.content_type == f"image/{kind}"
    assert (found.manifest.state, found.manifest.reasons) == ("trusted", ())
    assert found.manifest.actions == ("c2pa.created",)
    assert found.manifest.source_types == (SourceType.CREATED,)
    assert (found.manifest.generator, found.manifest.model) == (f"Tintype {__version__}", "sketch")
    assert found.xmp == xmp.Label(source_type=SourceType.CREATED, system=f"Tintype {__version__}", model="sketch")
    assert found.mark.state == "created"
    assert found.settings.settings == SETTINGS
    assert found.is_labelled
    assert picture(data).size == (320, 288)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_without_settings_keeps_every_label(issuer, trust, kind):
    data = gate.seal(PIXELS, kind, None, FACTS, issuer)
    found = inspect.inspect(data, trust)
    assert (found.manifest.state, found.mark.state) == ("trusted", "created")
    assert found.xmp.source_type == SourceType.CREATED
    assert found.settings.settings is None
    assert found.settings.reason == "the file carries no settings"
    assert not any("кот".encode(form) in data for form in ("utf-8", "utf-16-be", "utf-16-le"))
    assert recall.recall(data) == recall.NothingFound(reason="the file carries no settings")


@pytest.mark.parametrize("kind", FORMATS)
def test_an_edited_picture_says_so_everywhere_and_carries_its_parents_manifest(issuer, trust, kind):
    before = gate.seal(PIXELS, "jpeg", SETTINGS, FACTS, issuer)
    data = gate.seal(PIXELS, kind, SETTINGS, FACTS, issuer, [parent(before, "jpeg"), source(before, "jpeg")])
    found = inspect.inspect(data, trust)
    assert found.manifest.state == "trusted"
    assert found.manifest.actions == ("c2pa.opened", "c2pa.edited")
    assert found.manifest.source_types == (SourceType.EDITED,)
    assert (found.xmp.source_type, found.mark.state) == (SourceType.EDITED, "edited")
    said = [(part.title, part.relation, part.has_manifest, part.failures) for part in found.manifest.parts]
    assert said == [("source 1", "parentOf", True, ()), ("source 2", "inputTo", True, ())]
    manifests = raw(data, kind)["manifests"]
    assert raw(before, "jpeg")["active_manifest"] in manifests, "the parent's own manifest travels whole"


def test_a_chain_of_edits_keeps_every_manifest(issuer, trust):
    data = gate.seal(PIXELS, "png", None, FACTS, issuer)
    for _ in range(3):
        data = gate.seal(PIXELS, "webp", None, FACTS, issuer, [parent(data, inspect.type_of(data).split("/")[1])])
    assert len(raw(data, "webp")["manifests"]) == 4
    assert inspect.inspect(data, trust).manifest.state == "trusted"


def test_a_reference_makes_a_picture_created_not_edited(issuer, trust):
    upload = io.BytesIO()
    Image.fromarray(PIXELS).save(upload, "JPEG")
    data = gate.seal(PIXELS, "png", None, FACTS, issuer, [source(upload.getvalue(), "jpeg")])
    found = inspect.inspect(data, trust)
    assert found.manifest.actions == ("c2pa.created",)
    [part] = found.manifest.parts
    assert (part.title, part.relation, part.has_manifest) == ("source 1", "inputTo", False)


def test_a_parent_that_was_tampered_with_shows_in_its_child(issuer, trust):
    before = bytearray(gate.seal(PIXELS, "png", None, FACTS, issuer))
    before[-5000] ^= 1
    found = inspect.inspect(gate.seal(PIXELS, "png", None, FACTS, issuer, [parent(bytes(before))]), trust)
    assert found.manifest.state == "trusted"
    [part] = found.manifest.parts
    assert [failure.code for failure in part.failures] == ["assertion.dataHash.mismatch"]


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"], ids=["nothing", "text", "cut off"])
@pytest.mark.parametrize("relation", ["parentOf", "inputTo"])
def test_an_ingredient_that_cannot_be_read_is_named_all_the_same(issuer, trust, data, relation):
    good = source(gate.seal(PIXELS, "png", None, FACTS, issuer))
    bad = Ingredient(data=data, content_type="image/png", relation=relation)
    found = inspect.inspect(gate.seal(PIXELS, "png", None, FACTS, issuer, [bad, good]), trust)
    assert found.manifest.state == "trusted"
    parts = {part.title: (part.relation, part.has_manifest) for part in found.manifest.parts}
    assert parts == {"source 1": (relation, False), "source 2": ("inputTo", True)}


def test_two_parents_or_too_many_sources_are_refused(issuer):
    one = parent(b"")
    with pytest.raises(ValueError, match="at most one parent"):
        gate.seal(PIXELS, "png", None, FACTS, issuer, [one, one])
    with pytest.raises(ValueError, match="16 ingredients"):
        gate.seal(PIXELS, "png", None, FACTS, issuer, [source(b"")] * 17)


def test_no_name_prompt_or_thumbnail_of_a_source_gets_into_a_manifest(issuer):
    upload = encoding.encode(PIXELS, "jpeg", None, xmp.Label(system="x"))
    plain = gate.seal(PIXELS, "jpeg", None, FACTS, issuer)
    data = gate.seal(PIXELS, "jpeg", None, FACTS, issuer, [parent(upload, "jpeg")])
    assert len(data) - len(plain) < 2000
    assert "thumbnail" not in json.dumps(raw(data, "jpeg"))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "tamper",
    [
        lambda data: (
            data[: len(data) // 2 + 3000] + bytes([data[len(data) // 2 + 3000] ^ 1]) + data[len(data) // 2 + 3001 :]
        ),
        lambda data: data[:-9] + bytes([data[-9] ^ 0x40]) + data[-8:],
        lambda data: data + b"more",
        lambda data: data.replace(b"c2pa.created", b"c2pa.printed"),
        lambda data: data.replace(b"trainedAlgorithmicMedia", b"digitalCaptureMedia-xxx"),
    ],
    ids=["a bit in the middle", "a bit near the end", "appended", "action", "source type"],
)
def test_a_file_that_was_changed_is_never_valid(issuer, trust, kind, tamper):
    data = gate.seal(PIXELS, kind, SETTINGS, FACTS, issuer)
    changed = tamper(data)
    assert changed != data
    found = findings.read(changed, f"image/{kind}", trust.roots)
    assert found.state in ("invalid", "unreadable")
    assert found.reasons


def test_a_hostile_prompt_and_model_name_cannot_break_out_of_the_label(issuer, trust):
    name = '"/><evil:x a="\x00\x1f]]>&amp;\ud800'
    written = GenerationSettings(prompt=name + "</tintype:Settings>", model="m")
    for kind in FORMATS:
        data = gate.seal(PIXELS, kind, written, Facts(model=name), issuer)
        packet = picture(data).text["XML:com.adobe.xmp"] if kind == "png" else picture(data).info["xmp"]
        description = ElementTree.fromstring(packet).find(".//{*}Description")
        assert description.attrib[f"{IPTC}DigitalSourceType"] == SourceType.CREATED
        assert not any("evil" in child.tag for child in description.iter())
        found = inspect.inspect(data, trust)
        assert found.manifest.state == "trusted"
        assert found.xmp.source_type == SourceType.CREATED


@pytest.mark.parametrize("size", [(1, 1), (255, 255), (64, 700)])
def test_a_picture_too_small_for_a_mark_leaves_signed_and_labelled(issuer, trust, size):
    pixels = pictures.photograph(width=size[0], height=size[1])
    data = gate.seal(pixels, "png", None, FACTS, issuer)
    assert np.array_equal(np.asarray(picture(data)), pixels)
    found = inspect.inspect(data, trust)
    assert (found.manifest.state, found.is_labelled) == ("trusted", True)


def test_a_thumbnail_leaves_labelled_too(issuer, trust):
    data = gate.seal_thumbnail(pictures.photograph(width=1200, height=600), FACTS, issuer, [parent(b"")])
    found = inspect.inspect(data, trust)
    assert picture(data).size == (512, 256)
    assert (found.content_type, found.manifest.state, found.mark.state) == ("image/webp", "trusted", "edited")


def test_many_threads_seal_and_read_at_once(issuer, trust):
    def work(number: int) -> str:
        kind = FORMATS[number % 3]
        data = gate.seal(PIXELS[: 40 + number], kind, SETTINGS, FACTS, issuer)
        assert findings.read(data, f"image/{kind}", trust.roots).state == "trusted"
        return raw(data, kind)["active_manifest"]

    with ThreadPoolExecutor(8) as pool:
        labels = list(pool.map(work, range(64)))
    assert len(set(labels)) == 64


def test_a_forked_child_signs_with_a_context_of_its_own(issuer, trust):
    gate.seal(PIXELS, "png", None, FACTS, issuer)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            data = gate.seal(PIXELS[:40], "png", None, FACTS, issuer)
            os.write(writing, findings.read(data, "image/png", trust.roots).state.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read() == "trusted"
    os.waitpid(child, 0)


def test_a_key_that_does_not_fit_gives_a_named_error_and_no_file(issuer):
    broken = replace(issuer, credentials=replace(issuer.credentials, algorithm="ed25519"))
    with pytest.raises(SigningError, match="could not be signed"):
        gate.seal(PIXELS, "png", None, FACTS, broken)


@pytest.mark.parametrize("corner", ["top_left", "top_right", "bottom_left", "bottom_right"])
def test_a_visible_label_is_drawn_in_its_corner_and_nowhere_else(corner):
    pixels = np.full((400, 600, 3), 128, np.uint8)
    label = visible.load(settings.Provenance(label_text="Made by AI", label_corner=corner))
    drawn = visible.draw(pixels, label)
    rows, columns = np.nonzero((drawn != pixels).any(axis=2))
    assert (rows.max() < 100) if corner.startswith("top") else (rows.min() > 300)
    assert (columns.max() < 300) if corner.endswith("left") else (columns.min() > 300)
    assert drawn.max() > 200
    assert drawn.min() < 80
    assert (pixels == 128).all()


def test_a_logo_is_drawn_with_its_transparency(tmp_path):
    logo = np.zeros((50, 100, 4), np.uint8)
    logo[:, :50] = (255, 0, 0, 255)
    path = tmp_path / "logo.png"
    Image.fromarray(logo).save(path)
    label = visible.load(settings.Provenance(label_logo=path, label_corner="top_left"))
    drawn = visible.draw(np.full((500, 500, 3), 128, np.uint8), label)
    assert tuple(drawn[30, 30]) == (255, 0, 0)
    assert tuple(drawn[30, 95]) == (128, 128, 128)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 5), (20, 20)])
def test_a_label_on_a_tiny_picture_is_cut_off_not_an_error(size):
    pixels = np.zeros((*size, 3), np.uint8)
    label = visible.VisibleLabel(text="Made by a machine, in words that never end")
    assert visible.draw(pixels, label).shape == pixels.shape


def test_a_visible_label_that_cannot_be_drawn_is_refused_at_start(tmp_path):
    with pytest.raises(visible.VisibleLabelError, match="К И"):
        visible.load(settings.Provenance(label_text="AI КИ"))
    path = tmp_path / "logo.png"
    with pytest.raises(visible.VisibleLabelError, match="cannot be read"):
        visible.load(settings.Provenance(label_logo=path))
    path.write_bytes(b"\x89PNG no")
    with pytest.raises(visible.VisibleLabelError, match="save it anew as PNG"):
        visible.load(settings.Provenance(label_logo=path))


def test_the_visible_label_leaves_with_the_picture_and_under_the_mark(provenance_home, trust):
    labelled = gate.open(provenance_home, settings.Provenance(label_text="AI"))
    data = gate.seal(np.full((300, 300, 3), 128, np.uint8), "png", None, FACTS, labelled)
    shown = np.asarray(picture(data))
    assert shown[260:].max() > 190
    assert inspect.inspect(data, trust).mark.state == "created"


def test_an_operators_mark_key_hides_the_mark_from_others(provenance_home, trust):
    secret = settings.Provenance(mark_key="hunter2")
    data = gate.seal(PIXELS, "png", None, FACTS, gate.open(provenance_home, secret))
    assert inspect.inspect(data, trust).mark.state == "absent"
    assert inspect.inspect(data, inspect.trust(provenance_home, secret)).mark.state == "created"
    assert "hunter2" not in repr(gate.open(provenance_home, secret))


def test_signatures_ask_the_time_stamp_authority_and_nothing_leaves_without_its_answer(
    issuer, loopback, provenance_home
):
    dated = gate.open(provenance_home, settings.Provenance(tsa_url=f"{loopback.address}/tsa"))
    assert loopback.asked == [], "the trial at the start needs no network"
    with pytest.raises(TimestampError):
        gate.seal(PIXELS, "png", None, FACTS, dated)
    assert set(loopback.asked) == {"POST /tsa"}


def linked(address: str, kind: str) -> bytes:
    """A picture that says its manifest lies at `address`, as a stranger can write with a text editor."""
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/"'
        f' dcterms:provenance="{address}/manifest.c2pa"/></rdf:RDF></x:xmpmeta>'
    )
    file = io.BytesIO()
    Image.new("RGB", (300, 300), "red").save(file, kind, xmp=packet.encode())
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_picture_that_names_an_address_makes_nobody_go_there(issuer, trust, loopback, kind):
    data = linked(loopback.address, kind)
    content_type = f"image/{kind.lower()}"
    found = inspect.inspect(data, trust)
    assert (found.manifest.state, found.manifest.reasons[0].code) == ("unreadable", "manifest.remote")
    for ingredient in (parent(data, kind.lower()), source(data, kind.lower())):
        sealed = gate.seal(PIXELS, "png", None, FACTS, issuer, [ingredient])
        assert inspect.inspect(sealed, trust).manifest.state == "trusted"
    dated = replace(issuer, credentials=replace(issuer.credentials, tsa_url="http://127.0.0.1:9/tsa"))
    with pytest.raises(TimestampError):
        gate.seal(PIXELS, "png", None, FACTS, dated, [parent(data, kind.lower())])
    assert loopback.asked == []
    with pytest.raises(c2pa.C2paError):
        c2pa.Reader(content_type, io.BytesIO(data))
    assert loopback.asked == ["GET /manifest.c2pa"], "the library does go there unless told not to: the test can fail"


def test_a_video_is_signed_from_file_to_file(issuer, trust, tmp_path):
    cv2 = pytest.importorskip("cv2")
    plain, signed = tmp_path / "plain.mp4", tmp_path / "signed.mp4"
    writer = cv2.VideoWriter(str(plain), cv2.VideoWriter.fourcc(*"mp4v"), 8, (64, 64))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MP4")
    for shade in range(8):
        writer.write(np.full((64, 64, 3), shade * 30, np.uint8))
    writer.release()
    upload = gate.seal(PIXELS, "png", None, FACTS, issuer)
    manifest.sign_file(plain, signed, "video/mp4", FACTS, issuer.credentials, [source(upload)])
    assert cv2.VideoCapture(str(signed)).get(cv2.CAP_PROP_FRAME_COUNT) == 8
    found = findings.read(signed.read_bytes(), "video/mp4", trust.roots)
    assert (found.state, found.actions) == ("trusted", ("c2pa.created",))
    signed.write_bytes(signed.read_bytes().replace(b"mdat", b"mdaT"))
    assert findings.read(signed.read_bytes(), "video/mp4", trust.roots).state in ("invalid", "unreadable")


def test_a_video_that_cannot_be_signed_leaves_nothing_behind(issuer, tmp_path):
    (tmp_path / "plain.mp4").write_bytes(b"no video")
    with pytest.raises(SigningError):
        manifest.sign_file(tmp_path / "plain.mp4", tmp_path / "signed.mp4", "video/mp4", FACTS, issuer.credentials)
    assert not (tmp_path / "signed.mp4").exists()


def test_the_mark_says_the_same_as_the_manifest():
    assert gate.MESSAGES == {SourceType.CREATED: mark.Message.CREATED, SourceType.EDITED: mark.Message.EDITED}
    assert set(gate.MESSAGES) == set(SourceType)
