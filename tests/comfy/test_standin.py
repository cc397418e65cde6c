"""The stand-in is held to whole runs that a real ComfyUI was recorded with."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.standins.comfyui import recording, server
from tests.standins.comfyui.server import ComfyUI

CHECKPOINT = "bench.safetensors"
RUNS = sorted(recording.runs(CHECKPOINT))


def recorded(name: str) -> Any:
    """What a real server sent."""
    return json.loads((recording.DATA / f"{name}.json").read_text())


@pytest.fixture(scope="module")
async def standin(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ComfyUI]:
    async with server.running(tmp_path_factory.mktemp("comfyui")) as started:
        started.faults.step_s = 0.02
        yield started


@pytest.fixture(scope="module")
async def again(standin: ComfyUI) -> dict[str, Any]:
    """The same runs, of the stand-in."""
    return await recording.record_all(standin.url, CHECKPOINT)


def keys(value: Any) -> Any:
    """What a message is made of: the names in it and the kinds of its values, but for numbers and texts themselves."""
    if isinstance(value, dict):
        return {name: keys(each) for name, each in value.items()}
    if isinstance(value, list):
        return [keys(each) for each in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def outline(message: list[Any]) -> Any:
    """A message without its time: its kind, its keys, and the node or nodes it is about."""
    if message[1] == "binary":
        return message[2], keys(message[3]), message[3].get("node_id"), message[3].get("image_type"), message[5]
    kind, data = message[2]["type"], message[2]["data"]
    if kind == "progress_state":
        return kind, {node: (each["state"], each["value"], each["max"]) for node, each in data["nodes"].items()}
    if kind == "execution_error":
        named = ("prompt_id", "node_id", "node_type", "exception_type", "executed")
        return kind, sorted(data), [data[name] for name in named]
    return kind, keys(data), data.get("node"), data.get("nodes"), data.get("value"), data.get("max")


@pytest.mark.parametrize("name", RUNS)
def test_the_standin_sends_the_same_messages_in_the_same_order(again: dict[str, Any], name: str):
    ours, theirs = ([outline(message) for message in run["messages"]] for run in (again[name], recorded(name)))
    assert ours == theirs


@pytest.mark.parametrize("name", RUNS)
def test_the_standin_answers_as_recorded_before_and_after(again: dict[str, Any], name: str):
    ours, theirs = again[name], recorded(name)
    assert (ours["status"], keys(ours["answer"])) == (theirs["status"], keys(theirs["answer"]))
    assert keys(ours["history"]["outputs"]) == keys(theirs["history"]["outputs"])
    assert sorted(ours["history"]) == sorted(theirs["history"])
    assert keys(ours["history"]["meta"]) == keys(theirs["history"]["meta"])
    assert keys(ours["history"]["prompt"][3]) == keys(theirs["history"]["prompt"][3])
    said = [[kind for kind, _ in run["history"]["status"]["messages"]] for run in (ours, theirs)]
    assert said[0] == said[1]
    assert ours["history"]["status"]["status_str"] == theirs["history"]["status"]["status_str"]
    kinds = [[(Path(file["name"]).suffix, file["type"]) for file in run["files"]] for run in (ours, theirs)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("name", sorted(recording.refused(CHECKPOINT)))
def test_the_standin_refuses_with_the_words_recorded(again: dict[str, Any], name: str):
    def sorted_errors(answer: dict[str, Any]) -> dict[str, Any]:
        for node in answer["node_errors"].values():
            node["errors"].sort(key=lambda error: (error["type"], error["details"]))
        return answer

    ours, theirs = again["refusals"][name], recorded("refusals")[name]
    assert ours["status"] == theirs["status"]
    assert sorted_errors(ours["answer"]) == sorted_errors(theirs["answer"])


def test_the_standin_says_of_itself_what_was_recorded(again: dict[str, Any]):
    assert keys(again["system_stats"]) == keys(recorded("system_stats"))
    assert again["object_info"] == recorded("object_info")
