"""The bindings file of a workflow: which values of a request go where in its graph, what it needs and what it gives.

A node is named by its title or its id. An input that has the name of a field of a request takes that field's value;
every other name is an entry of `options`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from tintype import errors

MAX_BYTES = 1 << 20
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
NodeName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Type = Literal[
    "text", "integer", "number", "boolean", "choice", "seed", "picture", "mask", "model", "loras", "controls"
]
ControlType = Literal["canny", "depth", "pose", "scribble", "tile"]
Default = str | int | float | bool

FIELDS: Mapping[str, tuple[Type, ...]] = {
    "prompt": ("text",),
    "negative_prompt": ("text",),
    "width": ("integer",),
    "height": ("integer",),
    "seed": ("seed",),
    "steps": ("integer",),
    "guidance_scale": ("number",),
    "sampler": ("choice",),
    "strength": ("number",),
    "scale": ("integer", "number"),
    "num_images": ("integer",),
    "frames": ("integer",),
    "fps": ("integer", "number"),
    "seconds": ("number",),
    "image": ("picture",),
    "mask": ("mask",),
    "last_image": ("picture",),
    "style_image": ("picture",),
    "loras": ("loras",),
    "controls": ("controls",),
}
"""The names that are fields of a request, and the types an input of that name may have."""

NUMBERS: tuple[Type, ...] = ("integer", "number")


class BindingsError(errors.SetupError):
    """A workflow's bindings are not valid."""

    code = "workflow_invalid"


class Value(BaseModel):
    """A frozen part of a bindings file; unknown keys are mistakes, and no value is taken for another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Target(Value):
    """Where a value goes: an input of a node."""

    node: NodeName
    input: NodeName


class LoraSlot(Value):
    """A node that takes one LoRA: its inputs for the file's name and for how strongly it acts."""

    node: NodeName
    name: NodeName = "lora_name"
    weights: tuple[NodeName, ...] = ("strength_model", "strength_clip")

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every input it writes to."""
        return tuple(Target(node=self.node, input=name) for name in (self.name, *self.weights))


class ControlSlot(Value):
    """Where a control picture of one `type` goes, and where its strength and its start and end go."""

    type: ControlType
    image: Target
    strength: Target | None = None
    start: Target | None = None
    end: Target | None = None
    without: tuple[NodeName, ...] = Field(default=(), description="Nodes taken out where no such picture comes.")
    drawn_by: tuple[NodeName, ...] = Field(
        default=(), description="Nodes that draw it from a photograph, taken out where it is a drawing already."
    )

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every input it writes to."""
        return tuple(one for one in (self.image, self.strength, self.start, self.end) if one is not None)


class Input(Value):
    """One value that comes from a request.

    `default` holds where a request says nothing; without one the graph's own value stays. A `picture` or `mask` that
    is not `required` may be left out: then the nodes in `without` are taken out as `bypass` says, and so they are where
    a `model` is "none". `folder` is the one of ComfyUI's model folders that a `model` lies in.
    """

    name: Name
    type: Type
    to: tuple[Target, ...] = ()
    slots: tuple[LoraSlot | ControlSlot, ...] = ()
    label: str = Field(default="", max_length=80)
    help: str = Field(default="", max_length=500)
    default: Default | None = None
    min: float | None = None
    max: float | None = None
    step: float | None = Field(default=None, gt=0)
    max_chars: int | None = Field(default=None, ge=1)
    choices: tuple[Default, ...] = ()
    folder: str | None = None
    required: bool = False
    without: tuple[NodeName, ...] = ()

    @property
    def is_field(self) -> bool:
        """Whether it takes its value from a field of the request, and not from its options."""
        return self.name in FIELDS

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every input of the graph that it writes to."""
        return (*self.to, *(target for slot in self.slots for target in slot.targets))

    @model_validator(mode="after")
    def _is_of_one_piece(self) -> Self:
        if problem := next(self._problems(), None):
            raise ValueError(f"input {self.name!r} {problem}")
        return self

    def _problems(self) -> Iterator[str]:
        if self.type not in FIELDS.get(self.name, (self.type,)):
            yield f"is a field of every request and of type {' or '.join(FIELDS[self.name])}, not {self.type}"
        if self.type in ("loras", "controls"):
            fitting = [slot for slot in self.slots if isinstance(slot, LoraSlot) == (self.type == "loras")]
            if not self.slots or self.to or len(fitting) < len(self.slots):
                yield f"of type {self.type} needs `slots` of its kind and no `to`"
        elif self.slots or not self.to:
            yield "needs `to`, a list of {node, input}, and no `slots`"
        if (self.type == "choice") != bool(self.choices):
            yield "needs `choices`" if self.type == "choice" else f"has `choices`, which type {self.type} does not take"
        if self.type not in NUMBERS and any(one is not None for one in (self.min, self.max, self.step)):
            yield f"has `min`, `max` or `step`, which type {self.type} does not take"
        if self.min is not None and self.max is not None and self.min > self.max:
            yield "has a `min` above its `max`"
        if self.type == "model" and self.folder is None:
            yield "needs `folder`, the one of ComfyUI's model folders that its file lies in"
        if self.default is not None and (wrong := self.fault(self.default)):
            yield f"has a `default` that {wrong}"

    def fault(self, value: object) -> str | None:
        """What is wrong with a value for this input, as the end of a sentence; None where it fits."""
        if not _is_of_type(value, self.type):
            article = "an" if self.type[0] in "aio" else "a"
            return f"is not of type {self.type}; send {article} {self.type}"
        if isinstance(value, str) and self.max_chars is not None and len(value) > self.max_chars:
            return f"has {len(value)} characters; send at most {self.max_chars}"
        if self.choices and value not in self.choices:
            return f"is {value!r}; send one of {', '.join(map(repr, self.choices))}"
        if self.type in NUMBERS and isinstance(value, int | float):
            if self.min is not None and value < self.min:
                return f"is {value}; send {self.min:g} or more"
            if self.max is not None and value > self.max:
                return f"is {value}; send {self.max:g} or less"
        return None


class RequiredModel(Value):
    """A file that must lie in one of ComfyUI's model folders; `model` is its id in the catalogue, where it has one."""

    folder: str
    name: str
    model: str | None = None


class Requires(Value):
    """What a server must have: classes of nodes, and files of models."""

    nodes: tuple[str, ...] = ()
    models: tuple[RequiredModel, ...] = ()


class Output(Value):
    """A node that saves what was made."""

    node: NodeName
    kind: Literal["pictures", "videos"] = "pictures"


class Bindings(Value):
    """Everything a bindings file says.

    `bypass` names the nodes that can be taken out: for each output slot the node's own input that takes its place.
    """

    inputs: tuple[Input, ...]
    bypass: Mapping[str, Mapping[str, str]] = Field(default_factory=dict[str, Mapping[str, str]])
    requires: Requires = Requires()
    outputs: tuple[Output, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _says_everything_once(self) -> Self:
        if twice := [name for name, count in Counter(one.name for one in self.inputs).items() if count > 1]:
            raise ValueError(f"the inputs {', '.join(twice)} are there twice; give each its own name")
        written = Counter((one.node, one.input) for given in self.inputs for one in given.targets)
        shared = self._picture_and_mask()
        for (node, name), count in written.items():
            if count > 1 and (node, name) not in shared:
                raise ValueError(f"{name!r} of node {node!r} is written to by more than one input; keep one of them")
        for name, slots in self.bypass.items():
            if strange := [slot for slot in slots if not slot.isdecimal()]:
                raise ValueError(f"bypass of {name!r} names the output slot {strange[0]!r}; slots are numbers from 0")
        return self

    def _picture_and_mask(self) -> frozenset[tuple[str, str]]:
        """Where picture and mask share a node: they go up as one picture, the mask in its transparency."""
        places = [
            {(one.node, one.input) for given in self.inputs if given.type == kind for one in given.to}
            for kind in ("picture", "mask")
        ]
        return frozenset(places[0] & places[1])

    def get(self, name: str) -> Input | None:
        """The input of this name, if there is one."""
        return next((one for one in self.inputs if one.name == name), None)


def _is_of_type(value: object, kind: Type) -> bool:
    if isinstance(value, bool):
        return kind in ("boolean", "choice")
    match kind:
        case "integer" | "seed":
            return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, int | float)
        case "boolean":
            return False
        case "choice":
            return isinstance(value, str | int | float)
        case _:
            return isinstance(value, str)


def read(path: Path) -> Bindings:
    """The bindings in the file `path`.

    Raises:
        BindingsError: it is missing, too large, not JSON, or breaks a rule; the message says which.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BindingsError(f"{path} has more than {MAX_BYTES:,} bytes; bindings are smaller")
        return parse(path.read_bytes(), where=str(path))
    except OSError as error:
        raise BindingsError(f"{path} cannot be read: {error.strerror}") from error


def parse(data: bytes | str, *, where: str) -> Bindings:
    """The bindings in JSON; `where` names it in messages.

    Raises:
        BindingsError: as `read`.
    """
    try:
        return Bindings.model_validate_json(data)
    except ValidationError as error:
        problems = "; ".join(_said(dict(one)) for one in error.errors(include_url=False))
        raise BindingsError(f"{where}: {problems}") from error


def _said(problem: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or "bindings"
    return f"{place}: {str(problem['msg']).removeprefix('Value error, ')}"
