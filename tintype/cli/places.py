"""Where the parts of a studio on this machine are found: its database, and the address of a running one."""

import json
from dataclasses import dataclass
from pathlib import Path

import httpx

from tintype import errors, settings
from tintype.db import embedded


class NotRunningError(errors.SetupError):
    """No studio runs on this machine."""

    code = "not_running"


@dataclass(frozen=True, kw_only=True)
class Running:
    """A running studio."""

    address: str
    pid: int


def database_url(home: Path) -> str:
    """The database in use: `DATABASE_URL`, else the embedded server of a running studio.

    Raises:
        NotRunningError: neither is there.
    """
    configured = settings.load(settings.Database).url
    if configured is not None:
        return configured.get_secret_value()
    data = home / "postgres"
    if not embedded.is_running(data):
        raise NotRunningError(
            "no database: start the studio with `tintype up`, or set DATABASE_URL to a PostgreSQL of your own"
        )
    return embedded.url(data)


def running_file(home: Path) -> Path:
    """The file in which a running studio says where it is."""
    return home / "studio.json"


def running(home: Path) -> Running | None:
    """The studio that runs on this data folder and answers, if any."""
    try:
        found = json.loads(running_file(home).read_text())
        studio = Running(address=str(found["address"]), pid=int(found["pid"]))
        httpx.get(f"{studio.address}/health", timeout=5).raise_for_status()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return studio
