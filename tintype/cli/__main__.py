"""Where `tintype` begins, also as `python -m tintype.cli`."""

import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line; a Ctrl-C while Python still imports it, most of a second, is no traceback."""
    before = signal.signal(signal.SIGINT, _leave)
    from tintype.cli import app

    try:
        signal.signal(signal.SIGINT, before)
        app.main()
    except KeyboardInterrupt:  # in the moments around the command itself
        _leave()


def _leave(_signal: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
    os.write(2, b"stopped\n")
    os._exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
