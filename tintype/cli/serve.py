"""`tintype api`, `tintype worker`, `tintype migrate`: single parts, for the supervisor and for fleets."""

import asyncio
import os
import signal
import sys
import threading

from tintype import logs, settings
from tintype.cli import places
from tintype.cli.terminal import say


def api() -> None:
    """Serve the HTTP API in this terminal (part of `tintype up`)."""
    from tintype.api import serve

    home = settings.home()
    logs.configure(settings.load(settings.Logs), process="api")
    _end_with_supervisor()
    serve.run(url=places.database_url(home), home=home, api=settings.load(settings.Api))


def worker() -> None:
    """Run one worker: on this machine, or on any other with the DATABASE_URL and the storage of the studio."""
    import uvloop

    from tintype.worker import run

    home = settings.home()
    logs.configure(settings.load(settings.Logs), process="worker")
    _end_with_supervisor()
    uvloop.run(run.run(url=places.database_url(home), home=home))
    # All is given back and said. A thread may still be importing torch, and waiting for it would serve nobody.
    sys.stderr.flush()
    os._exit(0)


def migrate() -> None:
    """Bring the database's tables up to date."""
    from tintype.db import migrate as migrations

    url = places.database_url(settings.home())
    asyncio.run(migrations.upgrade(url))
    say(f"the database is at revision {migrations.head()}")


def _end_with_supervisor() -> None:
    if os.environ.get(settings.SUPERVISED) != "1":
        return

    def watch() -> None:
        while os.read(0, 1024):
            continue
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
