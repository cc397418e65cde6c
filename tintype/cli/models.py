"""`tintype models`: the installed models."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tintype import errors, settings
from tintype.catalog import operations as catalog
from tintype.cli.terminal import out, say

app = typer.Typer(help="The installed models.", no_args_is_help=True)


class ModelDamagedError(errors.TintypeError):
    """A model's files are not as its manifest says."""

    code = "model_damaged"


def _home() -> Path:
    """The data folder; a misspelt setting, which could have meant another, is refused first."""
    settings.check_names()
    return settings.home()


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the installed models."""
    models = catalog.installed(_home()).values()
    if as_json:
        say(json.dumps([model.manifest.model_dump(mode="json") for model in models]))
        return
    table = Table("model", "what it is", "tasks", "licence", "on disk")
    for model in models:
        manifest = model.manifest
        size = f"{manifest.disk_bytes / 1e6:.1f} MB"
        table.add_row(model.id, manifest.description, ", ".join(manifest.tasks), manifest.licence.id, size)
    out.print(table)


@app.command()
def show(model_id: Annotated[str, typer.Argument(help="A model of `tintype models list`.")]) -> None:
    """Show everything the catalogue knows about one model."""
    model = catalog.Catalogue(_home()).get(model_id)
    out.print_json(model.manifest.model_dump_json())


@app.command()
def verify(model_id: Annotated[str, typer.Argument(help="A model of `tintype models list`.")]) -> None:
    """Compare a model's files with its manifest."""
    model = catalog.Catalogue(_home()).get(model_id)
    problems = catalog.verify(model)
    if problems:
        raise ModelDamagedError("; ".join(f"{problem.path} {problem.problem}" for problem in problems))
    say(f"{model_id}: all {len(model.manifest.files)} files are as the manifest says")
