"""What a picture says beside its pixels: places and names go no further, tones stay, addresses are not visited."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from tests.security import hostile
from tintype.media import decoding, encoding, recall
from tintype.media.settings_text import GenerationSettings

SECRETS = (b"Secret", b"2024:01:02", b"GPS")
LIMITS = decoding.Limits()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
async def test_place_camera_and_name_are_not_in_thumbnails_or_in_what_is_encoded_anew(http, kind):
    packet = b"<x>SecretPlace</x>"
    data = hostile.with_xmp(hostile.picture(600, 400), kind, packet, exif=hostile.located_exif())
    assert b"SecretCamera" in data
    assert packet in data
    media = (await http.post("/api/media", files={"file": ("a", data)})).json()
    thumbnail = (await http.get(media["thumbnail_url"])).content
    decoded = decoding.decode(data, LIMITS)
    settings = GenerationSettings(tool="tintype", tool_version="0", prompt="a hat", seed=1)
    anew = [encoding.encode(decoded.pixels, form, settings) for form in ("png", "jpeg", "webp")]
    for file in (thumbnail, *anew):
        assert not any(secret in file for secret in SECRETS)
        exif = Image.open(io.BytesIO(file)).getexif()
        assert not exif.get_ifd(0x8825)
        assert 0x010F not in exif
    assert not any(secret.decode() in str(media) for secret in SECRETS)


async def test_a_png_of_16_bits_keeps_its_tones(http):
    wide = np.linspace(0, 65_535, 256 * 256).astype(np.uint16).reshape(256, 256)
    data = hostile.saved(Image.fromarray(wide), "PNG")
    media = (await http.post("/api/media", files={"file": ("a", data)})).json()
    thumbnail = np.asarray(
        Image.open(io.BytesIO((await http.get(media["thumbnail_url"])).content)).convert("L")
    ).astype(int)
    assert np.abs(thumbnail - (wide >> 8)).max() <= 6
    assert np.abs(decoding.decode(data, LIMITS).pixels[:, :, 0].astype(int) - wide / 257).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_an_address_in_the_xmp_is_not_visited(http, kind):
    called = []

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(1)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/manifest.c2pa"
        data = hostile.with_xmp(hostile.picture(), kind, hostile.xmp_pointing_at(url))
        assert url.encode() in data
        assert (await http.post("/api/media", files={"file": ("a", data)})).status_code == 201
        await asyncio.to_thread(decoding.decode, data, LIMITS)
        await asyncio.to_thread(recall.recall, data)
        await asyncio.sleep(0.1)
        assert not called
