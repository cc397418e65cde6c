"""A workflow is held against its own graph and against what real servers of two versions say of their nodes."""

import copy
import json

import pytest

from tests.comfy.workflows.given import TXT2IMG, graph_json, object_info, workflow
from tintype.comfy.workflows import checking, graphs, model_names, node_types
from tintype.comfy.workflows.installed import Workflow

VERSIONS = pytest.mark.parametrize("version", ["0.3.64", "0.33"])
IMAGE = {"name": "image", "type": "picture", "to": [{"node": "LoadImage", "input": "image"}]}


def types(version="0.33", **files):
    """What a server has, with these files in the choices of `Class.input`."""
    info = copy.deepcopy(object_info(version))
    for place, names in files.items():
        class_type, _, name = place.partition("__")
        info[class_type]["input"]["required"][name] = [names]
    return node_types.read(info)


def changed(name="txt2img", parts=None, /, **inputs):
    """A workflow whose graph differs: `_3__steps=0` sets an input, None takes it away."""
    nodes = graph_json(name)
    for place, value in inputs.items():
        id_, _, field = place.removeprefix("_").partition("__")
        nodes[id_]["inputs"][field] = value
        if value is None:
            del nodes[id_]["inputs"][field]
    found = workflow(name, **(parts or {}))
    return Workflow(id=found.id, graph=graphs.parse(nodes), bindings=found.bindings)


def said(flow, what=None):
    return [(problem.code, problem.message) for problem in checking.check(flow, what)]


@VERSIONS
@pytest.mark.parametrize("name", ["txt2img", "batch", "img2img", "inpaint_vae_encode", "controlnet_canny", "lora"])
def test_what_a_real_server_ran_has_no_problems(name, version):
    parts = {}
    if "LoadImage" in json.dumps(graph_json(name)):
        parts["inputs"] = [*TXT2IMG["inputs"][:4], IMAGE]
    elif name in ("lora", "inpaint_vae_encode"):
        parts["inputs"] = TXT2IMG["inputs"][:4]
    there = types(
        version,
        LoraLoader__lora_name=["tiny_lora.safetensors"],
        ControlNetLoader__control_net_name=["tiny_controlnet.safetensors"],
    )
    assert said(workflow(name, **parts), there) == []


@VERSIONS
def test_a_video_is_saved_with_flat_or_dotted_choices_as_the_version_has_them(version):
    there = types(version)
    nodes = {"2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0}}}
    nodes["1"] = {"class_type": "LoadImage", "inputs": {"image": "x.png"}}
    save = {"video": ["2", 0], "filename_prefix": "v", "format": "mp4", "codec": "h264"}
    nodes["3"] = {"class_type": "SaveVideo", "inputs": save}
    assert checking.check_graph(graphs.parse(nodes), there) == []
    nodes["3"]["inputs"] = {**save, "format": "avi"}
    (problem,) = checking.check_graph(graphs.parse(nodes), there)
    assert (problem.code, "'auto', 'mp4'" in problem.message) == ("value_not_in_list", True)
    if version == "0.33":
        nodes["3"]["inputs"] = {"video": ["2", 0], "filename_prefix": "v", "format": "mp4", "format.codec": "vp8"}
        (problem,) = checking.check_graph(graphs.parse(nodes), there)
        assert "'format.codec'" in problem.message


@pytest.mark.parametrize(
    ("inputs", "code", "says"),
    [
        ({"_3__steps": 0}, "out_of_range", "'steps' of 'KSampler' (3) is 0; set it to 1 or more"),
        ({"_3__cfg": 101}, "out_of_range", "set it to 100 or less"),
        ({"_3__steps": "many"}, "type_mismatch", "is 'many'; set it to a whole number"),
        ({"_3__steps": True}, "type_mismatch", "is True; set it to a whole number"),
        ({"_6__text": 3}, "type_mismatch", "'text' of 'positive' (6) is 3; set it to a text"),
        ({"_3__sampler_name": "best"}, "value_not_in_list", "choose one of 'euler', 'euler_cfg_pp'"),
        ({"_3__model": ["40", 0]}, "link_broken", "linked to the node '40', which is not there"),
        ({"_3__model": ["4", 7]}, "link_broken", "linked to output 7 of 'CheckpointLoaderSimple' (4), which has 3"),
        ({"_3__model": ["4", 1]}, "type_mismatch", "takes MODEL, and 'CheckpointLoaderSimple' (4) gives CLIP there"),
        ({"_3__model": None}, "input_missing", "needs its input 'model', and nothing is connected to it"),
        ({"_3__model": "sd15"}, "input_missing", "holds 'sd15' where a MODEL is to be connected"),
        ({"_4__ckpt_name": "a/b.safetensors"}, "model_missing", "in the folder 'checkpoints' of ComfyUI's models"),
    ],
)
def test_what_a_server_would_refuse_is_said_before_in_a_sentence(inputs, code, says):
    parts = {"inputs": TXT2IMG["inputs"][:1] if "_6__text" not in inputs else TXT2IMG["inputs"][1:2]}
    ((found, message),) = said(changed("txt2img", parts, **inputs), types())
    assert (found, says in message) == (code, True), message


def test_a_missing_file_is_named_with_its_folder_and_what_is_there():
    ((_, message),) = said(changed(_4__ckpt_name="big.safetensors"), types())
    assert message.startswith("'CheckpointLoaderSimple' (4) needs the file 'big.safetensors'")
    assert "'tiny_sd15_tae.safetensors'" in message
    ((_, message),) = said(workflow("lora", inputs=TXT2IMG["inputs"][:4]), types(LoraLoader__lora_name=[]))
    assert "'tiny_lora.safetensors' in the folder 'loras' of ComfyUI's models" in message
    assert message.endswith("there are none")


def test_required_nodes_and_files_that_the_graph_does_not_show_are_looked_for_too():
    needs = {"nodes": ["VHS_VideoCombine"], "models": [{"folder": "vae", "name": "fine.safetensors"}]}
    found = said(workflow(requires=needs), types())
    assert [code for code, _ in found] == ["node_missing", "model_missing"]
    assert "ComfyUI-VideoHelperSuite" in found[0][1]
    assert (
        said(workflow(requires={"nodes": ["KSampler"], "models": [{"folder": "vae", "name": "pixel_space"}]}), types())
        == []
    )


@pytest.mark.parametrize(
    ("class_type", "package"),
    [
        ("ADE_AnimateDiffLoaderGen1", "'ComfyUI-AnimateDiff-Evolved'"),
        ("DWPreprocessor", "'comfyui_controlnet_aux'"),
        ("Nobody Knows", "the custom nodes that have it"),
    ],
)
def test_a_missing_class_is_named_with_the_package_that_has_it(class_type, package):
    nodes = graph_json("txt2img")
    nodes["8"]["class_type"] = class_type
    flow = workflow()
    found = said(Workflow(id="x", graph=graphs.parse(nodes), bindings=flow.bindings), types())
    assert [(code, package in message) for code, message in found] == [("node_missing", True)]


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        ({"to": [{"node": "nowhere", "input": "x"}]}, "workflow_node_unknown", "input 'x': no node has the title"),
        ({"to": [{"node": "3", "input": "stepps"}]}, "input_unknown", "'stepps' of 'KSampler' (3), which it has not"),
        ({"to": [{"node": "3", "input": "model"}]}, "input_linked", "which 'CheckpointLoaderSimple' (4) feeds"),
        ({"to": [{"node": "6", "input": "text"}]}, "type_mismatch", "is of type integer, and 'text'"),
        ({"to": [{"node": "3", "input": "steps"}], "max": 20000}, "out_of_range", "takes 10000 or less; change `max`"),
    ],
)
def test_an_input_that_does_not_fit_its_node_is_reported(given, code, says):
    flow = workflow(inputs=[{"name": "x", "type": "integer", **given}])
    ((found, message),) = said(flow, types())
    assert (found, says in message) == (code, True), message
    if code != "out_of_range":
        assert [code for code, _ in said(flow)] == [found], "also without a server"


def test_choices_that_the_node_does_not_have_are_reported():
    given = {
        "name": "sampler",
        "type": "choice",
        "choices": ["euler", "best"],
        "to": [{"node": "3", "input": "sampler_name"}],
    }
    ((_, message),) = said(workflow(inputs=[given]), types())
    assert "offers 'best', which 'sampler_name' of 'KSampler' (3) does not take" in message


def test_outputs_and_bypasses_that_name_no_node_are_reported():
    found = said(workflow(outputs=[{"node": "Save"}], bypass={"LoRA 1": {"0": "model"}, "3": {"0": "picture"}}))
    assert [code for code, _ in found] == ["workflow_node_unknown", "workflow_node_unknown", "input_unknown"]


def test_all_problems_are_one_refusal():
    with pytest.raises(checking.WorkflowUnfitError, match=r"(?s)steps.*; .*cfg"):
        checking.refuse(checking.check(changed(_3__steps=0, _3__cfg=-1), types()))
    checking.refuse([])


@pytest.mark.parametrize(
    ("wanted", "listed", "there"),
    [
        ("a.safetensors", ["a.safetensors", "x/a.safetensors"], "a.safetensors"),
        ("sd15/a.safetensors", ["sd15\\a.safetensors"], "sd15\\a.safetensors"),
        ("sd15/a.safetensors", ["other/a.safetensors"], "other/a.safetensors"),
        ("a.safetensors", ["x/a.safetensors", "y/a.safetensors"], None),
        ("a.safetensors", ["b.safetensors"], None),
    ],
)
def test_a_file_is_called_as_the_server_calls_it(wanted, listed, there):
    assert model_names.resolve(wanted, listed) == there


def test_names_in_a_graph_are_resolved_and_words_never_are():
    there = types(CheckpointLoaderSimple__ckpt_name=["sd15/tiny_sd15_tae.safetensors"])
    graph = model_names.resolved(workflow().graph, there)
    assert graph.nodes["4"].inputs["ckpt_name"] == "sd15/tiny_sd15_tae.safetensors"
    assert graph.nodes["3"].inputs == workflow().graph.nodes["3"].inputs


def test_what_a_server_says_oddly_of_one_node_stops_nothing():
    odd = {
        "A": {"input": {"required": {"x": [], "y": "INT", "z": [["a"]]}}, "output": ["X", ["a", "b"]]},
        "B": 3,
        "C": {},
    }
    found = node_types.read(odd)
    assert (set(found), set(found["A"].inputs), found["A"].outputs) == ({"A", "C"}, {"z"}, ("X", "COMBO"))
