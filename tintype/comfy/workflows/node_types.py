"""What a server says of its nodes in `/object_info`, of any version: their inputs, choices, limits and outputs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from tintype.comfy.workflows.graphs import Node

ANY = "*"
CHOICE = "COMBO"
NESTED = "COMFY_DYNAMICCOMBO_V3"
"""A choice that brings inputs of its own, called `choice.input`."""

GROUPS = "COMFY_"
"""How kinds begin that stand for several inputs or for any type; only the server knows their rules."""

VALUES = ("INT", "FLOAT", "STRING", "BOOLEAN", CHOICE, NESTED)


@dataclass(frozen=True, kw_only=True)
class InputType:
    """One input: `kind` is the type of its value, or of the link it takes. `choices` is None unless there are some.

    `is_upload` says that a file is uploaded there; `nested` are the inputs that each choice brings along.
    """

    kind: str
    is_required: bool
    choices: tuple[object, ...] | None = None
    min: float | None = None
    max: float | None = None
    step: float | None = None
    is_upload: bool = False
    takes_several: bool = False
    nested: Mapping[str, Mapping[str, "InputType"]] = field(default_factory=dict[str, Mapping[str, "InputType"]])

    @property
    def takes_value(self) -> bool:
        """Whether a value may stand there; anything else is linked."""
        return self.kind in VALUES or self.is_open

    @property
    def is_open(self) -> bool:
        """Whether only the server knows what may stand there."""
        return self.kind == ANY or (self.kind.startswith(GROUPS) and self.kind != NESTED)


@dataclass(frozen=True, kw_only=True)
class NodeType:
    """A class of nodes: its inputs by name and the type of each output."""

    name: str
    inputs: Mapping[str, InputType]
    outputs: tuple[str, ...]
    saves: bool

    def inputs_of(self, node: Node) -> dict[str, InputType]:
        """Its inputs, with those that the node's present choices bring along."""
        return dict(_opened(self.inputs, node, ""))


NodeTypes = Mapping[str, NodeType]


def read(object_info: Mapping[str, Any]) -> dict[str, NodeType]:
    """Every class of nodes in an answer to `/object_info`; what is malformed in one is left out of it."""
    return {name: _node_type(name, value) for name, value in object_info.items() if isinstance(value, dict)}


def _node_type(name: str, value: Mapping[str, Any]) -> NodeType:
    outputs = value.get("output")
    types = cast("list[object]", outputs) if isinstance(outputs, list) else []
    return NodeType(
        name=name,
        inputs=_inputs(value.get("input")),
        outputs=tuple(one if isinstance(one, str) else CHOICE for one in types),
        saves=value.get("output_node") is True,
    )


def _inputs(value: object) -> dict[str, InputType]:
    groups = cast("dict[str, object]", value) if isinstance(value, dict) else {}
    found: dict[str, InputType] = {}
    for group in ("required", "optional"):
        inputs = groups.get(group)
        for name, spec in cast("dict[str, object]", inputs).items() if isinstance(inputs, dict) else ():
            parts = cast("list[object] | tuple[object, ...]", spec) if isinstance(spec, list | tuple) else ()
            if parts:
                found[name] = _input(list(parts), is_required=group == "required")
    return found


def _input(spec: list[object], *, is_required: bool) -> InputType:
    said = cast("dict[str, Any]", spec[1]) if len(spec) > 1 and isinstance(spec[1], dict) else {}
    listed: Any = spec[0] if isinstance(spec[0], list) else said.get("options")
    kind = spec[0] if isinstance(spec[0], str) else CHOICE
    nested: dict[str, Mapping[str, InputType]] = {}
    choices: tuple[object, ...] | None = tuple(cast("list[object]", listed)) if isinstance(listed, list) else None
    if kind == NESTED and choices is not None:
        options = [cast("dict[str, Any]", one) for one in choices if isinstance(one, dict)]
        nested = {str(one.get("key")): _inputs(one.get("inputs")) for one in options}
        choices = tuple(nested)
    return InputType(
        kind=kind,
        is_required=is_required,
        choices=choices if kind in (CHOICE, NESTED) else None,
        min=_number(said.get("min")),
        max=_number(said.get("max")),
        step=_number(said.get("step")),
        is_upload=any(name.endswith("_upload") and value is True for name, value in said.items()),
        takes_several=said.get("multiselect") is True,
        nested=nested,
    )


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _opened(inputs: Mapping[str, InputType], node: Node, before: str) -> Iterator[tuple[str, InputType]]:
    for name, one in inputs.items():
        yield before + name, one
        chosen = node.inputs.get(before + name)
        if one.nested and isinstance(chosen, str) and chosen in one.nested:
            yield from _opened(one.nested[chosen], node, f"{before}{name}.")
