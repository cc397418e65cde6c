"""The settings in a ComfyUI graph, as well as a graph of any shape can be said to have them.

A graph maps ids to `{"class_type": ..., "inputs": {...}}`; an input is a value or a link `[id, output]`. The
base sampler is found first; each setting is then the nearest input of a telling name upstream of the
sampler's input that it belongs to. That covers KSampler, KSamplerAdvanced, Flux's SamplerCustomAdvanced and
custom nodes that keep to these names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

MAX_NODES = 5000
SAMPLER_INPUTS = frozenset(("seed", "noise_seed", "sampler_name", "sampler", "steps", "noise", "sigmas"))
LATENTS = ("latent_image", "samples")
TEXTS = ("text", "t5xxl", "clip_l", "text_g", "positive", "prompt", "string", "value")

Inputs = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    """Values by the names of `GenerationSettings`, of any kind; LoRAs as (name, weight)."""

    values: dict[str, object]
    loras: list[tuple[object, object]]


def read(graph: dict[str, object]) -> GraphSettings | None:
    """The settings of the base pass; None when no node samples."""
    nodes = {id_: inputs for id_, node in list(graph.items())[:MAX_NODES] if (inputs := _inputs(node))}
    sampler = _base_sampler(nodes)
    if sampler is None:
        return None
    inputs = nodes[sampler]
    guided = "guider" if "guider" in inputs else ""
    values: dict[str, object] = {
        "seed": _nearest(nodes, inputs, ("seed", "noise_seed", "noise"), ("seed", "noise_seed", "value")),
        "steps": _nearest(nodes, inputs, ("steps", "sigmas"), ("steps", "value")),
        "guidance_scale": _nearest(nodes, inputs, ("cfg", guided), ("cfg", "guidance", "value")),
        "sampler": _nearest(nodes, inputs, ("sampler_name", "sampler"), ("sampler_name",)),
        "prompt": _prompt(nodes, inputs, guided, ("positive", "conditioning")),
        "negative_prompt": _prompt(nodes, inputs, guided, ("negative",)),
        "model": _nearest(nodes, inputs, ("model", guided), ("ckpt_name", "unet_name", "model_name")),
        "width": _nearest(nodes, inputs, LATENTS, ("width",)),
        "height": _nearest(nodes, inputs, LATENTS, ("height",)),
    }
    return GraphSettings(values=values, loras=list(_loras(nodes, inputs, ("model", guided))))


def is_whole(graph: dict[str, object]) -> bool:
    """Whether it is a graph through and through, such as ComfyUI could run."""
    nodes = [cast(Inputs, node) if isinstance(node, dict) else {} for node in graph.values()]
    return 0 < len(nodes) <= MAX_NODES and all(isinstance(node.get("class_type"), str) for node in nodes)


def _inputs(node: object) -> Inputs:
    inputs = cast(Inputs, node).get("inputs") if isinstance(node, dict) else None
    return cast(Inputs, inputs) if isinstance(inputs, dict) else {}


def _base_sampler(nodes: dict[str, Inputs]) -> str | None:
    """The first node that samples and has none that samples behind its latent image."""
    samplers = [id_ for id_, inputs in nodes.items() if _samples(inputs)]
    for id_ in samplers:
        behind = _upstream(nodes, [nodes[id_].get(name) for name in LATENTS])
        if not any(_samples(inputs) for inputs in behind):
            return id_
    return samplers[0] if samplers else None


def _samples(inputs: Inputs) -> bool:
    return _link(inputs.get("latent_image")) is not None and len(SAMPLER_INPUTS & inputs.keys()) >= 2


def _link(value: object) -> str | None:
    parts = cast(list[object], value) if isinstance(value, list) else []
    return parts[0] if len(parts) == 2 and isinstance(parts[0], str) else None


def _upstream(nodes: dict[str, Inputs], starts: list[object]) -> Iterator[Inputs]:
    """The inputs of every node behind these links, nearest first, each once."""
    waiting, seen = [id_ for id_ in map(_link, starts) if id_ is not None], set[str]()
    while waiting:
        following: list[str] = []
        for id_ in waiting:
            if id_ in seen or id_ not in nodes:
                continue
            seen.add(id_)
            yield nodes[id_]
            following += [link for value in nodes[id_].values() if (link := _link(value)) is not None]
        waiting = following


def _nearest(nodes: dict[str, Inputs], inputs: Inputs, starts: tuple[str, ...], names: tuple[str, ...]) -> object:
    """The sampler's own value under one of `starts`, else the nearest under one of `names` behind it."""
    for start in starts:
        value = inputs.get(start)
        if isinstance(value, str | int | float):
            return value
    for behind in _upstream(nodes, [inputs.get(start) for start in starts]):
        for name in names:
            value = behind.get(name)
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                return value
    return None


def _prompt(nodes: dict[str, Inputs], inputs: Inputs, guided: str, names: tuple[str, ...]) -> object:
    """The nearest text behind the sampler's (or its guider's) conditioning."""
    holder = nodes.get(_link(inputs.get(guided)) or "", {}) if guided else inputs
    for behind in _upstream(nodes, [holder.get(name) for name in names]):
        for name in TEXTS:
            if isinstance(behind.get(name), str):
                return behind[name]
    return None


def _loras(nodes: dict[str, Inputs], inputs: Inputs, starts: tuple[str, ...]) -> Iterator[tuple[object, object]]:
    for behind in _upstream(nodes, [inputs.get(start) for start in starts]):
        if isinstance(behind.get("lora_name"), str):
            yield behind["lora_name"], behind.get("strength_model", behind.get("strength"))
