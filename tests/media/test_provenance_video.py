"""Videos leave labelled as pictures do: the manifest holds, the mark survives compression, nothing is imagined."""

import io
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
import pytest

from tests.media.test_video_encoding import moving
from tests.videos import frames_of, png
from tintype import settings
from tintype.media.provenance import gate, inspect
from tintype.media.provenance.manifest import Facts, Ingredient


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> gate.Issuer:
    return gate.open(tmp_path_factory.mktemp("home"), settings.Provenance())


@lru_cache(maxsize=4)
def footage(side: int) -> np.ndarray:
    return moving(24, side, side)


def sealed(issuer: gate.Issuer, frames: np.ndarray, kind: str = "mp4", **more: list[Ingredient]) -> bytes:
    return gate.seal_video(frames, 24, kind, None, Facts(model="m"), issuer, **more)


def compressed(frames: np.ndarray, crf: int) -> bytes:
    """The frames as another program would compress them."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"crf": str(crf)})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["mp4", "webp", "gif"])
def test_a_manifest_holds_and_one_changed_byte_of_the_frames_breaks_it(issuer, kind):
    data = sealed(issuer, moving(), kind)
    assert inspect.inspect(data, inspect.Trust()).manifest.state == "untrusted"
    damaged = bytearray(data)
    damaged[len(data) * 2 // 3] ^= 1
    assert inspect.inspect(bytes(damaged), inspect.Trust()).manifest.state in ("invalid", "unreadable")


def test_the_picture_it_was_made_from_is_in_its_manifest(issuer):
    parent = Ingredient(data=png((200, 0, 0)), content_type="image/png", relation="parentOf")
    found = inspect.inspect(sealed(issuer, footage(256), ingredients=[parent]), inspect.Trust())
    assert [part.relation for part in found.manifest.parts] == ["parentOf"]
    assert found.mark.state == "edited"


@pytest.mark.parametrize("side", [256, 512])
@pytest.mark.parametrize("crf", [None, 23, 28])
def test_the_mark_survives_our_compression_and_a_platforms_after_it(issuer, side, crf):
    data = sealed(issuer, footage(side))
    found = inspect.inspect(compressed(frames_of(data), crf) if crf else data, inspect.Trust())
    assert found.mark.state == "created", found.mark.score
    assert found.is_labelled


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_the_mark_survives_in_animations(issuer, kind):
    assert inspect.inspect(sealed(issuer, footage(256), kind), inspect.Trust()).mark.state == "created"


def test_no_mark_is_found_where_none_was_put():
    found = inspect.inspect(compressed(footage(512), 23), inspect.Trust())
    assert (found.content_type, found.mark.state, found.is_labelled) == ("video/mp4", "absent", False)
    assert found.manifest.state == "absent"


def test_a_small_video_says_why_no_mark_is_looked_for(issuer):
    found = inspect.inspect(sealed(issuer, moving()), inspect.Trust())
    assert found.mark.state == "not_looked_for"
    assert "smaller" in (found.mark.reason or "")


@pytest.mark.parametrize("garbage", [b"\0\0\0\x18ftypisom", b"\0\0\0\x18ftypmp42" + bytes(5000), b"GIF89a" + bytes(40)])
def test_what_is_hardly_a_video_is_looked_at_without_harm(garbage):
    found = inspect.inspect(garbage, inspect.Trust())
    assert (found.is_labelled, found.mark.state) == (False, "not_looked_for")
