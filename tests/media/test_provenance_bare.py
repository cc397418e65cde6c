"""A picture without its settings: not a byte of them, every pixel, every label."""

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests import pictures
from tintype.media import encoding, recall, xmp
from tintype.media.provenance import bare, findings, gate, inspect, mark
from tintype.media.provenance.bare import PictureDamagedError
from tintype.media.provenance.manifest import Facts, Ingredient
from tintype.media.settings_text import GenerationSettings
from tintype.media.xmp import SourceType

FORMATS = ("png", "jpeg", "webp")
FACTS = Facts(model="sketch", model_version="1.2")
PROMPTS = ("a heron under a bridge", "eine Möwe über кот <b>", "long " * 9_000 + "heron")
PIXELS = pictures.photograph(width=320, height=288)


def settings_of(prompt: str) -> GenerationSettings:
    return GenerationSettings(prompt=prompt, negative_prompt="a pelican", seed=987654321, steps=20, model="sketch")


def pixels_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def forms_of(text: str) -> list[bytes]:
    """How a text may lie in a file."""
    return [text.encode(codec, "ignore") for codec in ("utf-8", "latin-1", "utf-16-be", "utf-16-le")]


def issued(data: bytes, kind: str, issuer) -> bytes:
    return bare.issue(data, f"image/{kind}", FACTS, issuer.credentials)


@pytest.mark.parametrize("prompt", PROMPTS, ids=["ASCII", "all letters", "long"])
@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_of_prompt_and_settings_is_left_and_every_label_is(issuer, trust, kind, prompt):
    whole = gate.seal(PIXELS, kind, settings_of(prompt), FACTS, issuer)
    data = issued(whole, kind, issuer)
    for word in (prompt[-12:], "pelican", "987654321", "Steps:", "negative_prompt", "tintype:Settings>", "Exif\0"):
        assert not any(form in data for form in forms_of(word)), word
    if "long" not in prompt:
        assert any(form in whole for form in forms_of("pelican")), "the search would find it"
    assert recall.recall(data) == recall.NothingFound(reason="the file carries no settings")
    found, before = inspect.inspect(data, trust), inspect.inspect(whole, trust)
    assert (found.manifest.state, found.manifest.reasons) == ("trusted", ())
    assert (found.manifest.model, found.manifest.actions) == ("sketch", ("c2pa.created",))
    assert found.xmp == before.xmp
    assert found.xmp.source_type == SourceType.CREATED
    assert found.mark == before.mark
    assert found.mark.state == "created"


@pytest.mark.parametrize("kind", FORMATS)
def test_the_pixels_are_the_same_bit_for_bit(issuer, kind):
    whole = gate.seal(PIXELS, kind, settings_of("a heron"), FACTS, issuer)
    assert np.array_equal(pixels_of(issued(whole, kind, issuer)), pixels_of(whole))


@pytest.mark.parametrize("kind", FORMATS)
def test_it_is_the_file_that_sealing_without_settings_would_have_given(kind):
    label = xmp.Label(system="Tintype", model="sketch")
    marked = mark.embed(PIXELS, mark.Message.CREATED, gate.COMMON_KEY)
    stripped = bare.strip(encoding.encode(marked, kind, settings_of("a heron"), label))
    assert stripped == encoding.encode(marked, kind, None, label)
    assert bare.strip(stripped) == stripped


@pytest.mark.parametrize("kind", FORMATS)
def test_there_is_one_manifest_and_it_is_new(issuer, kind):
    whole = gate.seal(PIXELS, kind, settings_of("a heron"), FACTS, issuer)
    stripped = bare.strip(whole)
    assert findings.read(stripped, f"image/{kind}").state == "absent"
    assert b"c2pa" not in stripped


@pytest.mark.parametrize("kind", FORMATS)
def test_an_edited_picture_stays_an_edited_one(issuer, trust, kind):
    first = gate.seal(PIXELS, "png", None, FACTS, issuer)
    sources = [Ingredient(data=first, content_type="image/png", relation=name) for name in ("parentOf", "inputTo")]
    whole = gate.seal(PIXELS, kind, settings_of("a heron"), FACTS, issuer, sources)
    found = inspect.inspect(issued(whole, kind, issuer), trust)
    assert found.manifest.state == "trusted"
    assert found.manifest.actions == ("c2pa.opened", "c2pa.edited")
    assert [part.relation for part in found.manifest.parts] == ["parentOf", "inputTo"]
    assert (found.xmp.source_type, found.mark.state) == (SourceType.EDITED, "edited")


def test_what_hides_in_parts_that_show_nothing_goes_too(issuer):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    hidden = b"a heron"
    png = gate.seal(PIXELS, "png", None, FACTS, issuer)
    texts = [chunk(kind, b"k\0" + hidden) for kind in (b"tEXt", b"eXIf", b"tIME", b"comf", b"prVt")]
    assert hidden not in bare.strip(png[:-12] + b"".join(texts) + png[-12:] + hidden)
    jpeg = gate.seal(PIXELS, "jpeg", None, FACTS, issuer)
    segments = [
        b"\xff" + bytes([marker]) + struct.pack(">H", 2 + len(hidden)) + hidden for marker in (0xE1, 0xE7, 0xFE)
    ]
    assert hidden not in bare.strip(jpeg[:20] + b"".join(segments) + jpeg[20:])
    webp = gate.seal(PIXELS, "webp", None, FACTS, issuer)
    more = webp + b"NOTE" + struct.pack("<I", 8) + hidden + b"\0"
    assert hidden not in bare.strip(more[:4] + struct.pack("<I", len(more) - 8) + more[8:])


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_off_anywhere_is_refused_by_name(issuer, kind):
    whole = gate.seal(PIXELS, kind, settings_of("a heron"), FACTS, issuer)
    for end in [*range(0, len(whole) - 1, 997), len(whole) - 3]:
        with pytest.raises(PictureDamagedError):
            bare.strip(whole[:end])


def test_a_picture_without_our_label_is_refused(issuer):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    with pytest.raises(PictureDamagedError):
        bare.issue(file.getvalue(), "image/png", replace(FACTS), issuer.credentials)
