"""`tintype comfy`: ComfyUI on this machine."""

import typer

from tintype.cli import comfy_add, comfy_up, comfy_workflows

app = typer.Typer(help="ComfyUI: a second engine.", no_args_is_help=True)


@app.callback()
def comfy() -> None:
    """ComfyUI: a second engine."""


app.command("up")(comfy_up.up)
app.command("add")(comfy_add.add)
app.command("check")(comfy_workflows.check)
app.command("list")(comfy_workflows.list_workflows)
app.command("remove")(comfy_workflows.remove)
