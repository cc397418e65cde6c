"""`tintype up`: the whole studio in this terminal, until Ctrl-C."""

import itertools
import signal
import threading
from types import FrameType
from typing import Annotated

import typer

from tintype import errors, logs, settings
from tintype.cli import generate
from tintype.cli.client import Client
from tintype.cli.studio import Studio
from tintype.cli.terminal import err, say, say_error, say_plainly

WATCH_S = 0.5
TURNS_A_LOOK = 10


def up(
    prompt: Annotated[str | None, typer.Option(help="Draw this as soon as the studio is ready.")] = None,
) -> None:
    """Start database, API and one worker, and keep them running until Ctrl-C."""
    home = settings.home()
    logs.configure(settings.load(settings.Logs), process="up")
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if not stopping.is_set():
            stopping.set()
            raise KeyboardInterrupt

    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, stop)
    studio = Studio(home)
    try:
        studio.start(lambda text: err.print(f"[dim]{text} …[/]"))
        if prompt:
            _draw(studio, prompt)
        say(f"Tintype is ready: [bold]{studio.address}[/]   (data in {home}; Ctrl-C stops it)")
        told: set[str] = set()
        for turn in itertools.count():
            studio.watch()
            if turn % TURNS_A_LOOK == 0:
                for problem in set(studio.problems()) - told:
                    say_error(problem)
                    told.add(problem)
            stopping.wait(WATCH_S)
    except KeyboardInterrupt:
        err.print("[dim]stopping …[/]")
    finally:
        stopping.set()
        studio.stop()


def _draw(studio: Studio, prompt: str) -> None:
    """Draw the first picture; when that fails the studio serves all the same."""
    client = Client(studio.address)
    err.print("drawing ", end="")
    err.print(prompt, markup=False, style="bold")
    try:
        finished = generate.show_progress(client, client.generate({"prompt": prompt}))
        for path in generate.save(client, finished, studio.home / "pictures"):
            say_plainly(f"picture: {path}")
    except errors.TintypeError as error:
        say_error(error.detail)
