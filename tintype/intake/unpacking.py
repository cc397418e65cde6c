"""Takes a video apart, in a confined process: `python -I -m tintype.intake.unpacking '{"source": 5, …}'`.

Source and target are open files, given by their numbers: nothing here opens a path, and neither does FFmpeg, to which
the source is an object to read from. It is told which reader to use and allowed that one alone. What it finds is one
line of JSON; the frames themselves go into the target, uint8 RGB one after the other.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any

Found = tuple[Iterator[Any], Callable[[], float]]
"""The frames, uint8 RGB [height, width, 3], and how many are shown a second, known once they are taken."""

UNSAID_MS = 100
"""How long a frame of a GIF or WebP is shown that does not say."""


class TooLargeError(Exception):
    """A limit is passed; its words are one of `frames`, `pixels a side` and `bytes`."""


def main() -> None:
    """Do what the first argument says; exit code 1 where the source cannot be read."""
    asked = json.loads(sys.argv[1])
    with os.fdopen(asked["source"], "rb") as source, os.fdopen(asked["target"], "wb") as target:
        try:
            said = unpack(source, target, asked)
        except TooLargeError as error:
            said = {"too_large": str(error)}
    sys.stdout.write(json.dumps(said))


def unpack(source: IO[bytes], target: IO[bytes], asked: dict[str, Any]) -> dict[str, Any]:
    """Write the frames of `source` to `target`; how many, how large and how fast they are."""
    frames, fps = _animation(source) if asked["reader"] == "picture" else _video(source, asked)
    height = width = count = 0
    for pixels in frames:
        if count == asked["most_frames"]:
            if asked["may_be_longer"]:
                break
            raise TooLargeError("frames")
        if not count:
            height, width = pixels.shape[:2]
        if max(height, width) > asked["max_side"]:
            raise TooLargeError("pixels a side")
        if (count + 1) * pixels.size > asked["max_bytes"]:
            raise TooLargeError("bytes")
        if pixels.shape != (height, width, 3):
            raise SystemExit(1)
        target.write(pixels.tobytes())
        count += 1
    if not count:
        raise SystemExit(1)
    return {"frames": count, "height": height, "width": width, "fps": fps()}


def _video(source: IO[bytes], asked: dict[str, Any]) -> Found:
    import av

    # Not what this says is refused: another reader, another codec, references to other files.
    only = {"protocol_whitelist": "", "format_whitelist": asked["names"], "codec_whitelist": asked["codecs"]}
    if asked["reader"] == "mov":
        only |= {"enable_drefs": "0", "use_absolute_path": "0"}
    container = av.open(source, "r", format=asked["reader"], container_options=only)
    stream = container.streams.video[0]
    if max(stream.width, stream.height) > asked["max_side"]:
        raise TooLargeError("pixels a side")
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise SystemExit(1)
    stream.thread_count = 2
    return (frame.to_ndarray(format="rgb24") for frame in container.decode(stream)), lambda: float(rate)


def _animation(source: IO[bytes]) -> Found:
    """A GIF or WebP; each frame is shown for as long as all are on average."""
    import numpy as np
    from PIL import Image, ImageSequence

    image = Image.open(source, formats=("GIF", "WEBP"))
    shown_ms: list[float] = []

    def frames() -> Iterator[Any]:
        for frame in ImageSequence.Iterator(image):
            pixels = np.asarray(frame.convert("RGB"))
            shown_ms.append(float(frame.info.get("duration") or UNSAID_MS))
            yield pixels

    return frames(), lambda: 1000 * len(shown_ms) / sum(shown_ms)


if __name__ == "__main__":
    main()
