"""Which of several models a request takes: names with `|` between stand for the first that the server has."""

from collections.abc import Callable, Collection
from dataclasses import replace

from tintype.comfy.workflows import model_names
from tintype.comfy.workflows.installed import Workflow
from tintype.comfy.workflows.schema import Input
from tintype.providers.contract import GenerationRequest

NONE = "none"
"""No model at all: the nodes that would read it are taken out."""
OR = "|"


def choose(
    workflow: Workflow, request: GenerationRequest, listed: Callable[[str], Collection[str]]
) -> GenerationRequest:
    """The request with one model in place of several; `listed` gives the files in a folder of the server's models.

    Where the server has none of them the first stays, and the check that follows says that it is missing.
    """
    chosen = {
        given.name: _first(given, str(value), listed)
        for given in workflow.bindings.inputs
        if given.type == "model" and OR in str(value := request.options.get(given.name, ""))
    }
    return replace(request, options={**request.options, **chosen}) if chosen else request


def _first(given: Input, value: str, listed: Callable[[str], Collection[str]]) -> str:
    names = [name.strip() for name in value.split(OR)]
    files = list(listed(given.folder or ""))
    there = (name for name in names if name == NONE or model_names.resolve(name, files) is not None)
    return next(there, names[0])
