"""How InvokeAI, SwarmUI, Fooocus, NovelAI and ComfyUI say what made a picture.

Each reader gives None when the file is not of its kind. The field names are those the tools write; a field
that is missing or of the wrong kind is unknown, never an error.
"""

import json
import re
from collections.abc import Iterator
from typing import cast

from tintype.media import comfy_graph, embedded, settings_text
from tintype.media.embedded import Embedded
from tintype.media.settings_text import GenerationSettings, Lora, real, whole

MAX_LORAS = 50
MAX_GRAPH_CHARS = 1 << 20
"""A ComfyUI graph is read up to here; the largest that people share have a tenth of it."""

RESOLUTION = re.compile(r"\(?(\d{1,5}), ?(\d{1,5})\)?")
Object = dict[str, object]


def read_invokeai(found: Embedded) -> GenerationSettings | None:
    """`invokeai_metadata` (version 3 on), or `sd-metadata` with the settings under `image` (before)."""
    data = _object(found.texts.get("invokeai_metadata"))
    if data is not None:
        model = _inner(data.get("model"))
        names = [_inner(row).get("model") or _inner(row).get("lora") for row in _rows(data.get("loras"))]
        weights = [_inner(row).get("weight") for row in _rows(data.get("loras"))]
        return build(
            "invokeai",
            data.get("app_version"),
            {
                "prompt": data.get("positive_prompt"),
                "negative_prompt": data.get("negative_prompt"),
                "steps": data.get("steps"),
                "sampler": data.get("scheduler"),
                "guidance_scale": data.get("cfg_scale"),
                "seed": data.get("seed"),
                "width": data.get("width"),
                "height": data.get("height"),
                "model": model.get("name") or model.get("model_name"),
                "model_hash": model.get("hash"),
            },
            pair_loras([_inner(name).get("name") or _inner(name).get("model_name") for name in names], weights),
        )
    data = _object(found.texts.get("sd-metadata"))
    image = _inner(data.get("image")) if data else {}
    if not data or not image:
        return None
    prompts = _rows(image.get("prompt"))
    prompt = _inner(prompts[0]).get("prompt") if prompts else image.get("prompt")
    fields: Object = {**image, "prompt": prompt, "guidance_scale": image.get("cfg_scale")}
    return build("invokeai", data.get("app_version"), fields | {"model": data.get("model_weights")})


def read_swarmui(found: Embedded) -> GenerationSettings | None:
    """JSON with `sui_image_params`, in `parameters` or the EXIF comment."""
    data = _parameters_object(found)
    if data is None or "sui_image_params" not in data:
        return None
    image = _inner(data["sui_image_params"])
    fields: Object = {
        **image,
        "negative_prompt": image.get("negativeprompt"),
        "guidance_scale": image.get("cfgscale"),
    }
    loras = pair_loras(_rows(image.get("loras")), _rows(image.get("loraweights")))
    return build("swarmui", image.get("swarm_version"), fields, loras)


def read_fooocus(found: Embedded) -> GenerationSettings | None:
    """JSON in `parameters` or the EXIF comment; LoRAs are `[name, weight, hash]` rows."""
    data = _parameters_object(found)
    version = data.get("version") if data else None
    if data is None or not (isinstance(version, str) and version.startswith("Fooocus")) or "prompt" not in data:
        return None
    size = RESOLUTION.fullmatch(str(data.get("resolution"))[:20])
    rows = [row for row in map(_rows, _rows(data.get("loras"))) if len(row) >= 2]
    styles = data.get("styles")
    fields: Object = {
        **data,
        "width": size[1] if size else None,
        "height": size[2] if size else None,
        "model": data.get("base_model"),
        "model_hash": data.get("base_model_hash"),
        "style": styles if isinstance(styles, str) and styles != "[]" else None,
    }
    return build(
        "fooocus",
        version.removeprefix("Fooocus").strip(" v"),
        fields,
        pair_loras([row[0] for row in rows], [row[1] for row in rows]),
    )


def read_novelai(found: Embedded) -> GenerationSettings | None:
    """`Software` NovelAI, the prompt in `Description`, the rest as JSON in `Comment`."""
    if not found.texts.get("Software", "").startswith("NovelAI"):
        return None
    data = _object(found.texts.get("Comment")) or {}
    fields: Object = {
        **data,
        "prompt": found.texts.get("Description") or data.get("prompt"),
        "negative_prompt": data.get("uc"),
        "guidance_scale": data.get("scale"),
        "model": found.texts.get("Source"),
    }
    return build("novelai", None, fields)


def read_comfyui(found: Embedded) -> GenerationSettings | None:
    """The executed graph: `prompt` in PNG, `prompt:{...}` in an EXIF camera field of WebP."""
    for graph in _comfy_graphs(found):
        fields = comfy_graph.read(graph)
        if fields is None and comfy_graph.is_whole(graph):
            fields = comfy_graph.GraphSettings(values={}, loras=[])
        if fields is not None:
            loras = pair_loras([name for name, _ in fields.loras], [weight for _, weight in fields.loras])
            return build("comfyui", None, fields.values, loras)
    return None


def graph_in(found: Embedded) -> Object | None:
    """The executed graph itself, as ComfyUI takes it again; None where there is none, or one that is too large."""
    return next((graph for graph in _comfy_graphs(found) if comfy_graph.is_whole(graph)), None)


def _comfy_graphs(found: Embedded) -> Iterator[Object]:
    texts = [found.texts.get("prompt")]
    for tag in (embedded.MODEL, embedded.MAKE, embedded.IMAGE_DESCRIPTION):
        key, _, text = found.fields.get(tag, "").partition(":")
        texts.append(text if key.lower() == "prompt" else None)
    yield from filter(None, (_object(text) for text in texts if text and len(text) <= MAX_GRAPH_CHARS))


def build(tool: str, version: object, fields: Object, loras: tuple[Lora, ...] = ()) -> GenerationSettings:
    """Settings from fields of any kind: what does not fit its field is unknown, so this never fails."""
    return GenerationSettings(
        prompt=_text(fields.get("prompt")) or "",
        negative_prompt=_text(fields.get("negative_prompt")) or "",
        steps=whole(fields.get("steps"), least=0, most=100_000),
        sampler=_text(fields.get("sampler")),
        guidance_scale=real(fields.get("guidance_scale")),
        seed=whole(fields.get("seed"), least=0, most=settings_text.SEED_MAX),
        width=whole(fields.get("width"), least=1, most=99_999),
        height=whole(fields.get("height"), least=1, most=99_999),
        model=_text(fields.get("model")),
        model_hash=_text(fields.get("model_hash")),
        loras=loras,
        style=_text(fields.get("style")),
        tool=tool,
        tool_version=_text(version),
    )


def pair_loras(names: list[object], weights: list[object]) -> tuple[Lora, ...]:
    """LoRAs from two lists side by side; one without a name is left out, one without a weight has 1."""
    padded = [*weights, *([None] * len(names))]
    pairs = [(_text(name), real(weight)) for name, weight in zip(names, padded, strict=False)]
    loras = [Lora(name=name, weight=1.0 if weight is None else weight) for name, weight in pairs if name]
    return tuple(loras[:MAX_LORAS])


def _parameters_object(found: Embedded) -> Object | None:
    return _object(found.texts.get("parameters") or found.comment)


def _object(text: str | None) -> Object | None:
    """A JSON object, None for anything else. NaN, which ComfyUI writes, is None."""
    if not text or len(text) > embedded.MAX_TEXT_BYTES or not text.lstrip().startswith("{"):
        return None
    try:
        value: object = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    return cast(Object, value) if isinstance(value, dict) else None


def _inner(value: object) -> Object:
    return cast(Object, value) if isinstance(value, dict) else {}


def _rows(value: object) -> list[object]:
    return cast(list[object], value) if isinstance(value, list) else []


def _text(value: object) -> str | None:
    if isinstance(value, list):
        lines = [line for line in cast(list[object], value) if isinstance(line, str)]
        value = "\n".join(lines) if lines else None
    return settings_text.clean(value[: settings_text.MAX_CHARS]) if isinstance(value, str) else None
