"""What an exported workflow offers: which of its values a request could set, found by how the nodes are connected.

Prompts are the texts behind a sampler's positive and negative inputs, sizes lie behind its latent image, and so on. It
proposes and decides nothing: `adding` keeps what a person keeps.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tintype.comfy.workflows import forbidden, graphs, model_names, saving, tracing
from tintype.comfy.workflows.graphs import Graph, Node
from tintype.comfy.workflows.node_types import InputType, NodeTypes
from tintype.comfy.workflows.schema import Input, LoraSlot, Output, Target, Type

TEXTS = ("text", "text_g", "text_l", "clip_l", "t5xxl", "prompt", "string", "value")
SAMPLERS = ("euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_sde", "uni_pc", "ddim", "lcm")
SCHEDULERS = ("normal", "karras", "exponential", "sgm_uniform", "simple", "ddim_uniform", "beta")
"""Choices that every server has; where a server was asked, its own are offered."""

FILES = {
    "checkpoints": "checkpoint",
    "diffusion_models": "diffusion_model",
    "vae": "vae",
    "text_encoders": "text_encoder",
    "controlnet": "controlnet",
    "upscale_models": "upscaler",
    "loras": "lora",
    "animatediff_models": "motion_model",
}
SUGGESTED_FILES = ("checkpoint", "diffusion_model", "upscaler", "lora")
RESIZES = re.compile(r"scale|crop|pad|resize", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """An input that could be kept: what is there now, and whether most people would keep it."""

    given: Input
    present: Any
    is_suggested: bool

    @property
    def where(self) -> str:
        """Where its value goes, for a person."""
        return ", ".join(f"{target.input} of {target.node!r}" for target in self.given.targets)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Everything a workflow offers; `graph` has those nodes alone on which what it saves depends."""

    graph: Graph
    inputs: tuple[Proposed, ...]
    outputs: tuple[Output, ...]

    def names(self, *, suggested: bool = False) -> tuple[str, ...]:
        """The names of all inputs, or of those that are `suggested`."""
        return tuple(one.given.name for one in self.inputs if one.is_suggested or not suggested)


def propose(graph: Graph, types: NodeTypes | None = None) -> Proposal:
    """What a workflow offers; choices and limits come from a server's nodes where `types` has them.

    Raises:
        identity.IdentityTransferError: a part of it is made to put a person's face onto another picture.
        graphs.GraphError: nothing in it saves a picture or a video.
    """
    forbidden.refuse_names(graph)
    outputs = tuple(Output(node=_called(graph, node), kind=kind) for node, kind in saving.savers(graph, types))
    if not outputs:
        raise graphs.GraphError(
            "nothing in the workflow saves a picture or a video in a file; end it with `Save Image` or `Save Video` "
            "and export it again"
        )
    graph = graph.needed_for([graph.find(output.node).id for output in outputs])
    finder = _Finder(graph, types or {}, has_videos=any(output.kind == "videos" for output in outputs))
    return Proposal(graph=graph, inputs=tuple(_numbered(finder.all())), outputs=outputs)


def _numbered(found: Iterator[Proposed]) -> Iterator[Proposed]:
    """The inputs under names of their own; a place that one has is not proposed again, except for whole slots."""
    names, places = set[str](), set[tuple[str, str]]()
    for one in found:
        mine = {(target.node, target.input) for target in one.given.to}
        if mine & places and one.given.type != "mask":
            continue
        places |= mine
        name, number = one.given.name, 1
        while name in names:
            number += 1
            name = f"{one.given.name}_{number}"
        names.add(name)
        again = {} if number == 1 else {"name": name, "label": f"{one.given.label or one.given.name} {number}"}
        yield replace(one, given=one.given.model_copy(update=again), is_suggested=one.is_suggested)


def _called(graph: Graph, node: Node) -> str:
    """The node's title where it has one of its own that no other node has; else its id."""
    is_own = node.title != node.class_type and not node.title.isdecimal()
    return node.title if is_own and [one.title for one in graph.nodes.values()].count(node.title) == 1 else node.id


class _Finder:
    """Looks through one graph."""

    def __init__(self, graph: Graph, types: NodeTypes, *, has_videos: bool) -> None:
        self._graph = graph
        self._types = types
        self._has_videos = has_videos
        self._latents = self._behind_latents()

    def all(self) -> Iterator[Proposed]:
        """Every input, in the order in which a form shows them."""
        yield from self._texts()
        pictures = list(self._pictures())
        yield from pictures
        yield from self._sizes()
        yield from self._numbers(("steps",), "steps", "integer", least=1, most=100)
        yield from self._numbers(("cfg", "guidance"), "guidance_scale", "number", least=0, most=30)
        yield from self._choices("sampler_name", "sampler", SAMPLERS)
        yield from self._choices("scheduler", "scheduler", SCHEDULERS)
        if any(one.given.name == "image" for one in pictures):
            yield from self._numbers(("denoise",), "strength", "number", least=0, most=1)
        yield from self._seeds()
        yield from self._lengths()
        yield from self._files()

    def _behind_latents(self) -> list[Node]:
        found = [node for node in self._graph.nodes.values() if graphs.link_in(node.inputs.get("latent_image"))]
        behind = [one for node in found for one in tracing.behind(self._graph, node, "latent_image")]
        return list({node.id: node for node in behind}.values())

    def _texts(self) -> Iterator[Proposed]:
        drawn: list[Target] = []
        for name, starts in (("prompt", ("positive", "conditioning")), ("negative_prompt", ("negative",))):
            targets: list[Target] = []
            for sampler in tracing.samplers(self._graph):
                for start in starts:
                    targets += [one for one in self._nearest_text(sampler, start) if one not in (*targets, *drawn)]
            drawn += targets
            if targets:
                yield self._proposed(name, "text", targets)
        if not drawn:
            yield from self._lone_text()

    def _nearest_text(self, node: Node, start: str) -> list[Target]:
        for behind in tracing.behind(self._graph, node, start):
            if names := [name for name in TEXTS if isinstance(behind.inputs.get(name), str)]:
                return self._targets((behind, name) for name in names)
        return []

    def _lone_text(self) -> Iterator[Proposed]:
        """A prompt where no sampler shows which text is one: the only text that is called so."""
        names = ("prompt", "text", "positive")
        found = [(node, name) for node in self._graph.nodes.values() for name in names if _is_text(node, name)]
        if len(found) == 1:
            yield self._proposed("prompt", "text", self._targets(found))

    def _pictures(self) -> Iterator[Proposed]:
        loaders = [
            node for node in self._graph.nodes.values() if forbidden.loads_pictures(node) and _is_text(node, "image")
        ]
        for node in loaders:
            uses = list(self._graph.consumers(node.id))
            masks_only = node.class_type == "LoadImageMask" or (bool(uses) and all(slot == 1 for _, _, slot in uses))
            targets = self._targets([(node, "image")])
            if not masks_only:
                yield self._proposed(self._picture_name(node, len(loaders)), "picture", targets, required=True)
            if masks_only or any(slot == 1 for _, _, slot in uses):
                yield self._proposed("mask", "mask", targets, required=True)

    def _picture_name(self, node: Node, count: int) -> str:
        if any(name in ("end_image", "last_image") for _, name, _ in self._graph.consumers(node.id)):
            return "last_image"
        is_main = node.id in {one.id for one in self._latents} or not self._latents
        if is_main or (count == 1 and not self._steers(node)):
            return "image"
        words = re.sub(r"[^a-z0-9]+", "_", node.title.lower()).strip("_")[:30]
        is_own = node.title != node.class_type and words[:1].isalpha()
        return words if is_own else ("control_image" if self._steers(node) else "picture")

    def _steers(self, node: Node) -> bool:
        """Whether a picture goes to a ControlNet."""
        controlled = [one for one in self._graph.nodes.values() if graphs.link_in(one.inputs.get("control_net"))]
        return any(behind.id == node.id for one in controlled for behind in tracing.behind(self._graph, one, "image"))

    def _sizes(self) -> Iterator[Proposed]:
        sized = [node for node in self._latents if _is_whole(node, "width") and _is_whole(node, "height")]
        sized = [node for node in sized if not RESIZES.search(node.class_type)]
        for side in ("width", "height"):
            if sized:
                targets = self._targets((node, side) for node in sized)
                yield self._limited(side, "integer", targets, least=64, most=2048, step=8)

    def _numbers(
        self, names: Sequence[str], called: str, kind: Type, *, least: float, most: float
    ) -> Iterator[Proposed]:
        """Every number of one of these names; those that hold the same value are set together."""
        groups: dict[object, list[tuple[Node, str]]] = {}
        for node in self._graph.nodes.values():
            for name in names:
                value = node.inputs.get(name)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    groups.setdefault(value, []).append((node, name))
        for number, places in enumerate(groups.values()):
            proposed = self._limited(called, kind, self._targets(places), least=least, most=most)
            yield replace(proposed, is_suggested=number == 0)

    def _choices(self, name: str, called: str, usual: Sequence[str]) -> Iterator[Proposed]:
        places = [(node, name) for node in self._graph.nodes.values() if _is_text(node, name)]
        if not places:
            return
        kind = self._kind(*places[0])
        offered = [one for one in (kind.choices if kind and kind.choices else usual) if isinstance(one, str)]
        present = [str(node.inputs[name]) for node, _ in places]
        choices = tuple(dict.fromkeys([*offered, *present]))
        yield self._proposed(called, "choice", self._targets(places), choices=choices)

    def _seeds(self) -> Iterator[Proposed]:
        names = ("seed", "noise_seed")
        places = [(node, name) for node in self._graph.nodes.values() for name in names if _is_whole(node, name)]
        if places:
            yield self._proposed("seed", "seed", self._targets(places))

    def _lengths(self) -> Iterator[Proposed]:
        if not self._has_videos:
            return
        nodes = list(self._graph.nodes.values())
        places = [(node, name) for node in nodes for name in ("length", "video_frames") if _is_whole(node, name)]
        if not places and any(node.class_type.startswith("ADE_") for node in nodes):
            places = [(node, "batch_size") for node in self._latents if _is_whole(node, "batch_size")]
        if places:
            kind = self._kind(*places[0])
            step = 4 if kind is not None and kind.step == 4 else None
            yield self._limited("frames", "integer", self._targets(places), least=1, most=257, step=step)
        rates = [(node, name) for node in nodes for name in ("fps", "frame_rate") if _is_number(node, name)]
        if rates:
            yield self._limited("fps", "number", self._targets(rates), least=1, most=60)

    def _files(self) -> Iterator[Proposed]:
        slots: list[LoraSlot] = []
        for node in self._graph.nodes.values():
            for name, value in node.inputs.items():
                folder = model_names.folder_of(node.class_type, name)
                if not isinstance(value, str) or folder is None or value in model_names.BUILT_IN:
                    continue
                called = FILES.get(folder, "model")
                proposed = self._proposed(called, "model", self._targets([(node, name)]), folder=folder)
                yield replace(proposed, is_suggested=called in SUGGESTED_FILES)
                if folder == "loras":
                    weights = tuple(
                        one for one in ("strength_model", "strength_clip", "strength") if _is_number(node, one)
                    )
                    slots.append(LoraSlot(node=_called(self._graph, node), name=name, weights=weights))
                    if weights:
                        places = self._targets((node, one) for one in weights)
                        yield self._proposed("lora_strength", "number", places, min=-4.0, max=4.0)
        if slots:
            given = Input(name="loras", type="loras", slots=tuple(slots), label="LoRAs of the catalogue")
            yield Proposed(given=given, present=None, is_suggested=False)

    def _limited(
        self, name: str, kind: Type, targets: list[Target], *, least: float, most: float, step: float | None = None
    ) -> Proposed:
        """A number with limits that make sense, which the present value and the node's own limits widen or narrow."""
        proposed = self._proposed(name, kind, targets)
        node = self._graph.find(targets[0].node)
        known = self._kind(node, targets[0].input)
        low, high = min(least, proposed.present), max(most, proposed.present)
        if known is not None and known.min is not None:
            low = max(low, known.min)
        if known is not None and known.max is not None:
            high = min(high, known.max)
        limits = {"min": float(low), "max": float(high), "step": None if step is None else float(step)}
        return replace(proposed, given=proposed.given.model_copy(update=limits))

    def _proposed(self, name: str, kind: Type, targets: Sequence[Target], **more: Any) -> Proposed:
        node = self._graph.find(targets[0].node)
        label = name.replace("_", " ").capitalize()
        given = Input(name=name, type=kind, to=tuple(targets), label=label, **more)
        return Proposed(given=given, present=node.inputs[targets[0].input], is_suggested=True)

    def _targets(self, places: Any) -> list[Target]:
        return [Target(node=_called(self._graph, node), input=name) for node, name in places]

    def _kind(self, node: Node, name: str) -> InputType | None:
        return self._types[node.class_type].inputs.get(name) if node.class_type in self._types else None


def _is_text(node: Node, name: str) -> bool:
    return isinstance(node.inputs.get(name), str)


def _is_number(node: Node, name: str) -> bool:
    value = node.inputs.get(name)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(node: Node, name: str) -> bool:
    return _is_number(node, name) and isinstance(node.inputs[name], int)
