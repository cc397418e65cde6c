"""`tintype up`: the whole studio in this terminal, until Ctrl-C."""

import itertools
import sys
import time
from typing import Annotated

import typer

from tintype import errors, logs, settings
from tintype.cli import generate
from tintype.cli.client import Client
from tintype.cli.stopping import Stopping
from tintype.cli.studio import Studio
from tintype.cli.terminal import err, say, say_error, say_plainly

WATCH_S = 0.5
TURNS_A_LOOK = 10


def up(
    prompt: Annotated[str | None, typer.Option(help="Draw this as soon as the studio is ready.")] = None,
) -> None:
    """Start database, API and one worker, and keep them running until Ctrl-C; a second Ctrl-C does not wait."""
    home = settings.home()
    logs.configure(settings.load(settings.Logs), process="up")
    stopping = Stopping()
    stopping.listen()
    studio = Studio(home, stopping)
    try:
        with studio.running(lambda text: err.print(f"[dim]{text} …[/]")):
            _serve(studio, prompt)
    except KeyboardInterrupt:
        if stopping.is_urgent or not studio.is_announced:
            sys.exit(stopping.status)


def _serve(studio: Studio, prompt: str | None) -> None:
    if prompt:
        _draw(studio, prompt)
    say(f"Tintype is ready: [bold]{studio.address}[/]   (data in {studio.home}; Ctrl-C stops it)")
    told: set[str] = set()
    for turn in itertools.count():
        studio.watch()
        if turn % TURNS_A_LOOK == 0:
            for problem in set(studio.problems()) - told:
                say_error(problem)
                told.add(problem)
        time.sleep(WATCH_S)


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
