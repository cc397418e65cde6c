"""How the person at the terminal, or the system, ends a command that runs a studio."""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopping:
    """SIGINT, SIGTERM and SIGHUP, each raised as KeyboardInterrupt where the command is, until it begins to close.

    From then on nothing is raised: what has to end does end. A Ctrl-C after the first signal, or while closing, only
    says that it `is_urgent`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.is_urgent = False
        self._is_closing = False

    def listen(self) -> None:
        """Hear the signals of this process from now on; a SIGHUP that `nohup` silenced stays silent."""
        self._is_closing = False
        for number in SIGNALS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._hear)

    @property
    def status(self) -> int:
        """The exit status of a command that a signal ended, as shells count."""
        return 0 if self.signal is None else 128 + self.signal

    @contextmanager
    def closing(self, close: Callable[[], None]) -> Generator[None]:
        """Whatever ends the block, `close` runs and is not interrupted."""
        try:
            try:
                yield
            finally:
                self._is_closing = True
        finally:
            close()

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and (self._is_closing or self.signal is not None):
            self.is_urgent = True
        self.signal = self.signal or number
        if not self._is_closing:
            raise KeyboardInterrupt
