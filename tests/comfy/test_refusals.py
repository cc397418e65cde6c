"""What ComfyUI was recorded to refuse, in words a person understands."""

import json
from typing import Any

import pytest

from tests.standins.comfyui import graphs, recording
from tintype.comfy import refusals
from tintype.comfy.errors import (
    ComfyError,
    ModelMissingError,
    NodeFailedError,
    NodeMissingError,
    OutOfMemoryError,
    PromptInterruptedError,
    WorkflowRefusedError,
)

REFUSALS = json.loads((recording.DATA / "refusals.json").read_text())


def refused(name: str) -> WorkflowRefusedError:
    return refusals.refusal(REFUSALS[name]["answer"], REFUSALS[name]["graph"] or {})


@pytest.mark.parametrize(
    ("name", "kind", "code", "sentence"),
    [
        (
            "missing_model",
            ModelMissingError,
            "workflow_model_missing",
            "'Checkpoint' (CheckpointLoaderSimple): this ComfyUI has no model file 'missing.safetensors' for "
            "'ckpt_name'; put it into its models folder, or choose one of 'bench.safetensors', "
            "'tintype-bench.safetensors'.",
        ),
        (
            "missing_node",
            NodeMissingError,
            "workflow_node_missing",
            "This ComfyUI has no node 'NoSuchNode'; install its extension, or choose another workflow.",
        ),
        (
            "no_outputs",
            WorkflowRefusedError,
            "workflow_refused",
            "The workflow stores nothing; add a node that does, such as Save Image.",
        ),
        (
            "no_class",
            WorkflowRefusedError,
            "workflow_refused",
            "Node 1 of the workflow does not say what it is; export the workflow again, in API format.",
        ),
        (
            "missing_upload",
            WorkflowRefusedError,
            "workflow_refused",
            "'Source' (LoadImage): 'image' was refused: Invalid image file: missing.png.",
        ),
        ("nothing", WorkflowRefusedError, "workflow_refused", "ComfyUI refused the workflow: No prompt provided."),
    ],
)
def test_a_refusal_says_what_is_wrong_and_what_to_do(name: str, kind: type[ComfyError], code: str, sentence: str):
    error = refused(name)
    assert (type(error), error.code, error.retryable, error.detail) == (kind, code, False, sentence)


def test_every_wrong_value_is_named_with_what_is_allowed():
    error = refused("wrong_values")
    assert {(each.node, each.input, each.kind): each.sentence.partition(": ")[2] for each in error.problems} == {
        (
            "4",
            "ckpt_name",
            "model_missing",
        ): "this ComfyUI has no model file 'missing.safetensors' for 'ckpt_name'; put "
        "it into its models folder, or choose one of 'bench.safetensors', 'tintype-bench.safetensors'.",
        ("5", "width", "required_input_missing"): "'width' is missing; connect it or give it a value.",
        ("3", "scheduler", "value_not_in_list"): "'scheduler' cannot be 'none'; choose one of 'simple', 'sgm_uniform', "
        "'karras', 'exponential', 'ddim_uniform' and 4 more.",
        ("3", "cfg", "invalid_input_type"): "'cfg' takes a number, and 'much' was sent.",
        ("3", "steps", "value_smaller_than_min"): "'steps' is 0, and 1 is the least it takes.",
        ("3", "sampler_name", "value_not_in_list"): "'sampler_name' cannot be 'none such'; choose one of the 42 it "
        "lists.",
        ("3", "model", "return_type_mismatch"): "'model' takes MODEL, and what is connected to it gives LATENT.",
    }
    assert {each.sentence.partition(": ")[0] for each in error.problems if each.node == "3"} == {"'Sampler' (KSampler)"}
    assert error.detail.endswith("(and 4 more)")


def test_the_newer_server_s_word_for_a_missing_node_is_known():
    answer = {"error": {"type": "missing_node_type", "message": "Node 'X' not found.", "details": "Node ID '#1'"}}
    graph = {"1": graphs.node("X")}
    assert isinstance(refusals.refusal({**answer, "node_errors": {}}, graph), NodeMissingError)


def test_choices_of_the_newer_kind_are_shown():
    error = {
        "type": "value_not_in_list",
        "message": "Value not in list",
        "details": "mode: 'c' not in ['a', 'b']",
        "extra_info": {"input_name": "mode", "input_config": ["COMBO", {"options": ["a", "b"]}], "received_value": "c"},
    }
    answer = {"error": {}, "node_errors": {"1": {"errors": [error]}}}
    assert refusals.refusal(answer, {}).detail == "node (node 1): 'mode' cannot be 'c'; choose one of 'a', 'b'."


def test_an_error_of_a_kind_nobody_knows_is_passed_on_short():
    error = {"type": "new_kind", "message": "m" * 500, "details": "d", "extra_info": {"input_name": "a"}}
    detail = refusals.refusal({"node_errors": {"1": {"errors": [error]}}}, {}).detail
    assert detail.startswith("node (node 1): mmm")
    assert len(detail) < 200


def ended(name: str) -> ComfyError:
    entry = json.loads((recording.DATA / f"{name}.json").read_text())["history"]
    return refusals.failure(entry, entry["prompt"][2])


def test_a_recorded_error_names_the_node_and_the_reason():
    error = ended("error")
    assert isinstance(error, NodeFailedError)
    assert error.detail == (
        "'Source' (LoadImage) failed: cannot identify image file 'tintype-broken.png' (PIL.UnidentifiedImageError)."
    )


def test_a_recorded_interrupt_is_no_failure_of_a_node():
    error = ended("interrupt")
    assert isinstance(error, PromptInterruptedError)
    assert error.detail == "Somebody ended the prompt in ComfyUI, at 'Sampler' (KSampler)."


def test_a_recorded_shortage_of_memory_is_recognised():
    assert isinstance(ended("out_of_memory"), OutOfMemoryError)


@pytest.mark.parametrize(
    ("kind", "message", "is_shortage"),
    [
        ("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB", True),
        ("torch.cuda.OutOfMemoryError", "Allocation on device ", True),
        ("RuntimeError", "MPS backend out of memory (MPS allocated: 9 GB)", True),
        ("RuntimeError", "HIP out of memory", True),
        ("MemoryError", "", True),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied", False),
        ("ValueError", "", False),
    ],
)
def test_shortages_of_memory_are_told_from_other_failures(kind: str, message: str, is_shortage: bool):
    data = {"node_id": "1", "exception_type": kind, "exception_message": f"{message}\n"}
    entry: dict[str, Any] = {"status": {"messages": [["execution_error", data]]}}
    assert isinstance(refusals.failure(entry, {}), OutOfMemoryError) == is_shortage
