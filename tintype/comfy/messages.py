"""What a ComfyUI server says over its WebSocket, as frozen values.

Text frames are JSON `{"type", "data"}`. Binary frames begin with a big-endian u32 that names their kind: 1 is
a preview (u32 format, then the picture), 3 a line of text, 4 a preview with a JSON description before it. Kinds that
nobody here knows, of newer servers or of custom nodes, become `Unknown`.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

PREVIEW, TEXT, DESCRIBED_PREVIEW = 1, 3, 4
MEDIA_TYPES = {1: "image/jpeg", 2: "image/png"}
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG"


@dataclass(frozen=True, kw_only=True)
class Status:
    """How many prompts wait or run; sent to everybody. `client_id` comes with the first one of a connection."""

    remaining: int
    client_id: str | None


@dataclass(frozen=True, kw_only=True)
class Started:
    """A prompt left the queue and runs."""

    prompt_id: str


@dataclass(frozen=True, kw_only=True)
class Cached:
    """These nodes of a prompt do not run: the server still has what they gave."""

    prompt_id: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Executing:
    """A node begins. Without a node the prompt is over and in the history.

    Without a prompt it is what a server tells a client that comes back in the middle of its own prompt.
    """

    prompt_id: str | None
    node: str | None


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """A node has done `step` of `steps`."""

    prompt_id: str | None
    node: str
    step: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Executed:
    """A node gave something to look at: `output` is what the history will hold for it."""

    prompt_id: str
    node: str
    output: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A prompt ended as `kind` says (`success`, `error`, `interrupted`); the history may not have it yet."""

    prompt_id: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class PreviewFrame:
    """A picture as it is so far, or, as PNG, one that a node sends instead of storing it.

    Node and prompt are unknown where a server does not describe previews, and in those of prompts without a client id,
    which go to everybody.
    """

    media_type: str
    data: bytes
    node: str | None = None
    prompt_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Something this module does not know; `kind` is what the server calls it."""

    kind: str


Message = Status | Started | Cached | Executing | Advanced | Executed | Ended | PreviewFrame | Unknown


def parse(frame: str | bytes) -> Message:
    """The value of one frame; a frame that cannot be read is `Unknown` too."""
    try:
        return _parse_binary(frame) if isinstance(frame, bytes) else _parse_text(frame)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        return Unknown(kind="malformed")


def _parse_text(frame: str) -> Message:  # noqa: PLR0911  one line a kind
    message = orjson.loads(frame)
    kind, data = str(message["type"]), message.get("data") or {}
    match kind:
        case "status":
            sid = data.get("sid")
            remaining = int(data["status"]["exec_info"]["queue_remaining"])
            return Status(remaining=remaining, client_id=None if sid is None else str(sid))
        case "execution_start":
            return Started(prompt_id=str(data["prompt_id"]))
        case "execution_cached":
            return Cached(prompt_id=str(data["prompt_id"]), nodes=tuple(map(str, data["nodes"])))
        case "executing":
            return Executing(
                prompt_id=_name(data.get("prompt_id")), node=_name(data.get("display_node") or data["node"])
            )
        case "progress":
            step, steps = int(data["value"]), int(data["max"])
            return Advanced(prompt_id=_name(data.get("prompt_id")), node=str(data["node"]), step=step, steps=steps)
        case "executed":
            return Executed(prompt_id=str(data["prompt_id"]), node=str(data["node"]), output=data["output"] or {})
        case "execution_success" | "execution_error" | "execution_interrupted":
            return Ended(prompt_id=str(data["prompt_id"]), kind=kind.removeprefix("execution_"))
        case _:
            return Unknown(kind=kind)


def _name(value: object) -> str | None:
    return None if value is None else str(value)


def _parse_binary(frame: bytes) -> Message:
    kind, number = struct.unpack_from(">II", frame)
    if kind == PREVIEW:
        data = frame[8:]
        return PreviewFrame(media_type=MEDIA_TYPES.get(number, _media_type(data)), data=data)
    if kind == DESCRIBED_PREVIEW:
        about, data = orjson.loads(frame[8 : 8 + number]), frame[8 + number :]
        return PreviewFrame(
            media_type=str(about.get("image_type") or _media_type(data)),
            data=data,
            node=_name(about.get("display_node_id") or about.get("node_id")),
            prompt_id=_name(about.get("prompt_id")),
        )
    return Unknown(kind="text" if kind == TEXT else f"binary {kind}")


def _media_type(data: bytes) -> str:
    return "image/png" if data.startswith(PNG) else "image/jpeg" if data.startswith(JPEG) else "image/webp"
