"""Uploads: what is accepted comes out as it looks, and everything else is refused by name."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from tintype.errors import TintypeError
from tintype.media import decoding
from tintype.media.decoding import Limits

LIMITS = Limits()


def a_picture(width: int = 48, height: int = 32) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 5, rows * 7, columns + rows], axis=-1).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def a_png_header(width: int, height: int) -> bytes:
    """A PNG that only claims its size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {"quality": 100, "subsampling": "4:4:4"})],
)
def test_a_lossless_upload_comes_out_pixel_by_pixel(kind, options):
    decoded = decoding.decode(saved(Image.fromarray(a_picture()), kind, **options), LIMITS)
    worst = 3 if kind == "AVIF" else 0
    assert np.abs(decoded.pixels.astype(int) - a_picture()).max() <= worst
    assert (decoded.pixels.dtype, decoded.pixels.shape) == (np.uint8, (32, 48, 3))
    assert (decoded.format, decoded.width, decoded.height) == (kind.lower(), 48, 32)
    assert decoded.pixels.flags.writeable


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_every_kind_of_pixels_comes_out_as_rgb(mode):
    image = Image.fromarray(a_picture()).convert(mode)
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    decoded = decoding.decode(saved(image, kind, **options), LIMITS)
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decoded.pixels - expected).max() <= (8 if kind == "JPEG" else 0)


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    wide = np.linspace(0, 65_535, 256).astype(np.uint16).reshape(16, 16)
    decoded = decoding.decode(saved(Image.fromarray(wide), "PNG"), LIMITS)
    assert np.abs(decoded.pixels[:, :, 0].astype(int).ravel() - np.arange(256)).max() <= 1
    assert decoded.pixels.shape == (16, 16, 3)


def test_transparent_parts_are_shown_over_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[:2] = (255, 0, 0, 255)
    rgba[2:] = (0, 255, 0, 0)
    decoded = decoding.decode(saved(Image.fromarray(rgba), "PNG"), LIMITS)
    assert decoded.pixels[0, 0].tolist() == [255, 0, 0]
    assert decoded.pixels[3, 3].tolist() == [255, 255, 255]


def test_a_palette_with_a_transparent_colour_is_transparency():
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 255])
    decoded = decoding.decode(saved(image, "PNG", transparency=1), LIMITS)
    assert decoded.pixels.tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_comes_out_upright(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "the photographer's secret"
    upright = a_picture()
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    decoded = decoding.decode(saved(Image.fromarray(turned), "PNG", exif=exif), LIMITS)
    assert np.array_equal(decoded.pixels, upright)


def test_a_colour_profile_is_applied():
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = decoding.decode(saved(Image.fromarray(a_picture()), "PNG", icc_profile=swapped), LIMITS)
    assert np.abs(same.pixels.astype(int) - a_picture()).max() <= 2
    broken = decoding.decode(saved(Image.fromarray(a_picture()), "PNG", icc_profile=b"x" * 500), LIMITS)
    assert np.array_equal(broken.pixels, a_picture())


def test_the_second_picture_in_a_phone_photograph_is_passed_over():
    first, second = Image.fromarray(a_picture()), Image.fromarray(a_picture()[::-1])
    data = saved(first, "MPO", save_all=True, append_images=[second], quality=100)
    decoded = decoding.decode(data, LIMITS)
    assert decoded.format == "jpeg"
    assert np.abs(decoded.pixels.astype(int) - a_picture()).mean() < 4


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
    ],
)
def test_what_is_no_picture_is_refused_with_what_is_accepted(data):
    with pytest.raises(decoding.NotAnImageError, match="PNG, JPEG, WebP") as caught:
        decoding.decode(data, LIMITS)
    assert (caught.value.status, caught.value.code) == (415, "not_an_image")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM", "TGA"])
def test_a_picture_of_another_format_is_refused(kind):
    with pytest.raises(decoding.NotAnImageError):
        decoding.decode(saved(Image.fromarray(a_picture()), kind), LIMITS)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_an_animation_is_refused(kind):
    frames = [Image.fromarray(a_picture()), Image.fromarray(a_picture()[::-1])]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    with pytest.raises(decoding.AnimatedImageError) as caught:
        decoding.decode(data, LIMITS)
    assert (caught.value.status, caught.value.code) == (415, "image_animated")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_picture_that_is_cut_off_is_refused(kind):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    with pytest.raises((decoding.DamagedImageError, decoding.NotAnImageError)) as caught:
        decoding.decode(data[: len(data) // 2], LIMITS)
    assert caught.value.status in (415, 422)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max_bytes=100), "bytes"),
        (Limits(max_pixels=48 * 32 - 1), "pixels; at most 1,535"),
        (Limits(max_side=47), "along one side; at most 47"),
    ],
)
def test_a_picture_over_a_limit_is_refused_with_the_limit(limits, words):
    with pytest.raises(decoding.ImageTooLargeError, match=words) as caught:
        decoding.decode(saved(Image.fromarray(a_picture()), "PNG"), limits)
    assert (caught.value.status, caught.value.code) == (413, "image_too_large")


def test_a_picture_at_its_limits_is_accepted():
    data = saved(Image.fromarray(a_picture()), "PNG")
    limits = Limits(max_bytes=len(data), max_pixels=48 * 32, max_side=48)
    assert decoding.decode(data, limits).width == 48


@pytest.mark.parametrize("size", [(16_000, 16_000), (8_000, 8_000), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 1)])
def test_a_bomb_is_refused_by_its_claim_before_it_is_decoded(size):
    with pytest.raises(decoding.ImageTooLargeError):
        decoding.decode(a_png_header(*size), LIMITS)


def test_pillow_is_left_as_others_know_it():
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1 << 20


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_mutated_files_are_pictures_or_named_facts_and_nothing_else(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(Image.fromarray(a_picture()), kind, exif=exif, icc_profile=profile)
    dice = random.Random(kind)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        mutated = bytearray(data)
        for _ in range(dice.randint(1, 6)):
            mutated[dice.randrange(len(mutated))] = dice.randrange(256)
        try:
            decoded = decoding.decode(bytes(mutated), Limits(max_pixels=1_000_000))
            assert decoded.pixels.shape == (decoded.height, decoded.width, 3)
            outcomes["read"] += 1
        except TintypeError:
            outcomes["refused"] += 1
    assert outcomes["refused"] > 20


def a_large_picture(mode: str) -> Image.Image:
    """Of several bands, with neither side a multiple of anything."""
    rows, columns = np.mgrid[:1501, :2003]
    planes = [columns // 8 % 256, rows // 6 % 256, (columns + rows) // 14 % 256, 255 - rows // 6 % 256]
    image = Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8), "RGBA")
    return image if mode == "RGBA" else image.convert(mode)


def over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
def test_a_picture_of_many_bands_comes_out_whole(mode):
    image = a_large_picture(mode)
    decoded = decoding.decode(saved(image, "PNG", compress_level=1), LIMITS)
    difference = np.abs(decoded.pixels.astype(int) - np.asarray(over_white(image)))
    assert difference.max() <= (1 if mode == "RGBA" else 0)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_a_picture_that_is_to_fit_looks_like_the_whole_one_made_smaller(kind, mode):
    if kind == "JPEG" and mode in ("P", "RGBA"):
        mode = "CMYK"
    image = a_large_picture("RGB" if mode == "CMYK" else mode)
    options = {"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {"compress_level": 1}
    encodable = image.convert("CMYK") if mode == "CMYK" else image
    decoded = decoding.decode(saved(encodable, kind, **options), LIMITS, fit=100)
    assert (decoded.width, decoded.height) == (2003, 1501)
    assert decoded.pixels.shape == (75, 100, 3)
    expected = np.asarray(over_white(image).resize((100, 75), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(decoded.pixels - expected)[1:-1, 1:-1].mean() < 2.5


def test_sixteen_bit_grey_fits_too():
    wide = np.broadcast_to(np.linspace(0, 65_535, 1200).astype(np.uint16), (900, 1200))
    decoded = decoding.decode(saved(Image.fromarray(np.ascontiguousarray(wide)), "PNG"), LIMITS, fit=64)
    assert decoded.pixels.shape == (48, 64, 3)
    assert np.abs(np.diff(decoded.pixels[20, :, 0].astype(int)) - 4).max() <= 1


def test_what_is_small_already_is_not_enlarged_to_fit():
    decoded = decoding.decode(saved(Image.fromarray(a_picture()), "PNG"), LIMITS, fit=512)
    assert np.array_equal(decoded.pixels, a_picture())


def test_a_turned_photograph_that_is_to_fit_has_its_upright_size():
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decoding.decode(saved(a_large_picture("RGB"), "JPEG", exif=exif), LIMITS, fit=100)
    assert (decoded.width, decoded.height, decoded.pixels.shape) == (1501, 2003, (100, 75, 3))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_formats_whose_decoders_copy_the_whole_picture_have_a_lower_limit(kind):
    data = saved(Image.fromarray(a_picture()), kind)
    limits = Limits(max_pixels=48 * 32, max_pixels_held_often=48 * 32 - 1)
    if kind == "PNG":
        assert decoding.decode(data, limits).width == 48
        return
    with pytest.raises(decoding.ImageTooLargeError, match="as WEBP; send PNG or JPEG"):
        decoding.decode(data, limits)
