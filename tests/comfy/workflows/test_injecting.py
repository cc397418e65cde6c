"""A request goes into a graph as data; what is not used is taken out."""

import copy

import numpy as np
import pytest

from tests.comfy.workflows.given import TXT2IMG, graph_json, picture, request, workflow
from tintype.comfy.workflows import graphs, injecting
from tintype.comfy.workflows.injecting import Run
from tintype.providers.contract import Control, Lora, ModelFiles

ONE = Run(index=0, count=1, seed=7)
LORAS = {
    "inputs": [*TXT2IMG["inputs"], {"name": "loras", "type": "loras", "slots": [{"node": "LoraLoader"}]}],
    "bypass": {"LoraLoader": {"0": "model", "1": "clip"}},
}
CONTROL = {
    "name": "controls",
    "type": "controls",
    "slots": [
        {
            "type": "canny",
            "image": {"node": "LoadImage", "input": "image"},
            "strength": {"node": "13", "input": "strength"},
            "without": ["ControlNetApplyAdvanced"],
        }
    ],
}
INPAINT = [
    *TXT2IMG["inputs"][:2],
    {"name": "image", "type": "picture", "required": True, "to": [{"node": "10", "input": "image"}]},
    {"name": "mask", "type": "mask", "required": True, "to": [{"node": "10", "input": "image"}]},
]


def injected(flow, asked=None, run=ONE, **pictures):
    return injecting.inject(flow, asked or request(), run, pictures=pictures, prefix="tintype/r/0").as_prompt()


def test_each_value_goes_where_the_bindings_say_and_nothing_else_changes():
    before = graph_json("txt2img")
    found = injected(workflow())
    expected = copy.deepcopy(before)
    expected["6"]["inputs"]["text"] = "a red cat"
    expected["7"]["inputs"]["text"] = "dogs"
    expected["3"]["inputs"] |= {"seed": 7, "steps": 9}
    expected["5"]["inputs"]["width"] = 128
    expected["9"]["inputs"]["filename_prefix"] = "tintype/r/0"
    assert {id_: node["inputs"] for id_, node in found.items()} == {
        id_: node["inputs"] for id_, node in expected.items()
    }
    assert found["6"]["_meta"] == {"title": "positive"}


@pytest.mark.parametrize("words", ['", "inputs": {}}', "{{prompt}} %date% $1", '["4", 0]', "\\\n\t\x00é猫"])
def test_words_are_data_whatever_is_in_them(words):
    assert injected(workflow(), request(prompt=words))["6"]["inputs"]["text"] == words


def test_the_workflow_itself_stays_as_it_was():
    flow = workflow()
    injected(flow)
    assert flow.graph.as_prompt()["6"]["inputs"]["text"] == "a cat"


def test_a_value_beyond_the_limits_is_refused_with_its_field():
    with pytest.raises(injecting.ValueInvalidError, match="steps: is 60; send 50 or less") as refused:
        injected(workflow(), request(steps=60))
    assert refused.value.fields[0].loc == ("body", "steps")


def test_an_option_takes_its_default_or_leaves_the_graphs_own_value():
    extra = [
        {
            "name": "flavour",
            "type": "choice",
            "choices": ["normal", "karras"],
            "to": [{"node": "3", "input": "scheduler"}],
        },
        {"name": "denoise", "type": "number", "default": 0.5, "to": [{"node": "3", "input": "denoise"}]},
    ]
    flow = workflow(inputs=extra)
    assert (injected(flow)["3"]["inputs"]["scheduler"], injected(flow)["3"]["inputs"]["denoise"]) == ("normal", 0.5)
    found = injected(flow, request(options={"flavour": "karras", "denoise": 1}))["3"]["inputs"]
    assert (found["scheduler"], found["denoise"]) == ("karras", 1.0)
    with pytest.raises(injecting.ValueInvalidError, match="send one of 'normal', 'karras'"):
        injected(flow, request(options={"flavour": "beta"}))


def test_loras_fill_the_slots_and_an_unused_slot_is_bypassed(tmp_path):
    (tmp_path / "style.safetensors").touch()
    lora = Lora(model=ModelFiles(id="a-style", family="sd15", folder=str(tmp_path)), weight=0.5)
    found = injected(workflow("lora", **LORAS), request(loras=(lora,)))
    assert found["10"]["inputs"] == {
        "model": ["4", 0],
        "clip": ["4", 1],
        "lora_name": "style.safetensors",
        "strength_model": 0.5,
        "strength_clip": 0.5,
    }
    bare = injected(workflow("lora", **LORAS))
    assert "10" not in bare
    assert (bare["3"]["inputs"]["model"], bare["6"]["inputs"]["clip"]) == (["4", 0], ["4", 1])
    with pytest.raises(injecting.ValueInvalidError, match="at most 1"):
        injected(workflow("lora", **LORAS), request(loras=(lora, lora)))


def test_bypassed_nodes_in_a_row_leave_one_link():
    nodes = graph_json("lora")
    nodes["20"] = {
        "class_type": "LoraLoader",
        "inputs": {**nodes["10"]["inputs"], "model": ["10", 0], "clip": ["10", 1]},
        "_meta": {"title": "second"},
    }
    nodes["3"]["inputs"]["model"] = ["20", 0]
    graph = graphs.parse(nodes)
    places = {"0": "model", "1": "clip"}
    for first, then in (("10", "20"), ("20", "10")):
        assert graph.without(first, places).without(then, places).nodes["3"].inputs["model"] == ["4", 0]


def test_an_output_that_bypass_says_nothing_of_is_reported():
    flow = workflow("lora", **{**LORAS, "bypass": {"LoraLoader": {"0": "model"}}})
    with pytest.raises(graphs.GraphError, match="takes its output 1, and `bypass` names no input in its place"):
        injected(flow)


def test_a_control_picture_goes_in_with_its_strength_or_its_nodes_go():
    flow = workflow(
        "controlnet_canny",
        inputs=[*TXT2IMG["inputs"], CONTROL],
        bypass={"ControlNetApplyAdvanced": {"0": "positive", "1": "negative"}},
    )
    control = Control(type="canny", model=ModelFiles(id="w", family="", folder=""), pixels=picture(), strength=0.4)
    asked = request(controls=(control,))
    assert set(injecting.pictures_of(flow, asked)) == {"controls.0"}
    found = injected(flow, asked, **{"controls.0": "up.png"})
    assert (found["11"]["inputs"]["image"], found["13"]["inputs"]["strength"]) == ("up.png", 0.4)
    bare = injected(flow)
    assert not {"10", "11", "12", "13"} & set(bare)
    assert bare["3"]["inputs"]["positive"] == ["6", 0]
    with pytest.raises(injecting.ValueInvalidError, match="it takes canny, each once"):
        injected(flow, request(controls=(control, control)), **{"controls.0": "up.png"})


def test_a_picture_that_is_left_out_never_leaves_the_authors_file_behind():
    image = {"name": "image", "type": "picture", "to": [{"node": "10", "input": "image"}]}
    with pytest.raises(injecting.ValueInvalidError, match="image: is required; send a picture"):
        injected(workflow("img2img", inputs=[image]))
    assert injected(workflow("img2img", inputs=[image]), request(source=picture()), image="a.png")["10"]["inputs"] == {
        "image": "a.png"
    }


def test_picture_and_mask_on_one_node_go_up_as_one_transparent_picture():
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    flow = workflow("inpaint_vae_encode", inputs=INPAINT)
    asked = request(source=picture(), mask=mask)
    (found,) = injecting.pictures_of(flow, asked).values()
    assert (found.shape, found[0, 0].tolist(), found[7, 7].tolist()) == (
        (8, 8, 4),
        [200, 200, 200, 0],
        [200, 200, 200, 255],
    )
    assert injected(flow, asked, image="both.png")["10"]["inputs"]["image"] == "both.png"
    with pytest.raises(injecting.ValueInvalidError, match="mask: is required"):
        injected(flow, request(source=picture()), image="a.png")


def test_a_mask_of_its_own_is_read_from_colour_or_from_transparency():
    nodes = graph_json("inpaint_vae_encode")
    nodes["12"] = {"class_type": "LoadImageMask", "inputs": {"image": "m.png", "channel": "red"}}
    nodes["11"]["inputs"]["mask"] = ["12", 0]
    inputs = [INPAINT[2], {**INPAINT[3], "to": [{"node": "12", "input": "image"}]}]
    mask = np.full((8, 8), 255, np.uint8)
    shapes = {}
    for channel in ("red", "alpha"):
        nodes["12"]["inputs"]["channel"] = channel
        flow = workflow("inpaint_vae_encode", inputs=inputs)
        flow = type(flow)(id="x", graph=graphs.parse(nodes), bindings=flow.bindings)
        shapes[channel] = injecting.pictures_of(flow, request(source=picture(), mask=mask))["mask"]
    assert (shapes["red"][0, 0].tolist(), shapes["alpha"][0, 0].tolist()) == ([255] * 3, [255, 255, 255, 0])


def test_several_pictures_are_one_batch_or_one_run_for_each_seed():
    batch = {"name": "num_images", "type": "integer", "to": [{"node": "5", "input": "batch_size"}]}
    asked = request(seeds=(7, 8, 9))
    assert injecting.runs_of(workflow(), asked) == tuple(Run(index=at, count=1, seed=7 + at) for at in range(3))
    flow = workflow("batch", inputs=[batch])
    (run,) = injecting.runs_of(flow, asked)
    assert injected(flow, asked, run)["5"]["inputs"]["batch_size"] == 3
    assert injected(workflow(), asked, Run(index=2, count=1, seed=9))["3"]["inputs"]["seed"] == 9


def test_nodes_that_no_output_depends_on_do_not_go_along():
    nodes = graph_json("txt2img")
    nodes["30"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["8", 0], "filename_prefix": "../x"},
        "_meta": {"title": "b"},
    }
    flow = workflow(outputs=[{"node": "9"}])
    flow = type(flow)(id="x", graph=graphs.parse(nodes), bindings=flow.bindings)
    assert "30" not in injected(flow)
