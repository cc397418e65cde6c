"""The settings an uploaded picture was made with, as Tintype and seven other tools write them into files.

Whatever is found is a hint from a stranger: it fills in a form. Models and LoRAs in it are names to look up
in the catalogue, never paths to open, and nothing of it is ever evaluated. Texts are capped at 4 MiB, JSON
that is nested too deep or broken counts as not there.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tintype.media import embedded, foreign, settings_text, xmp
from tintype.media.embedded import Embedded
from tintype.media.settings_text import GenerationSettings

MARKS = (
    "parameters",
    "prompt",
    "workflow",
    "Comment",
    "invokeai_metadata",
    "sd-metadata",
    settings_text.TOOL,
)


@dataclass(frozen=True, kw_only=True)
class RecalledSettings:
    """What a file said made it; `source` is whose way of saying so it was, e.g. `tintype` or `comfyui`."""

    source: str
    settings: GenerationSettings


@dataclass(frozen=True, kw_only=True)
class NothingFound:
    """No settings in this file; `reason` says whether there were none or they could not be read."""

    reason: str


def recall(data: bytes) -> RecalledSettings | NothingFound:
    """Read the settings back out of a PNG, JPEG or WebP, exactly where Tintype wrote it; never raises."""
    found = embedded.read(data)
    for read in READERS:
        settings = read(found)
        if settings is not None:
            graph = foreign.graph_in(found)
            return RecalledSettings(source=settings.tool, settings=settings.model_copy(update={"graph": graph}))
    marks = [mark for mark in MARKS if mark in found.texts]
    if marks or xmp.OWN_NAME in found.xmp:
        return NothingFound(reason=f"settings are there but unreadable: {', '.join(marks) or 'XMP'}")
    return NothingFound(reason="the file carries no settings")


def _own(found: Embedded) -> GenerationSettings | None:
    for text in filter(None, (found.texts.get(settings_text.TOOL), xmp.own_in(found.xmp))):
        try:
            return settings_text.from_json(text)
        except (ValueError, RecursionError):
            continue
    return None


def _parameters(found: Embedded) -> GenerationSettings | None:
    """AUTOMATIC1111 and all that write as it does; an EXIF comment has to end in fields to count."""
    text = found.texts.get("parameters", "")
    if not text and settings_text.has_fields(found.comment):
        text = found.comment
    return settings_text.from_parameters(text) if text and not text.lstrip().startswith("{") else None


READERS: tuple[Callable[[Embedded], GenerationSettings | None], ...] = (
    _own,
    foreign.read_invokeai,
    foreign.read_swarmui,
    foreign.read_fooocus,
    _parameters,
    foreign.read_novelai,
    foreign.read_comfyui,
)
