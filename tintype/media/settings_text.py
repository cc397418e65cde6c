"""What made a picture, as one value, and the two texts that carry it in files.

`to_parameters` writes the text AUTOMATIC1111 writes (prompt, `Negative prompt:` line, one line of `Name:
value` fields), which Civitai, Forge, SD.Next and others read. Its grammar follows their readers: fields are
matched by `\\s*(\\w[\\w \\-/]+):\\s*("(?:\\\\.|[^\\\\"])+"|[^,]*)(?:,|$)` and a value with a comma, colon or
newline is a JSON string. `to_json` writes ours, which is exact. The parameters text is read back exactly too:
where a prompt would be misread (a line of it begins with `Negative prompt:`), an `Exact prompt` field says it
again as JSON; other tools pass over it.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

import tintype

TOOL = "tintype"
JSON_VERSION = 1
MAX_CHARS = 1 << 20
MAX_EXTRA = 200
SEED_MAX = (1 << 64) - 1
# A bounded key that starts at a word keeps a hostile megabyte without a colon linear.
FIELD = re.compile(r'\b(\w[\w \-/]{1,80}):\s{0,8}("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
NAME = r"^[A-Za-z][A-Za-z0-9 _/-]{0,78}[A-Za-z0-9]$"
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
OURS = re.compile(rf"(?:^|, )Version: {TOOL}(?: [^\s,\"]+)?$")
LORA_TAG = re.compile(r"<lora:([^:<>\n]{1,200})(?::([^:<>\n]{1,20}))?(?::[^<>\n]{0,100})?>")
TAG_MARKS = re.compile(r"[<>:\n]")
NEGATIVE = "Negative prompt:"
KNOWN = frozenset(
    [
        *("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model hash", "Model", "Style", "Version"),
        *("Lora hashes", "Loras", "Exact prompt", "Exact negative prompt"),
    ]
)

Name = Annotated[str, StringConstraints(pattern=NAME)]


class Lora(BaseModel):
    """One LoRA in use; `hash` is the first 12 hex digits of its sha256, as far as known."""

    model_config = ConfigDict(frozen=True)

    name: str
    weight: float = Field(default=1.0, allow_inf_nan=False)
    hash: str | None = None


class GenerationSettings(BaseModel):
    """What made a picture. A field that is None (or an empty prompt) is unknown.

    `graph` is the ComfyUI workflow that drew it, in API format; files hold it where ComfyUI looks for it, and neither
    text does. `guidance_scale` is the CFG scale; `model_hash` the first 10 hex digits of the checkpoint's sha256 (what
    Civitai looks up); `width` and `height` are pixels. `extra` holds further named fields as text, e.g. `Clip
    skip`.
    """

    model_config = ConfigDict(frozen=True)

    prompt: str = ""
    negative_prompt: str = ""
    steps: int | None = Field(default=None, ge=0, le=100_000)
    sampler: str | None = None
    guidance_scale: float | None = Field(default=None, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=0, le=SEED_MAX)
    width: int | None = Field(default=None, ge=1, le=99_999)
    height: int | None = Field(default=None, ge=1, le=99_999)
    model: str | None = None
    model_hash: str | None = None
    loras: tuple[Lora, ...] = ()
    style: str | None = None
    tool: str = TOOL
    tool_version: str | None = tintype.__version__
    extra: Mapping[Name, str] = Field(default_factory=dict[str, str], max_length=MAX_EXTRA)
    graph: Mapping[str, Any] | None = None


def to_json(settings: GenerationSettings) -> str:
    """Our own form: one JSON object with `format` (its version) and the fields that are known."""
    fields = settings.model_dump(mode="json", exclude_defaults=True, exclude={"graph"})
    named = {"format": JSON_VERSION, "tool": settings.tool, "tool_version": settings.tool_version}
    return json.dumps(named | fields, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> GenerationSettings:
    """Read what `to_json` wrote; unknown names are passed over.

    Raises:
        ValueError: it is not that (pydantic's ValidationError is one).
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"{len(text)} characters, more than {MAX_CHARS}")
    return GenerationSettings.model_validate_json(text.encode("utf-8", "replace"))


def to_parameters(settings: GenerationSettings) -> str:
    """The settings as AUTOMATIC1111 writes them.

    LoRAs are added to the prompt as `<lora:name:weight>` tags, where that family of tools expects them.
    """
    prompt = settings.prompt + _tags(settings.loras)
    fields = _fields(settings)
    body = prompt + (f"\n{NEGATIVE} {settings.negative_prompt}" if settings.negative_prompt else "")
    if _prompts(body) != (prompt, settings.negative_prompt):
        fields["Exact prompt"] = json.dumps(settings.prompt, ensure_ascii=False)
        fields["Exact negative prompt"] = json.dumps(settings.negative_prompt, ensure_ascii=False)
    fields["Version"] = " ".join(filter(None, (settings.tool, settings.tool_version)))
    return f"{body}\n" + ", ".join(f"{name}: {_quoted(value)}" for name, value in fields.items())


def from_parameters(text: str) -> GenerationSettings:
    """Read what AUTOMATIC1111, its family or `to_parameters` wrote; never fails.

    Text without a line of fields is all prompt. Numbers that are none are unknown, unknown fields are in
    `extra`.
    """
    body, line = _split(clean(text[:MAX_CHARS]))
    fields = {name.strip(): _unquoted(value) for name, value in FIELD.findall(line)}
    prompt, negative = _prompts(body)
    tool, tool_version = _tool(fields)
    if tool == TOOL:
        loras = _own_loras(fields.get("Loras", ""))
        prompt = prompt.removesuffix(_tags(loras))
        prompt = _exact(fields, "Exact prompt", prompt)
        negative = _exact(fields, "Exact negative prompt", negative)
    else:
        prompt, loras = split_lora_tags(prompt)
    size = SIZE.fullmatch(fields.get("Size", ""))
    extra = {name: value for name, value in fields.items() if name not in KNOWN and re.match(NAME, name)}
    return GenerationSettings(
        prompt=prompt,
        negative_prompt=negative,
        steps=whole(fields.get("Steps"), least=0, most=100_000),
        sampler=fields.get("Sampler"),
        guidance_scale=real(fields.get("CFG scale")),
        seed=whole(fields.get("Seed"), least=0, most=SEED_MAX),
        width=whole(size[1], least=1, most=99_999) if size else None,
        height=whole(size[2], least=1, most=99_999) if size else None,
        model=fields.get("Model"),
        model_hash=fields.get("Model hash"),
        loras=loras,
        style=fields.get("Style"),
        tool=tool,
        tool_version=tool_version,
        extra=dict(list(extra.items())[:MAX_EXTRA]),
    )


def has_fields(text: str) -> bool:
    """Whether the text ends in a line of fields, as a parameters text does and a caption does not."""
    return _split(text[:MAX_CHARS])[1] != ""


def split_lora_tags(prompt: str) -> tuple[str, tuple[Lora, ...]]:
    """A prompt without its `<lora:name:weight>` tags, and those as values (weight 1 if it is no number)."""
    loras = tuple(
        Lora(name=name, weight=1.0 if (given := real(weight)) is None else given)
        for name, weight in LORA_TAG.findall(prompt)
    )
    return (LORA_TAG.sub("", prompt).rstrip(" ,") if loras else prompt), loras


def clean(text: str) -> str:
    """Text that can be stored and encoded: lone surrogates (JSON can spell them) become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def whole(value: object, *, least: int, most: int) -> int | None:
    """An int out of what other tools write (42, "42", 42.0); None when it is not in range."""
    number = real(value) if isinstance(value, float) else value
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if isinstance(number, str) and number.isascii() and number.strip().isdigit() and len(number) <= 20:
        number = int(number)
    if isinstance(number, int) and not isinstance(number, bool) and least <= number <= most:
        return number
    return None


def real(value: object) -> float | None:
    """A finite float out of what other tools write, None when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > 64:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _fields(settings: GenerationSettings) -> dict[str, str]:
    size = f"{settings.width}x{settings.height}" if settings.width and settings.height else None
    known = {
        "Steps": settings.steps,
        "Sampler": settings.sampler,
        "CFG scale": None if settings.guidance_scale is None else _number(settings.guidance_scale),
        "Seed": settings.seed,
        "Size": size,
        "Model hash": settings.model_hash,
        "Model": settings.model,
        "Style": settings.style,
        **{name: value for name, value in settings.extra.items() if name not in KNOWN},
    }
    hashes = ", ".join(f"{lora.name}: {lora.hash}" for lora in settings.loras if lora.hash)
    if settings.loras:
        rows = [[lora.name, lora.weight, lora.hash] for lora in settings.loras]
        known |= {"Lora hashes": hashes or None, "Loras": json.dumps(rows, ensure_ascii=False)}
    return {name: str(value) for name, value in known.items() if value is not None}


def _split(text: str) -> tuple[str, str]:
    """The prompts and the line of fields, "" when the last one has fewer than three (A1111's rule)."""
    text = text.rstrip("\n\r\t ")
    body, _, last = text.rpartition("\n")
    last = last.strip()
    if OURS.search(last) or len(FIELD.findall(last)) >= 3:
        return body, last
    return text, ""


def _prompts(body: str) -> tuple[str, str]:
    """Split at the first line that begins with `Negative prompt:`."""
    before, mark, after = f"\n{body}".partition(f"\n{NEGATIVE}")
    return before[1:], after.removeprefix(" ") if mark else ""


def _tool(fields: Mapping[str, str]) -> tuple[str, str | None]:
    """The program and version in a `Version` field: Forge's is `f2.0.1v1.10.1`, A1111's `v1.10.1`."""
    version = fields.get("Version")
    name, _, rest = (version or "").partition(" ")
    if name == TOOL:
        return TOOL, rest or None
    return ("forge" if re.match(r"f\d", name) else "automatic1111"), version


def _tags(loras: tuple[Lora, ...]) -> str:
    names = [TAG_MARKS.sub("_", lora.name) for lora in loras]
    return "".join(f" <lora:{name}:{_number(lora.weight)}>" for name, lora in zip(names, loras, strict=True))


def _own_loras(text: str) -> tuple[Lora, ...]:
    try:
        rows = json.loads(text) if text else []
        return tuple(Lora(name=name, weight=weight, hash=digest) for name, weight, digest in rows)
    except (ValueError, TypeError, RecursionError):
        return ()


def _exact(fields: Mapping[str, str], name: str, otherwise: str) -> str:
    try:
        value: object = json.loads(fields[name]) if name in fields else otherwise
    except (ValueError, RecursionError):
        return otherwise
    return clean(value) if isinstance(value, str) else otherwise


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _quoted(value: str) -> str:
    """Quote what A1111 quotes (comma, newline, colon), and what a reader would strip or unquote."""
    if any(mark in value for mark in ",\n:") or value != value.strip() or value.startswith('"'):
        return json.dumps(value, ensure_ascii=False)
    return value


def _unquoted(value: str) -> str:
    if len(value) < 2 or not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        text: object = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return clean(text) if isinstance(text, str) else value
