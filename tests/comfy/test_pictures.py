"""Pictures to and from a server: the same pixels are the same file, and what comes back is read with care."""

import io

import numpy as np
import pytest
from PIL import Image

from tintype.comfy import pictures
from tintype.comfy.jobs import Job
from tintype.comfy.pictures import ResultUnreadableError

PIXELS = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_pixels_come_back_as_they_went_and_the_same_ones_are_the_same_bytes():
    assert pictures.encode(PIXELS) == pictures.encode(PIXELS.copy())
    colours, alpha = pictures.decode(pictures.encode(PIXELS), "a.png")
    assert (colours == PIXELS).all()
    assert alpha is None


def test_transparency_is_told_apart_and_shown_on_white():
    both = np.dstack([PIXELS, np.full((8, 6), 255, np.uint8)])
    assert pictures.decode(pictures.encode(both), "a.png")[1] is None, "all of it is opaque"
    both[0, 0, 3] = 0
    colours, alpha = pictures.decode(pictures.encode(both), "a.png")
    assert alpha[0, 0] == 0
    shown = pictures.over_white(colours, alpha)
    assert shown[0, 0].tolist() == [255, 255, 255]
    assert (shown[1:] == PIXELS[1:]).all()


def test_what_is_no_picture_or_too_large_is_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    whole = pictures.encode(PIXELS)
    for data in (b"", b"GIF89a", b"<html>", whole[:40], file_of(Image.new("RGB", (8, 8)), "BMP")):
        with pytest.raises(ResultUnreadableError, match=r"a\.png"):
            pictures.decode(data, "a.png")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 47)
    with pytest.raises(ResultUnreadableError, match="6 × 8 pixels"):
        pictures.decode(whole, "a.png")


def test_all_of_a_job_follows_from_its_token():
    job = Job.new("http://127.0.0.1:8188/sub path", runs=3)
    again = Job.parse(job.token)
    assert again == job
    assert again.tickets() == job.tickets()
    assert len({ticket.prompt_id for ticket in job.tickets()} | {ticket.client_id for ticket in job.tickets()}) == 6
    assert job.prefix("r", 0).startswith("tintype/r/0-")
    assert job.prefix("r", 0) != Job.new(job.server, runs=3).prefix("r", 0)
