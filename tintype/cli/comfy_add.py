"""`tintype comfy add`: a workflow exported from ComfyUI, or a picture made with one, becomes a model."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.prompt import Prompt
from rich.table import Table

from tintype import errors, settings
from tintype.catalog import manifest
from tintype.catalog import operations as catalog
from tintype.cli import comfy_nodes
from tintype.cli.terminal import err, out, say_plainly
from tintype.comfy.workflows import adding, graphs, proposing, schema
from tintype.comfy.workflows.adding import Answers
from tintype.comfy.workflows.graphs import Graph
from tintype.comfy.workflows.node_types import NodeType
from tintype.comfy.workflows.proposing import Proposal
from tintype.media import recall
from tintype.media.provenance import inspect

SUGGESTED, ALL = "suggested", "all"


class FileUnreadableError(errors.TintypeError):
    """The workflow cannot be read."""

    code = "file_unreadable"


class LimitInvalidError(errors.InvalidRequestError):
    """A limit is not written as one."""

    code = "limit_invalid"


def add(
    file: Annotated[Path, typer.Argument(help="A workflow exported with Export (API), or a picture made with one.")],
    model_id: Annotated[str | None, typer.Option("--id", help="What requests call it; default: from its name.")] = None,
    name: Annotated[str | None, typer.Option(help="What people read; default: from the file's name.")] = None,
    description: Annotated[str, typer.Option(help="What it is for, in a sentence.")] = "",
    accept: Annotated[
        list[str] | None, typer.Option(help="An input to keep, again and again; `suggested` or `all` for many.")
    ] = None,
    limit: Annotated[list[str] | None, typer.Option(help="Least and most of a number, such as steps=1:50.")] = None,
    family: Annotated[str, typer.Option(help="The family of its model, which decides what LoRAs fit.")] = "comfyui",
    scale: Annotated[int | None, typer.Option(min=2, max=8, help="How many times an upscaler enlarges.")] = None,
    licence: Annotated[str, typer.Option(help="The licence of its models, where you know it.")] = "unknown",
    depicts_person: Annotated[
        bool, typer.Option("--depicts-person", help="A model in it was trained on one person.")
    ] = False,
    server: Annotated[str | None, typer.Option(help="The ComfyUI to check it against; default: COMFYUI_URL.")] = None,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Ask no server what it has.")] = False,
) -> None:
    """Make a model of a ComfyUI workflow: it is checked, and appears in the studio and in every API."""
    settings.check_names()
    graph = _graph_in(file)
    asked = () if unchecked else comfy_nodes.urls(server)
    types = comfy_nodes.types_of(asked[0]) if asked else None
    proposal = proposing.propose(graph, types)
    answers = _ask(file, proposal, model_id, name, accept, limit)
    answers = Answers(
        id=answers.id,
        name=answers.name,
        keep=answers.keep,
        limits=answers.limits,
        description=description,
        family=family,
        scale=scale,
        licence=licence,
        depicts_person=depicts_person,
    )
    folder = install(proposal, answers, types)
    say_plainly(f"added {answers.id}: {folder}")
    if types is None:
        err.print("not checked against a server; set COMFYUI_URL and run `tintype comfy check` before it is used")


def install(proposal: Proposal, answers: Answers, types: dict[str, NodeType] | None) -> Path:
    """Check a workflow and put it among the models; its folder.

    Raises:
        errors.TintypeError: it may not or cannot run, an answer does not fit, or a model of its id is there.
    """
    addition = adding.prepare(proposal, answers, types)
    manifest.parse(addition.manifest, where=answers.id)
    home = settings.home()
    return adding.write(addition, home / "models", taken=catalog.installed(home))


def _graph_in(file: Path) -> Graph:
    """The workflow in a file: exported JSON, or what ComfyUI wrote into a picture."""
    try:
        if file.stat().st_size > inspect.LIMITS.max_bytes:
            raise FileUnreadableError(f"{file} has {file.stat().st_size:,} bytes; nothing that large is a workflow")
        data = file.read_bytes()
    except OSError as error:
        raise FileUnreadableError(f"{file} cannot be read: {error.strerror}") from error
    if inspect.type_of(data) is None:
        return graphs.read(data)
    found = recall.recall(data)
    graph = found.settings.graph if isinstance(found, recall.RecalledSettings) else None
    if graph is None:
        raise graphs.GraphError(f"{file} carries no ComfyUI workflow; give the file that Export (API) writes")
    return graphs.parse(dict(graph))


def _ask(
    file: Path,
    proposal: Proposal,
    model_id: str | None,
    name: str | None,
    accept: list[str] | None,
    limit: list[str] | None,
) -> Answers:
    """The answers that flags give, and for the rest those of the person, or what is usual where nobody sits there."""
    asks = sys.stdin.isatty()
    usual = file.stem.replace("_", " ").replace("-", " ").strip().capitalize() or "Workflow"
    if name is None:
        name = Prompt.ask("name", default=usual, console=err) if asks else usual
    if model_id is None:
        slug = adding.slug_of(name)
        model_id = Prompt.ask("id, as requests name it", default=slug, console=err) if asks else slug
    if accept is None:
        out.print(_table(proposal))
        question = f"inputs to keep, with commas between, or {SUGGESTED} or {ALL}"
        accept = [Prompt.ask(question, default=SUGGESTED, console=err)] if asks else [SUGGESTED]
    keep = _kept(proposal, accept)
    limits = dict(_limit(text) for text in limit or ())
    if asks and limit is None:
        limits = _ask_limits(proposal, keep)
    return Answers(id=model_id, name=name, keep=keep, limits=limits)


def _table(proposal: Proposal) -> Table:
    table = Table("input", "type", "now", "limits", "goes to", "")
    for one in proposal.inputs:
        limits = "" if one.given.min is None or one.given.max is None else f"{one.given.min:g} to {one.given.max:g}"
        now = str(one.present if one.present is not None else "")[:40]
        table.add_row(
            one.given.name, one.given.type, now, limits, one.where[:60], SUGGESTED if one.is_suggested else ""
        )
    return table


def _kept(proposal: Proposal, accept: list[str]) -> list[str]:
    names = [name.strip() for text in accept for name in text.split(",") if name.strip()]
    many = {SUGGESTED: proposal.names(suggested=True), ALL: proposal.names()}
    return list(dict.fromkeys(one for name in names for one in many.get(name, (name,))))


def _ask_limits(proposal: Proposal, keep: list[str]) -> dict[str, tuple[float, float]]:
    limits: dict[str, tuple[float, float]] = {}
    for one in proposal.inputs:
        given = one.given
        if given.name not in keep or given.type not in schema.NUMBERS or given.min is None or given.max is None:
            continue
        usual = f"{given.min:g}:{given.max:g}"
        said = Prompt.ask(f"least and most of {given.name}", default=usual, console=err)
        if said != usual:
            limits |= [_limit(f"{given.name}={said}")]
    return limits


def _limit(text: str) -> tuple[str, tuple[float, float]]:
    name, _, both = text.partition("=")
    least, _, most = both.partition(":")
    try:
        return name.strip(), (float(least), float(most))
    except ValueError as error:
        raise LimitInvalidError(f"{text!r} is no limit; write one as steps=1:50") from error
