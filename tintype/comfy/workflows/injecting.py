"""From a request to a graph that a server can run: values go in as data, what is not used is taken out.

A request becomes one or more runs (`runs_of`), its pictures go up first (`pictures_of`), and each run is one graph
(`inject`). Nothing is ever put together as text.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tintype import errors
from tintype.comfy.workflows import choosing
from tintype.comfy.workflows.graphs import Graph
from tintype.comfy.workflows.installed import Workflow
from tintype.comfy.workflows.schema import Bindings, ControlSlot, Input, LoraSlot, Target
from tintype.errors import FieldError
from tintype.providers.contract import Control, GenerationRequest, ModelFiles

Pixels = NDArray[np.uint8]
PREFIX_INPUT = "filename_prefix"
WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")


class ValueInvalidError(errors.InvalidRequestError):
    """A value does not fit the workflow's input."""

    code = "workflow_value_invalid"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the graph: `count` pictures from picture `index` on, all drawn from `seed`."""

    index: int
    count: int
    seed: int


def runs_of(workflow: Workflow, request: GenerationRequest) -> tuple[Run, ...]:
    """How a request is run: as one batch where the graph takes a number of pictures, else once for each seed."""
    if workflow.bindings.get("num_images") is not None:
        return (Run(index=0, count=len(request.seeds), seed=request.seeds[0]),)
    return tuple(Run(index=index, count=1, seed=seed) for index, seed in enumerate(request.seeds))


def pictures_of(workflow: Workflow, request: GenerationRequest) -> dict[str, Pixels]:
    """The pictures to upload before a run, by the key under which `inject` wants the name the server gave each.

    uint8 [height, width, 3], or [height, width, 4] where the node reads a mask from the transparency: what is to be
    drawn anew is transparent.
    """
    found: dict[str, Pixels] = {}
    for given in workflow.bindings.inputs:
        if given.type == "controls":
            found |= {key: control.pixels for key, _, control in _controls(given, request) if control is not None}
        if given.type not in ("picture", "mask") or (pixels := _pixels(given, request)) is None:
            continue
        if given.type == "picture":
            mask = _mask_beside(workflow.bindings, given, request)
            found[given.name] = pixels if mask is None else _with_mask(pixels, mask)
        elif not _shares_a_picture(workflow.bindings, given):
            found[given.name] = _as_picture(workflow.graph, given, pixels)
    return found


def inject(
    workflow: Workflow, request: GenerationRequest, run: Run, *, pictures: Mapping[str, str], prefix: str
) -> Graph:
    """The graph of one run: `pictures` are the server's names by key, `prefix` begins the names of what is saved.

    Raises:
        ValueInvalidError: a value is missing or does not fit; its field says which.
        graphs.NodeUnknownError, graphs.NodeAmbiguousError, graphs.GraphError: the bindings do not fit the graph.
    """
    graph = workflow.graph
    unused: list[str] = []
    for given in workflow.bindings.inputs:
        match given.type:
            case "loras":
                graph, rest = _with_loras(graph, given, request)
            case "controls":
                graph, rest = _with_controls(graph, given, request, pictures)
            case "picture" | "mask":
                graph, rest = _with_picture(graph, workflow.bindings, given, request, pictures)
            case _:
                graph, rest = _with_value(graph, given, request, run)
        unused += rest
    graph = _without(graph, workflow.bindings, unused)
    outputs = [graph.find(output.node).id for output in workflow.bindings.outputs]
    graph = graph.needed_for(outputs)
    _check_no_old_picture(graph, workflow, request)
    for node_id in outputs:
        if PREFIX_INPUT in graph.nodes[node_id].inputs:
            graph = graph.with_value(node_id, PREFIX_INPUT, prefix)
    return graph


def _with_value(graph: Graph, given: Input, request: GenerationRequest, run: Run) -> tuple[Graph, list[str]]:
    value = _value(given, request, run)
    if value is None:
        if given.required:
            raise _invalid(given, "is required; send it")
        return graph, []
    if given.type == "model" and value == choosing.NONE and given.without:
        return graph, list(given.without)
    if wrong := given.fault(value):
        raise _invalid(given, wrong)
    if given.type in ("integer", "seed"):
        value = int(cast("float", value))
    elif given.type == "number":
        value = float(cast("float", value))
    return _written(graph, given.to, value), []


def _value(given: Input, request: GenerationRequest, run: Run) -> object:
    """What the request says for an input; None where it says nothing and nothing is the default."""
    if not given.is_field:
        return request.options.get(given.name, given.default)
    frames, fps = getattr(request, "frames", 0), getattr(request, "fps", 0)
    computed = {
        "seed": run.seed,
        "num_images": run.count,
        "frames": frames or given.default,
        "fps": fps or given.default,
        "seconds": frames / fps if fps else given.default,
        "sampler": request.sampler or given.default,
    }
    return computed[given.name] if given.name in computed else getattr(request, given.name)


def _written(graph: Graph, targets: Sequence[Target], value: object) -> Graph:
    for target in targets:
        graph = graph.with_value(graph.find(target.node).id, target.input, value)
    return graph


def _with_picture(
    graph: Graph, bindings: Bindings, given: Input, request: GenerationRequest, names: Mapping[str, str]
) -> tuple[Graph, list[str]]:
    if _pixels(given, request) is None:
        if given.required:
            raise _invalid(given, "is required; send a picture")
        if given.type == "mask" and _shares_a_picture(bindings, given):
            return graph, list(given.without)
        return graph, [*given.without, *(target.node for target in given.to)]
    if given.type == "mask" and _shares_a_picture(bindings, given):
        return graph, []
    return _written(graph, given.to, names[given.name]), []


def _check_no_old_picture(graph: Graph, workflow: Workflow, request: GenerationRequest) -> None:
    """Refuse a run in which a node would load what the workflow's author once put there.

    Raises:
        ValueInvalidError: a picture was left out that the graph cannot do without.
    """
    for given in workflow.bindings.inputs:
        if given.type not in ("picture", "mask") or _pixels(given, request) is not None:
            continue
        is_beside = given.type == "mask" and _shares_a_picture(workflow.bindings, given)
        if not is_beside and any(workflow.graph.find(target.node).id in graph.nodes for target in given.to):
            raise _invalid(given, "is required; send a picture")


def _with_loras(graph: Graph, given: Input, request: GenerationRequest) -> tuple[Graph, list[str]]:
    slots = [slot for slot in given.slots if isinstance(slot, LoraSlot)]
    if len(request.loras) > len(slots):
        raise _invalid(given, f"are {len(request.loras)}; this workflow takes at most {len(slots)}")
    for slot, lora in zip(slots, request.loras, strict=False):
        node_id = graph.find(slot.node).id
        graph = graph.with_value(node_id, slot.name, file_of(lora.model))
        for name in slot.weights:
            graph = graph.with_value(node_id, name, float(lora.weight))
    return graph, [slot.node for slot in slots[len(request.loras) :]]


def _with_controls(
    graph: Graph, given: Input, request: GenerationRequest, names: Mapping[str, str]
) -> tuple[Graph, list[str]]:
    unused: list[str] = []
    placed = 0
    for key, slot, control in _controls(given, request):
        if control is None:
            unused += [*slot.without, slot.image.node]
            continue
        placed += 1
        unused += slot.drawn_by if control.is_ready else ()
        graph = _written(graph, [slot.image], names[key])
        for target, value in ((slot.strength, control.strength), (slot.start, control.start), (slot.end, control.end)):
            if target is not None:
                graph = _written(graph, [target], float(value))
    if placed < len(request.controls):
        offered = ", ".join(slot.type for slot in given.slots if isinstance(slot, ControlSlot))
        raise _invalid(given, f"are more than this workflow takes; it takes {offered}, each once")
    return graph, unused


def _controls(given: Input, request: GenerationRequest) -> Iterator[tuple[str, ControlSlot, Control | None]]:
    """Each slot with its key and the control picture that goes there: the first of its type that is left."""
    left = list(request.controls)
    for index, slot in enumerate(given.slots):
        if isinstance(slot, ControlSlot):
            fitting = next((at for at, control in enumerate(left) if control.type == slot.type), None)
            yield f"{given.name}.{index}", slot, None if fitting is None else left.pop(fitting)


def _without(graph: Graph, bindings: Bindings, unused: Sequence[str]) -> Graph:
    """The graph without these nodes, as far as the bindings say how to do without them."""
    for name in dict.fromkeys(unused):
        if name in bindings.bypass:
            graph = graph.without(graph.find(name).id, bindings.bypass[name])
    return graph


def file_of(model: ModelFiles) -> str:
    """What a model of the catalogue is called in ComfyUI's folders: the name of its weights file."""
    folder = Path(model.folder) if model.folder else None
    files = sorted(path.name for path in folder.iterdir() if path.suffix in WEIGHTS) if folder else []
    return files[0] if files else f"{model.id}.safetensors"


def _pixels(given: Input, request: GenerationRequest) -> Pixels | None:
    """The picture that the request has for an input."""
    if not given.is_field:
        pixels = cast("Pixels | None", request.options.get(given.name))
        return pixels[..., 0] if pixels is not None and given.type == "mask" and pixels.ndim == 3 else pixels
    name = "source" if given.name == "image" else given.name
    return getattr(request, name, None)


def _shares_a_picture(bindings: Bindings, mask: Input) -> bool:
    """Whether a mask goes into the same input as a picture, and so travels in its transparency."""
    return any(one.type == "picture" and set(one.to) & set(mask.to) for one in bindings.inputs)


def _mask_beside(bindings: Bindings, picture: Input, request: GenerationRequest) -> Pixels | None:
    masks = (one for one in bindings.inputs if one.type == "mask" and set(one.to) & set(picture.to))
    found = next(masks, None)
    return None if found is None else _pixels(found, request)


def _with_mask(pixels: Pixels, mask: Pixels) -> Pixels:
    """The picture, transparent where it is to be drawn anew, which is how ComfyUI's nodes read a mask."""
    return np.dstack([pixels, 255 - mask])


def _as_picture(graph: Graph, given: Input, mask: Pixels) -> Pixels:
    """A mask as the node that loads it reads one: from the transparency, or from the colours of `LoadImageMask`."""
    node = graph.find(given.to[0].node)
    grey = np.repeat(mask[..., None], 3, axis=2)
    by_colour = node.class_type == "LoadImageMask" and node.inputs.get("channel") != "alpha"
    return grey if by_colour else _with_mask(grey, mask)


def _invalid(given: Input, wrong: str) -> ValueInvalidError:
    place: tuple[Any, ...] = ("body", given.name) if given.is_field else ("body", "options", given.name)
    detail = f"{given.label or given.name}: {wrong}"
    return ValueInvalidError(detail, fields=(FieldError(loc=place, msg=wrong),))
