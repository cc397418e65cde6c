"""Large uploads at once: what the API process takes of the machine's memory meanwhile."""

import asyncio
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from PIL import Image

MAX_MORE_BYTES = 450 << 20
"""The decoder's own copy of 49 million pixels takes 196 MB; with all others it used to be 2,000 MB."""


@contextmanager
def peak_of(pid: int) -> Iterator[list[int]]:
    """The resident bytes of a process: before, and the most while the block runs."""
    process, is_over = psutil.Process(pid), threading.Event()
    seen = [process.memory_info().rss] * 2

    def watch() -> None:
        while not is_over.wait(0.004):
            seen[1] = max(seen[1], process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield seen
    finally:
        is_over.set()
        watching.join()


@pytest.mark.parametrize(("kind", "mode", "side"), [("PNG", "RGBA", 7000), ("WEBP", "RGB", 4400)])
async def test_two_large_uploads_at_once_take_a_bounded_part_of_memory(new_studio, kind, mode, side):
    studio = await new_studio(workers=0)
    file = io.BytesIO()
    options = {"compress_level": 1} if kind == "PNG" else {"method": 0}
    Image.new(mode, (side, side), (200, 30, 60, 120)[: len(mode)]).save(file, kind, **options)
    files = {"file": ("a", file.getvalue())}
    warm = await studio.http.post("/api/media", files={"file": ("a", b"no picture")})
    assert warm.status_code == 415
    began = time.perf_counter()
    with peak_of(studio.api.pid) as seen:
        answers = await asyncio.gather(*(studio.http.post("/api/media", files=files) for _ in range(2)))
    print(f"{kind}: {seen[0] >> 20} MB before, {seen[1] >> 20} MB at most, {time.perf_counter() - began:.1f} s")
    assert [answer.status_code for answer in answers] == [201, 201]
    assert (answers[0].json()["width"], answers[0].json()["height"]) == (side, side)
    assert seen[1] - seen[0] < MAX_MORE_BYTES
    thumbnail = await studio.http.get(answers[0].json()["thumbnail_url"])
    shown = Image.open(io.BytesIO(thumbnail.content))
    assert shown.size == (512, 512)
    expected = (229, 149, 163) if mode == "RGBA" else (200, 30, 60)
    assert all(abs(a - b) < 8 for a, b in zip(shown.convert("RGB").getpixel((256, 256)), expected, strict=True))
