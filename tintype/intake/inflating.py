"""Archives read forwards, and no more of them than is allowed."""

import zlib
from typing import IO

from tintype.errors import InvalidRequestError

CHUNK_BYTES = 1 << 16
# The longest header tarfile may ask for at once: names and attributes of one file.
MAX_READ_BYTES = 1 << 20


class InflatesTooFarError(InvalidRequestError):
    """The archive unpacks to more than is allowed; send less at a time."""

    status = 413
    code = "archive_too_large"


class Inflated:
    """What a gzip file holds: one or several streams one after another, counted as it comes out."""

    def __init__(self, file: IO[bytes], *, max_bytes: int) -> None:
        self._file = file
        self._left = max_bytes
        self._stream = zlib.decompressobj(wbits=31)
        self._input = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end.

        Raises:
            zlib.error, EOFError: the stream is damaged or cut off.
            InflatesTooFarError: more has come out than is allowed.
        """
        while True:
            if self._stream.eof:
                rest = self._stream.unused_data or self._file.read(CHUNK_BYTES)
                if not rest.startswith(b"\x1f"):  # padding, as tapes have it, or the end
                    return b""
                self._stream, self._input = zlib.decompressobj(wbits=31), rest
            given = self._input or self._file.read(CHUNK_BYTES)
            if not given and not self._stream.eof:
                raise EOFError("the archive is cut off")
            found = self._stream.decompress(given, size)
            self._input = self._stream.unconsumed_tail
            if found:
                self._left -= len(found)
                if self._left < 0:
                    raise InflatesTooFarError
                return found


class Forwards:
    """`file` for tarfile: seeks forwards by reading, and refuses a header that would fill the memory."""

    def __init__(self, file: IO[bytes] | Inflated) -> None:
        self._file = file
        self._at = 0
        self.last = b""

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only at the end."""
        if not 0 <= size <= MAX_READ_BYTES:
            raise InflatesTooFarError("The archive has a header too long to be true; make it anew as a plain .zip.")
        parts = bytearray()
        while len(parts) < size:
            part = self._file.read(size - len(parts))
            if not part:
                break
            parts += part
        self._at += len(parts)
        self.last = bytes(parts)
        return self.last

    def seekable(self) -> bool:
        """Forwards it is."""
        return True

    def tell(self) -> int:
        """How far it was read."""
        return self._at

    def seek(self, to: int) -> int:
        """Go on to `to`; never back."""
        if to < self._at:
            raise ValueError("a tar that points backwards")
        while self._at < to:
            if not self.read(min(CHUNK_BYTES, to - self._at)):
                break
        return self._at
