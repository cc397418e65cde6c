"""What a bindings file may say, and in which words it is told what is wrong."""

import json

import pytest

from tests.comfy.workflows.given import TXT2IMG, bindings
from tintype.comfy.workflows import installed, schema

TO = [{"node": "a", "input": "b"}]
SAVE = [{"node": "Save"}]


def test_the_example_of_the_documentation_is_read():
    found = bindings(
        **TXT2IMG,
        bypass={"LoRA 1": {"0": "model", "1": "clip"}},
        requires={
            "nodes": ["KSampler"],
            "models": [{"folder": "checkpoints", "name": "a.safetensors", "model": "sd15"}],
        },
    )
    assert found.get("steps").max == 50
    assert [given.is_field for given in found.inputs] == [True] * 5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "steps", "type": "number", "to": TO}, "'steps' is a field of every request and of type integer"),
        ({"name": "x", "type": "text"}, "'x' needs `to`"),
        ({"name": "x", "type": "choice", "to": TO}, "'x' needs `choices`"),
        ({"name": "x", "type": "text", "choices": ["a"], "to": TO}, "which type text does not take"),
        ({"name": "x", "type": "text", "min": 1, "to": TO}, "has `min`, `max` or `step`"),
        ({"name": "x", "type": "integer", "min": 2, "max": 1, "to": TO}, "`min` above its `max`"),
        ({"name": "x", "type": "model", "to": TO}, "needs `folder`"),
        ({"name": "x", "type": "integer", "max": 5, "default": 9, "to": TO}, "`default` that is 9; send 5 or less"),
        ({"name": "x", "type": "integer", "default": "9", "to": TO}, "`default` that is not of type integer"),
        ({"name": "loras", "type": "loras", "to": TO}, "of type loras needs `slots`"),
        ({"name": "controls", "type": "controls", "slots": [{"node": "a"}]}, "of type controls needs `slots`"),
        ({"name": "X", "type": "text", "to": TO}, "inputs.0.name"),
        ({"name": "x", "type": "text", "to": TO, "colour": 1}, "inputs.0.colour"),
        ({"name": "x", "type": "integer", "to": TO, "min": "1"}, "inputs.0.min: Input should be a valid number"),
    ],
)
def test_a_wrong_input_is_named_with_what_is_wrong(given, says):
    with pytest.raises(schema.BindingsError) as refused:
        bindings(inputs=[given], outputs=SAVE)
    assert says in refused.value.detail


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"inputs": [{"name": "x", "type": "text", "to": TO}] * 2}, "x are there twice"),
        ({"inputs": [{"name": n, "type": "text", "to": TO} for n in "xy"]}, "written to by more than one input"),
        ({"inputs": [], "bypass": {"a": {"first": "model"}}}, "slots are numbers from 0"),
        ({"inputs": [], "outputs": []}, "outputs"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(parts, says):
    with pytest.raises(schema.BindingsError) as refused:
        bindings(**{"outputs": SAVE, **parts})
    assert says in refused.value.detail


def test_a_folder_is_read_whole_and_says_what_is_missing(tmp_path):
    with pytest.raises(schema.BindingsError, match=r"workflow.json cannot be read"):
        installed.read(tmp_path)
    (tmp_path / "workflow.json").write_text(json.dumps({"1": {"class_type": "X", "inputs": {}}}))
    with pytest.raises(schema.BindingsError, match=r"bindings.json cannot be read"):
        installed.read(tmp_path)
    (tmp_path / "bindings.json").write_text(json.dumps({"inputs": [], "outputs": [{"node": "X"}]}))
    assert installed.read(tmp_path).graph.find("X").id == "1"
