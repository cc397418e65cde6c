"""`tintype comfy check`, `list` and `remove`: the workflows that are installed."""

import json
import shutil
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from tintype import errors, settings
from tintype.catalog import operations as catalog
from tintype.catalog.operations import Model
from tintype.cli import comfy_nodes
from tintype.cli.terminal import out, say, say_plainly
from tintype.comfy.workflows import checking, forbidden, graphs, installed, schema
from tintype.comfy.workflows.node_types import NodeTypes


class WorkflowsUnfitError(errors.TintypeError):
    """Some workflows cannot run as things are."""

    code = "workflows_unfit"


class WorkflowUnknownError(errors.NotFoundError):
    """No workflow with this id is installed."""

    code = "workflow_unknown"


class ShippedError(errors.ConflictError):
    """What ships with Tintype is not removed."""

    code = "workflow_shipped"


def check(
    model_id: Annotated[list[str] | None, typer.Argument(help="Workflows to check; default: all.")] = None,
    server: Annotated[str | None, typer.Option(help="The ComfyUI to check against; default: COMFYUI_URL.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check every installed workflow against a running ComfyUI, or each of several."""
    urls = comfy_nodes.urls(server)
    if not urls:
        raise comfy_nodes.NoServerError("no ComfyUI is set up: set COMFYUI_URL, or name one with --server")
    chosen = [_workflow(name) for name in model_id] if model_id else _workflows()
    there = {url: comfy_nodes.types_of(url) for url in urls}
    found = {model.id: {url: problems_of(model, types) for url, types in there.items()} for model in chosen}
    if as_json:
        say_plainly(json.dumps(found))
    else:
        _show(found)
    unfit = [name for name, by_server in found.items() if all(by_server.values())]
    if unfit:
        raise WorkflowsUnfitError(f"{len(unfit)} of {len(found)} workflows cannot run: {', '.join(unfit)}")


def problems_of(model: Model, types: NodeTypes) -> list[str]:
    """All that keeps a workflow from running on a server with these nodes, in sentences."""
    try:
        workflow = installed.read(model.folder)
        problems = [problem.message for problem in checking.check(workflow, types)]
        if not checking.check(workflow):
            forbidden.refuse_workflow(workflow)
    except (schema.BindingsError, graphs.GraphError, errors.InvalidRequestError) as error:
        return [error.detail]
    return problems


def _show(found: dict[str, dict[str, list[str]]]) -> None:
    table = Table("workflow", "server", "result")
    for name, by_server in found.items():
        for url, problems in by_server.items():
            table.add_row(name, url, "can run" if not problems else f"{len(problems)} problems")
    out.print(table)
    for name, by_server in found.items():
        for url, problems in by_server.items():
            for problem in problems:
                say_plainly(f"{name} on {url}: {problem}" if len(by_server) > 1 else f"{name}: {problem}")


def list_workflows(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """List the installed workflows; those that ship with Tintype are there where COMFYUI_URL is set."""
    models = _workflows()
    if as_json:
        say_plainly(json.dumps([model.manifest.model_dump(mode="json") for model in models]))
        return
    table = Table("workflow", "what it is", "tasks", "takes", "from")
    for model in models:
        takes = [*(model.manifest.takes or ()), *model.manifest.options.get("properties", {})]
        where = "Tintype" if _is_shipped(model) else "you"
        table.add_row(model.id, model.manifest.name, ", ".join(model.manifest.tasks), ", ".join(takes), where)
    out.print(table)


def remove(
    model_id: Annotated[str, typer.Argument(help="A workflow of `tintype comfy list`.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a workflow that was added; pictures that it drew stay."""
    model = _workflow(model_id)
    if _is_shipped(model):
        raise ShippedError(f"{model_id!r} ships with Tintype; it is there only while COMFYUI_URL is set")
    if not yes:
        typer.confirm(f"remove {model.folder}?", abort=True)
    shutil.rmtree(model.folder)
    say(f"removed {model_id}")


def _workflows() -> Sequence[Model]:
    settings.check_names()
    return [model for model in catalog.installed(settings.home()).values() if model.manifest.loader == "comfy"]


def _workflow(model_id: str) -> Model:
    found = {model.id: model for model in _workflows()}
    if model_id not in found:
        raise WorkflowUnknownError(
            f"no workflow {model_id[:80]!r} is installed; there are {', '.join(found) or 'none'}"
        )
    return found[model_id]


def _is_shipped(model: Model) -> bool:
    return model.folder.is_relative_to(catalog.WORKFLOWS)
