"""What servers were recorded to send is understood, and what nobody knows does no harm."""

import json
import struct
from pathlib import Path

import pytest

from tests.standins.comfyui import recording
from tintype.comfy import messages
from tintype.comfy.messages import (
    Advanced,
    Cached,
    Ended,
    Executed,
    Executing,
    PreviewFrame,
    Started,
    Status,
    Unknown,
)

UNUSED = {"feature_flags", "progress_state"}
RECORDED = sorted(recording.DATA.glob("*.json"))


@pytest.mark.parametrize("path", [path for path in RECORDED if "messages" in json.loads(path.read_text())], ids=str)
def test_every_recorded_message_is_understood(path: Path):
    for message in json.loads(path.read_text())["messages"]:
        if message[1] == "text":
            parsed = messages.parse(json.dumps(message[2]))
            assert isinstance(parsed, Unknown) == (message[2]["type"] in UNUSED), message
            assert parsed != Unknown(kind="malformed")


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("status", {"status": {"exec_info": {"queue_remaining": 2}}}, Status(remaining=2, client_id=None)),
        ("status", {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "a"}, Status(remaining=0, client_id="a")),
        ("execution_start", {"prompt_id": "p", "timestamp": 1}, Started(prompt_id="p")),
        ("execution_cached", {"prompt_id": "p", "nodes": ["1", "2"]}, Cached(prompt_id="p", nodes=("1", "2"))),
        ("executing", {"node": "1", "display_node": "1", "prompt_id": "p"}, Executing(prompt_id="p", node="1")),
        ("executing", {"node": "7.0.1", "display_node": "7", "prompt_id": "p"}, Executing(prompt_id="p", node="7")),
        ("executing", {"node": None, "prompt_id": "p"}, Executing(prompt_id="p", node=None)),
        ("executing", {"node": "3"}, Executing(prompt_id=None, node="3")),
        (
            "progress",
            {"value": 2.0, "max": 4, "prompt_id": "p", "node": "3"},
            Advanced(prompt_id="p", node="3", step=2, steps=4),
        ),
        ("executed", {"node": "9", "output": None, "prompt_id": "p"}, Executed(prompt_id="p", node="9", output={})),
        ("execution_success", {"prompt_id": "p"}, Ended(prompt_id="p", kind="success")),
        ("execution_error", {"prompt_id": "p"}, Ended(prompt_id="p", kind="error")),
        ("execution_interrupted", {"prompt_id": "p"}, Ended(prompt_id="p", kind="interrupted")),
        ("crystools.monitor", {"cpu": 3}, Unknown(kind="crystools.monitor")),
    ],
)
def test_a_text_message_becomes_its_value(kind: str, data: dict, expected: messages.Message):
    assert messages.parse(json.dumps({"type": kind, "data": data})) == expected


@pytest.mark.parametrize(
    ("number", "data", "media_type"),
    [(1, b"\xff\xd8\xff\xe0", "image/jpeg"), (2, b"\x89PNG", "image/png"), (9, b"\x89PNG", "image/png")],
)
def test_a_bare_preview_becomes_its_picture(number: int, data: bytes, media_type: str):
    frame = struct.pack(">II", 1, number) + data
    assert messages.parse(frame) == PreviewFrame(media_type=media_type, data=data)


def test_a_described_preview_names_its_node_and_prompt():
    about = json.dumps({"node_id": "7.1", "display_node_id": "7", "prompt_id": "p", "image_type": "image/png"}).encode()
    frame = struct.pack(">II", 4, len(about)) + about + b"picture"
    assert messages.parse(frame) == PreviewFrame(media_type="image/png", data=b"picture", node="7", prompt_id="p")


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ("no json", "malformed"),
        ("[1, 2]", "malformed"),
        ('{"type": "executing", "data": {}}', "malformed"),
        ('{"type": "progress", "data": {"value": "much", "max": 4, "node": "1"}}', "malformed"),
        (b"\0\0", "malformed"),
        (struct.pack(">II", 4, 90) + b"{", "malformed"),
        (struct.pack(">II", 3, 1) + b"1text", "text"),
        (struct.pack(">II", 77, 0), "binary 77"),
    ],
)
def test_what_cannot_be_read_is_unknown(frame: str | bytes, kind: str):
    assert messages.parse(frame) == Unknown(kind=kind)
