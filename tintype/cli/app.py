"""`tintype`: every command, and how errors reach the person at the terminal."""

import sys

import typer

from tintype import errors
from tintype.cli import comfy, doctor, generate, inspect, models, serve, up
from tintype.cli.stopping import SIGNALS
from tintype.cli.terminal import err, say_error

app = typer.Typer(
    name="tintype",
    help="A studio for generated images and video that you run yourself.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.command("up")(up.up)
app.command("generate")(generate.generate)
app.command("api")(serve.api)
app.command("worker")(serve.worker)
app.command("migrate")(serve.migrate)
app.command("doctor")(doctor.doctor)
app.command("inspect")(inspect.inspect)
app.add_typer(models.app, name="models")
app.add_typer(comfy.app, name="comfy")


def main() -> None:
    """Run the command line; a known fact is one clear line, not a traceback."""
    try:
        app()
    except errors.TintypeError as error:
        say_error(error.detail)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code in {128 + number for number in SIGNALS}:
            err.print("stopped")
        raise
