"""What people read of the shipped workflows: a README beside each, and one page with a table of all."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from scripts.workflows import controls, files, films, stills, transformers
from scripts.workflows.files import File
from scripts.workflows.recipes import CHECKED, Recipe
from tintype.catalog import styles
from tintype.comfy.workflows import checking

CORE = "ComfyUI"
REPOSITORIES = {
    CORE: ("https://github.com/comfyanonymous/ComfyUI", "GPL-3.0"),
    "ComfyUI-AnimateDiff-Evolved": ("https://github.com/Kosinkadink/ComfyUI-AnimateDiff-Evolved", "Apache-2.0"),
    "comfyui_controlnet_aux": ("https://github.com/Fannovel16/comfyui_controlnet_aux", "Apache-2.0"),
}


def recipes() -> tuple[Recipe, ...]:
    """Every shipped workflow, in the order of the page."""
    return (*stills.recipes(), *controls.recipes(), *transformers.recipes(), *films.recipes())


def package_of(kind: str) -> str:
    """The package that a class of nodes comes from."""
    return checking.package_of(kind) or CORE


def packages(recipe: Recipe) -> list[str]:
    """The packages that a workflow needs, ComfyUI first."""
    found = {package_of(node["class_type"]) for node in recipe.draft.graph.values()}
    return sorted(found, key=lambda name: (name != CORE, name.lower()))


def readme(recipe: Recipe) -> str:
    """The README of a workflow's folder."""
    parts = (
        (f"# {recipe.name}", "", recipe.purpose),
        ("", "## Inputs", "", *_inputs(recipe)),
        ("", "## Nodes", "", *_nodes(recipe)),
        ("", "## Models", "", *_models(recipe)),
        ("", "## Known limits", "", *(f"- {line}" for line in recipe.known_limits)),
        ("", "## Checked", "", f"{recipe.checked.capitalize()}: {CHECKED[recipe.checked]}."),
    )
    return "\n".join(line for part in parts for line in part) + "\n"


def _inputs(recipe: Recipe) -> Iterator[str]:
    yield "Those in italics are options of this workflow; the others are fields of every request."
    yield ""
    yield "| input | what | default | goes to |"
    yield "| --- | --- | --- | --- |"
    options = recipe.manifest().get("options", {}).get("properties", {})
    for given in recipe.draft.bindings()["inputs"]:
        name = given["name"]
        shown = f"*{name}*" if name in options else name
        said = given.get("label", "") or FIELDS[name]
        more = " ".join(text for text in (f"{said}.", given.get("help", "")) if text)
        said = f"{more}{_range(given)}".replace("|", "\\|")
        yield f"| {shown} | {said} | {_default(recipe, given)} | {_targets(given)} |"


FIELDS = {
    "prompt": "What to draw",
    "negative_prompt": "What to avoid",
    "image": "The picture that comes in",
    "mask": "Where to draw: white is drawn anew, black stays",
    "controls": "Pictures that steer where things go, each with strength, start and end",
    "strength": "How much of the picture is drawn anew",
    "width": "Pixels",
    "height": "Pixels",
    "frames": "How many frames",
    "fps": "Frames a second",
    "seed": "What chance begins with",
    "steps": "Steps of the sampler",
    "guidance_scale": "How closely the words are followed",
    "sampler": "How steps are taken",
    "loras": "LoRAs of the catalogue with weights",
}
DEFAULTS = {"width": "width", "height": "height", "steps": "steps", "guidance_scale": "guidance_scale"}


def _range(given: Mapping[str, Any]) -> str:
    if given.get("choices"):
        return " One of " + ", ".join(f"`{choice}`" for choice in given["choices"]) + "."
    if "min" in given:
        return f" {given['min']:g} to {given['max']:g}."
    if "slots" in given:
        kinds = [slot["type"] for slot in given["slots"] if "type" in slot]
        return f" One each of {', '.join(kinds)}." if kinds else f" Up to {len(given['slots'])}."
    return ""


def _default(recipe: Recipe, given: Mapping[str, Any]) -> str:
    name = given["name"]
    value = given.get("default", recipe.defaults.get(name, (recipe.length or {}).get(name, "")))
    return f"`{value}`" if value != "" else ""


def _targets(given: Mapping[str, Any]) -> str:
    if "slots" in given:
        return ", ".join(slot["node"] if "node" in slot else slot["image"]["node"] for slot in given["slots"])
    return ", ".join(dict.fromkeys(target["node"] for target in given["to"]))


def _nodes(recipe: Recipe) -> Iterator[str]:
    yield "| node | class | package |"
    yield "| --- | --- | --- |"
    for node in recipe.draft.graph.values():
        kind = node["class_type"]
        yield f"| {node['_meta']['title']} | `{kind}` | {package_of(kind)} |"
    yield ""
    for name in packages(recipe):
        address, licence = REPOSITORIES[name]
        yield f"- [{name}]({address}): {licence}"


def _models(recipe: Recipe) -> Iterator[str]:
    yield "Names are relative to ComfyUI's folder of models. A file of the same name elsewhere in the folder will do."
    yield "The page of a model has the last word on its licence."
    yield ""
    yield from _table(recipe.draft.files)


def _table(needed: Iterable[File]) -> Iterator[str]:
    yield "| file | size | from | licence | commercial use |"
    yield "| --- | --- | --- | --- | --- |"
    for file in needed:
        source = file.source.removeprefix("https://huggingface.co/")
        note = f" ({file.note})" if file.note else ""
        gated = ", gated" if file.licence.gated else ""
        yield (
            f"| `{file.folder}/{file.name}` | {file.gigabytes:g} GB | [{source}]({file.source}){note} | "
            f"[{file.licence.id}]({file.licence.url}){gated} | {file.licence.commercial} |"
        )


def table() -> str:
    """The page `docs/workflows-shipped.md`."""
    parts = (*INTRODUCTION, *_all_of_them(), *_styles_part(), "", "## What they need", "", *_table(_all_files()))
    return "\n".join(parts) + "\n"


INTRODUCTION = (
    "# Shipped ComfyUI workflows",
    "",
    "Where ComfyUI is configured, each of these is a model: choose it as `model` in a request or in the studio. Each",
    "has a folder in `tintype/catalog/workflows` with its graph, its bindings and a README that names every node and",
    "model. Workflows of SD 1.5 and of SDXL share no model, LoRA or ControlNet.",
    "",
    "The folders and this page are written by `scripts/write_workflows.py` from the pieces in `scripts/workflows`;",
    "change those, run it, and a test holds the result to them. Sizes of files are rounded, and licences are named as",
    "far as they were known when this was written: the page of a model has the last word.",
    "",
)


def _all_of_them() -> Iterator[str]:
    yield "| model | what it does | task | size | nodes beside ComfyUI's | models | checked |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for recipe in recipes():
        link = f"[{recipe.id}](../tintype/catalog/workflows/{recipe.id}/README.md)"
        needs = sum(file.gigabytes for file in recipe.draft.files)
        size = f"{recipe.defaults['width']} × {recipe.defaults['height']}" if recipe.defaults else "any"
        if recipe.length:
            size += f", {recipe.length['frames']} frames"
        others = ", ".join(packages(recipe)[1:])
        count = len(recipe.draft.files)
        yield (
            f"| {link} | {recipe.description} | {', '.join(recipe.tasks)} | {size} | {others} | "
            f"{needs:.1f} GB in {count} file{'s' if count > 1 else ''} | {recipe.checked} |"
        )
    yield ""
    yield from (f"- *{name}*: {meaning}." for name, meaning in CHECKED.items())
    yield ""
    yield "That server took every graph with all values of the smallest and of the largest request. What they draw with"
    yield "their real weights nobody has seen here."


def _styles_part() -> Iterator[str]:
    yield from ("", "## Styles", "")
    yield "A style adds words for the family. For workflows whose checkpoint can be chosen it also sets what suits the"
    yield "style, unless the request does: of the files named, the first that the server has."
    yield ""
    yield "| style | family | checkpoint | LoRA | sampler | steps | guidance |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for style in styles.styles().values():
        for family, part in style.families.items():
            if part.run is None:
                continue
            run = part.run
            checkpoint, lora = (str(run.options.get(name, "none")) for name in ("checkpoint", "style_lora"))
            schedule = run.options.get("scheduler", "")
            shown = (checkpoint.replace(" | ", ", else "), lora.replace(" | ", ", else "))
            yield (
                f"| {style.id} | {family} | {shown[0]} | {shown[1]} | {run.sampler} {schedule} | {run.steps} | "
                f"{run.guidance_scale:g} |"
            )


def _all_files() -> tuple[File, ...]:
    found = dict.fromkeys(file for recipe in recipes() for file in recipe.draft.files)
    return tuple(sorted((*found, *files.OF_STYLES), key=lambda file: (file.folder, file.name.lower())))
