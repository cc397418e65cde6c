"""Pictures with SD 1.5 and SDXL along the edges, depths and poses of others, alone and together."""

from collections.abc import Iterator
from typing import Any

from scripts.workflows import stills, unets
from scripts.workflows.drafts import Draft, Link, Node
from scripts.workflows.recipes import Recipe
from scripts.workflows.unets import Family, Words

KINDS = ("canny", "depth", "pose")
WHAT = {"canny": "edges", "depth": "depths", "pose": "poses"}
FETCHES = (
    "The first time it is used, the preprocessor of {what} fetches its estimator from the Hugging Face Hub; a server "
    "without a way there needs the file beforehand."
)
POSES = "The estimator finds bodies and hands; faces are left out."


def recipes() -> Iterator[Recipe]:
    """One workflow for each kind of control picture, and one for all of them together."""
    for family in unets.BOTH:
        for kind in KINDS:
            yield _recipe(family, (kind,))
        yield _recipe(family, KINDS)


def _recipe(family: Family, kinds: tuple[str, ...]) -> Recipe:
    draft = Draft()
    loaded = unets.load(draft, family)
    said = unets.words(draft, loaded.clip)
    latent = unets.canvas(draft, family.side)
    for kind in kinds:
        said = _steer(draft, family, kind, said, may_be_left_out=len(kinds) > 1)
    sampler = unets.sample(draft, family, loaded.model, said, latent)
    unets.save(draft, unets.show(draft, sampler[0], loaded.vae))
    what = " and ".join(WHAT[kind] for kind in kinds) if len(kinds) < 3 else "edges, depths and poses"
    ending = kinds[0] if len(kinds) == 1 else "controls"
    together = "" if len(kinds) == 1 else " Each may be left out: its nodes are then taken out of the graph."
    return Recipe(
        id=f"comfy-{family.slug}-{ending}",
        name=f"{family.name} in ComfyUI, along {what}",
        description=f"Pictures from words with {family.name} that keep the {what} of another picture.",
        purpose=f"Draws a picture that has the {what} of a photograph that is sent as a control.{together}",
        family=family.family,
        tasks=("text_to_image",),
        draft=draft,
        defaults=family.defaults,
        limits=family.limits,
        samplers=unets.SAMPLERS,
        features=(*stills.FEATURES, "controls"),
        controls=kinds,
        known_limits=(*_notes(kinds), stills.PEOPLE),
        checked="whole runs" if kinds == ("canny",) else "whole runs of drawings",
        examples=stills.EXAMPLES,
    )


def _notes(kinds: tuple[str, ...]) -> Iterator[str]:
    yield "Of a photograph the drawing is made here; what is a drawing already is used as it is (`is_ready`)."
    yield from (FETCHES.format(what=WHAT[kind]) for kind in kinds if kind != "canny")
    if "pose" in kinds:
        yield POSES
    if len(kinds) > 1:
        yield "Three ControlNets at once take their memory at once; strengths above 1.5 in sum stiffen."


def _steer(draft: Draft, family: Family, kind: str, said: Words, *, may_be_left_out: bool) -> Words:
    """What the prompts say, steered by one control picture."""
    word = kind.capitalize()
    picture = draft.add(f"{word} picture", "LoadImage", image=f"{kind}.png")
    network = draft.add(f"{word} ControlNet", "ControlNetLoader", control_net_name=draft.need(family.controlnets[kind]))
    drawing = _drawing(draft, family, kind, picture[0])
    apply = draft.add(
        *(f"Apply {kind}", "ControlNetApplyAdvanced"),
        positive=said.positive,
        negative=said.negative,
        control_net=network[0],
        image=drawing[0],
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    slot: dict[str, Any] = {"type": kind, "image": {"node": picture.title, "input": "image"}}
    for name, target in (("strength", "strength"), ("start", "start_percent"), ("end", "end_percent")):
        slot[name] = {"node": apply.title, "input": target}
    slot["drawn_by"] = [drawing.title]
    draft.bypass[drawing.title] = {"0": "image"}
    if may_be_left_out:
        slot["without"] = [apply.title]
        draft.bypass[apply.title] = {"0": "positive", "1": "negative"}
    draft.slot("controls", slot, required=True)
    return Words(positive=apply[0], negative=apply[1])


def _drawing(draft: Draft, family: Family, kind: str, picture: Link) -> Node:
    """Edges, depths or poses of a photograph."""
    if kind == "canny":
        return draft.add("Edges", "Canny", image=picture, low_threshold=0.2, high_threshold=0.5)
    if kind == "depth":
        estimator = "depth_anything_v2_vits.pth"
        return draft.add(
            "Depths", "DepthAnythingV2Preprocessor", image=picture, ckpt_name=estimator, resolution=family.side
        )
    return draft.add(
        *("Poses", "DWPreprocessor"),
        image=picture,
        detect_hand="enable",
        detect_body="enable",
        detect_face="disable",
        resolution=family.side,
        bbox_detector="yolox_l.onnx",
        pose_estimator="dw-ll_ucoco_384.onnx",
        scale_stick_for_xinsr_cn="enable" if family is unets.SDXL else "disable",
    )
