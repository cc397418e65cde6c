"""Pictures made of far too many parts: small files that keep a decoder busy for minutes, told before it starts.

A progressive JPEG may repeat scans without end, each a hundred bytes and a pass over all pixels: 7,000 x 7,000 grey
took 9 ms a scan, so 30 MB of them an hour. A PNG may hold millions of empty chunks, a JPEG of empty segments.
"""

import re
import struct

# Encoders write up to a dozen scans a progressive picture, and chunks or segments of 4 KiB and more.
MAX_SCANS = 100
MAX_SEGMENTS = 5_000
MAX_CHUNKS = 20_000
# Bytes between segments, which Pillow reads one by one.
MAX_FILLING_BYTES = 1 << 16
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
START_OF_SCAN, END_OF_IMAGE, WITHOUT_LENGTH = 0xDA, 0xD9, 0x01
# Behind a scan's start come pixels, in which FF is followed by 00 or is a restart; anything else ends the scan.
NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def are_too_many(data: bytes) -> bool:
    """Whether a PNG or JPEG file has more parts than any program writes; False for all else, sound or not."""
    if data.startswith(PNG):
        return _chunks_exceed(data)
    return data.startswith(JPEG) and _segments_exceed(data)


def _chunks_exceed(data: bytes) -> bool:
    at = len(PNG)
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            return False
        at += 12 + struct.unpack_from(">I", data, at)[0]
    return at + 12 <= len(data)


def _segments_exceed(data: bytes) -> bool:
    at, scans, filling = len(JPEG), 0, 0
    for _ in range(MAX_SEGMENTS):
        found = NEXT_MARKER.search(data, at)
        if found is None or data[found.start() + 1] == END_OF_IMAGE:
            return False
        filling += 0 if scans else found.start() - at
        scans += data[found.start() + 1] == START_OF_SCAN
        if scans > MAX_SCANS or filling > MAX_FILLING_BYTES:
            return True
        at = found.end()
        if data[at - 1] != WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
    return True
