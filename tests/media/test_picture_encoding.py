"""What is in the files: the pixels, the settings where other tools look, and the machine-made label."""

import io
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tintype.media import decoding, embedded, encoding, settings_text
from tintype.media.recall import RecalledSettings, recall
from tintype.media.settings_text import GenerationSettings, Lora

SETTINGS = GenerationSettings(
    prompt='a <red> cat & a "dog"',
    negative_prompt="blurry",
    steps=20,
    sampler="Euler",
    guidance_scale=7.0,
    seed=42,
    width=96,
    height=64,
    model="sketch",
    loras=(Lora(name="ink", weight=0.5),),
)
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


def a_picture(width: int = 96, height: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    planes = [
        columns * 255 // max(width - 1, 1),
        rows * 255 // max(height - 1, 1),
        (rows * 7 + columns * 3) % 256,
    ]
    return np.stack(planes, axis=-1).astype(np.uint8)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def label(packet: str | bytes) -> dict[str, str]:
    """The properties of an XMP packet, by a real XML parser."""
    description = ElementTree.fromstring(packet).find(".//{*}Description")
    return dict(description.attrib)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (5, 3), (96, 64), (128, 128), (513, 257)])
def test_a_png_holds_exactly_the_pixels(size):
    pixels = a_picture(*size)
    image = opened(encoding.encode(pixels, "png", SETTINGS))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), pixels)


def test_pixels_that_are_a_view_of_others_are_encoded_as_seen():
    pixels = a_picture(64, 64)[::-1, ::2]
    assert np.array_equal(np.asarray(opened(encoding.encode(pixels, "png", SETTINGS))), pixels)


@pytest.mark.parametrize(("file_format", "worst"), [("jpeg", 12), ("webp", 40)])
def test_lossy_files_look_like_the_pixels(file_format, worst):
    rows, columns = np.mgrid[:64, :96]
    smooth = np.stack([columns * 2, rows * 3, (rows + columns)], axis=-1).astype(np.uint8)
    image = opened(encoding.encode(smooth, file_format, SETTINGS))
    assert image.format == file_format.upper()
    difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - smooth)
    assert difference.max() <= worst
    assert difference.mean() <= 3


def test_a_jpeg_keeps_full_colour_resolution():
    sampling = [component[1:3] for component in opened(encoding.encode(a_picture(), "jpeg", SETTINGS)).layer]
    assert sampling == [(1, 1), (1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("prompt", "chunk"), [("plain ascii", b"tEXt"), ("café", b"tEXt"), ("кот 猫", b"iTXt"), ("a\0b", b"iTXt")]
)
def test_a_png_says_its_settings_where_automatic1111_does(prompt, chunk):
    settings = SETTINGS.model_copy(update={"prompt": prompt})
    data = encoding.encode(a_picture(), "png", settings)
    written = opened(data).text["parameters"]
    assert written == settings_text.to_parameters(settings).replace("\0", "\ufffd")
    at = data.index(b"parameters\0")
    assert data[at - 4 : at] == chunk
    assert data.index(b"parameters\0") < data.index(b"IDAT")


@pytest.mark.parametrize("file_format", ["jpeg", "webp"])
def test_jpeg_and_webp_say_their_settings_where_automatic1111_does(file_format):
    settings = SETTINGS.model_copy(update={"prompt": "кот 猫 🐈"})
    exif = opened(encoding.encode(a_picture(), file_format, settings)).getexif()
    comment = exif.get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be") == settings_text.to_parameters(settings)


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_every_file_is_labelled_as_machine_made(file_format):
    image = opened(encoding.encode(a_picture(), file_format, SETTINGS))
    packet = image.text["XML:com.adobe.xmp"] if file_format == "png" else image.info["xmp"]
    said = label(packet)
    assert said[f"{IPTC}DigitalSourceType"] == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    )
    assert said[f"{IPTC}AISystemUsed"].startswith("tintype ")
    assert said[f"{IPTC}AISystemVersionUsed"] == "sketch"


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("prompt", ["a cat", "кот, 猫 & <b>\n\"q\" 'q' \x01\x7f 🐈", "Negative prompt: x\0"])
def test_settings_come_back_out_of_every_format_exactly(file_format, prompt):
    settings = SETTINGS.model_copy(update={"prompt": prompt})
    found = recall(encoding.encode(a_picture(), file_format, settings))
    assert found == RecalledSettings(source="tintype", settings=settings)


@pytest.mark.parametrize("size", [60_000, 20_000, 200_000])
def test_settings_too_long_for_a_jpeg_are_left_out_and_the_label_stays(size):
    settings = SETTINGS.model_copy(update={"prompt": "猫" * size})
    data = encoding.encode(a_picture(), "jpeg", settings)
    assert label(opened(data).info["xmp"])[f"{IPTC}DigitalSourceType"].endswith("trainedAlgorithmicMedia")
    found = recall(data)
    if size == 20_000:  # 40 kB as UTF-16 and 60 kB as UTF-8: both fit
        assert found == RecalledSettings(source="tintype", settings=settings)
    assert recall(encoding.encode(a_picture(), "webp", settings)).settings == settings


def test_the_same_pixels_and_settings_give_the_same_bytes():
    for file_format in encoding.CONTENT_TYPES:
        one, two = (encoding.encode(a_picture(), file_format, SETTINGS) for _ in range(2))
        assert one == two


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((0, 5, 3), np.uint8),
        np.zeros((5, 0, 3), np.uint8),
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((5, 5, 3), np.float32),
    ],
)
@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_pixels_of_another_shape_or_type_are_refused(pixels, file_format):
    with pytest.raises(ValueError, match="uint8"):
        encoding.encode(pixels, file_format, SETTINGS)


def test_a_picture_larger_than_webp_can_hold_is_refused():
    with pytest.raises(ValueError, match="16383"):
        encoding.encode(np.zeros((1, 16_384, 3), np.uint8), "webp", SETTINGS)


def test_where_fpng_was_not_built_pillow_writes_the_same_picture():
    code = (
        "import sys; sys.modules['fpng_py'] = None\n"
        "import numpy as np\n"
        "from tintype.media import encoding\n"
        "from tintype.media.settings_text import GenerationSettings\n"
        "pixels = np.arange(300, dtype=np.uint16).astype(np.uint8).reshape(10, 10, 3)\n"
        "assert encoding.fpng_encode is None\n"
        "sys.stdout.buffer.write(encoding.encode(pixels, 'png', GenerationSettings(prompt='x', seed=1)))"
    )
    data = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout
    pixels = np.arange(300, dtype=np.uint16).astype(np.uint8).reshape(10, 10, 3)
    assert np.array_equal(np.asarray(opened(data)), pixels)
    assert recall(data).settings == GenerationSettings(prompt="x", seed=1)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 512), (512, 256)),
        ((300, 1200), (128, 512)),
        ((512, 512), (512, 512)),
        ((40, 30), (40, 30)),
        ((5000, 1), (512, 1)),
    ],
)
def test_a_thumbnail_is_at_most_512_a_side_and_never_enlarged(size, expected):
    image = opened(encoding.thumbnail(a_picture(*size)))
    assert (image.format, image.size) == ("WEBP", expected)


def test_a_thumbnail_of_a_file_shows_it_upright_and_says_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(a_picture(96, 64)).save(buffer, "JPEG", exif=exif)
    data = encoding.thumbnail(buffer.getvalue())
    assert opened(data).size == (64, 96)
    assert embedded.read(data) == embedded.Embedded()


def test_a_thumbnail_of_what_is_no_picture_is_refused():
    with pytest.raises(decoding.NotAnImageError):
        encoding.thumbnail(b"no picture")


def test_a_content_hash_is_the_sha256():
    assert encoding.content_hash(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert re.fullmatch(r"[0-9a-f]{64}", encoding.content_hash(b""))
