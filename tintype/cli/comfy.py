"""`tintype comfy`: ComfyUI on this machine."""

import typer

from tintype.cli import comfy_up

app = typer.Typer(help="ComfyUI: a second engine.", no_args_is_help=True)


@app.callback()
def comfy() -> None:
    """ComfyUI: a second engine."""


app.command("up")(comfy_up.up)
