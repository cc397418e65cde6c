"""What this process signs pictures with, opened when a request first needs it."""

import asyncio
from pathlib import Path

from tintype import settings
from tintype.media.provenance import gate


class Issuing:
    """Opens `gate.Issuer` once, in a thread: it reads or makes a certificate and tries it; no start waits for that."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._turn = asyncio.Lock()
        self._issuer: gate.Issuer | None = None

    async def open(self) -> gate.Issuer:
        """What to sign with; after a failure the next call tries again.

        Raises:
            CertificateError, VisibleLabelError, SigningError: as `gate.open`.
        """
        async with self._turn:
            if self._issuer is None:
                self._issuer = await asyncio.to_thread(self._open)
            return self._issuer

    def _open(self) -> gate.Issuer:
        return gate.open(self._home, settings.load(settings.Provenance))
