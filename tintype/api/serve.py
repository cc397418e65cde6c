"""Runs the API process."""

from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from tintype import errors, settings
from tintype.api import app as application

GRACE_S = 5
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


class PublicBindError(errors.SetupError):
    """The API listens on loopback addresses only until accounts exist."""

    code = "public_bind_refused"


def check_address(host: str) -> None:
    """Refuse an address that others could reach.

    Raises:
        PublicBindError: it is not a loopback address.
    """
    if host not in LOOPBACK_HOSTS:
        raise PublicBindError(
            f"TINTYPE_API_HOST={host}: whoever reaches the API can use it without an account, so it listens on "
            "127.0.0.1 only; leave the setting out, and reach it from elsewhere through an SSH tunnel"
        )


class Server(uvicorn.Server):
    """uvicorn, whose open event streams end when it is asked to stop."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on SIGINT and SIGTERM."""
        if (context := getattr(self._app.state, "context", None)) is not None:
            context.feed.closing.set()
        super().handle_exit(sig, frame)


def run(*, url: str, home: Path, api: settings.Api) -> None:
    """Serve until SIGTERM or SIGINT."""
    check_address(api.host)
    app = application.create(url=url, home=home, api=api)
    config = uvicorn.Config(
        app,
        host=api.host,
        port=api.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ws_max_size=1 << 20,
    )
    Server(config, app).run()
