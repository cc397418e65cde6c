"""What an exported workflow offers is found by how its nodes are connected, and becomes a model of the catalogue."""

import json

import pytest

from tests.comfy.workflows.given import graph_json, object_info, request
from tintype.catalog import manifest
from tintype.comfy.workflows import adding, checking, forbidden, graphs, injecting, installed, node_types, proposing
from tintype.comfy.workflows.adding import Answers
from tintype.comfy.workflows.injecting import Run

SDXL = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl/base.safetensors"}},
    "2": {"class_type": "PrimitiveString", "inputs": {"value": "a boat"}, "_meta": {"title": "My words"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": ["2", 0], "clip": ["1", 1]}},
    "4": {"class_type": "CLIPTextEncodeSDXL", "inputs": {"text_g": "bad", "text_l": "bad", "width": 9, "height": 9}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 1024, "height": 768, "batch_size": 1}},
    "6": {
        "class_type": "KSamplerAdvanced",
        "inputs": {
            "noise_seed": 5,
            "steps": 30,
            "cfg": 6.5,
            "sampler_name": "euler",
            "scheduler": "karras",
            "model": ["1", 0],
            "positive": ["3", 0],
            "negative": ["4", 0],
            "latent_image": ["5", 0],
        },
    },
    "7": {"class_type": "VAEDecode", "inputs": {"samples": ["6", 0], "vae": ["1", 2]}},
    "8": {"class_type": "PreviewImage", "inputs": {"images": ["7", 0]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": "x"}},
}
FLUX = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a boat"}},
    "3": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["2", 0]}},
    "4": {"class_type": "BasicGuider", "inputs": {"model": ["1", 0], "conditioning": ["3", 0]}},
    "5": {"class_type": "RandomNoise", "inputs": {"noise_seed": 4}},
    "6": {
        "class_type": "BasicScheduler",
        "inputs": {"steps": 20, "scheduler": "simple", "denoise": 1.0, "model": ["1", 0]},
    },
    "7": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 1}},
    "8": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {"noise": ["5", 0], "guider": ["4", 0], "sigmas": ["6", 0], "latent_image": ["7", 0]},
    },
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}},
}
WAN = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "wan.safetensors", "weight_dtype": "default"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "it moves"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry"}},
    "4": {"class_type": "LoadImage", "inputs": {"image": "first.png"}},
    "5": {
        "class_type": "WanImageToVideo",
        "inputs": {
            "width": 832,
            "height": 480,
            "length": 81,
            "batch_size": 1,
            "start_image": ["4", 0],
            "positive": ["2", 0],
            "negative": ["3", 0],
        },
    },
    "6": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 1,
            "steps": 20,
            "cfg": 5,
            "sampler_name": "uni_pc",
            "scheduler": "simple",
            "denoise": 1.0,
            "model": ["1", 0],
            "positive": ["5", 0],
            "negative": ["5", 1],
            "latent_image": ["5", 2],
        },
    },
    "7": {"class_type": "VAEDecode", "inputs": {"samples": ["6", 0]}},
    "8": {"class_type": "CreateVideo", "inputs": {"images": ["7", 0], "fps": 16.0}},
    "9": {
        "class_type": "SaveVideo",
        "inputs": {"video": ["8", 0], "filename_prefix": "x", "format": "mp4", "codec": "h264"},
    },
}


def propose(nodes, version=None):
    types = node_types.read(object_info(version)) if version else None
    return proposing.propose(graphs.parse(nodes), types)


def places(proposal):
    return {one.given.name: [f"{target.node}.{target.input}" for target in one.given.to] for one in proposal.inputs}


def prepared(nodes, types=None, keep=None, **answers):
    proposal = proposing.propose(graphs.parse(nodes), types)
    chosen = proposal.names(suggested=True) if keep is None else keep
    return adding.prepare(proposal, Answers(**{"id": "mine", "name": "Mine", **answers}, keep=chosen), types)


def test_prompts_are_the_texts_behind_the_samplers_two_sides():
    found = places(propose(SDXL))
    assert (found["prompt"], found["negative_prompt"]) == (["My words.value"], ["4.text_g", "4.text_l"])
    assert found["seed"] == ["6.noise_seed"]
    assert (found["width"], found["height"]) == (["5.width"], ["5.height"])
    assert (found["steps"], found["guidance_scale"]) == (["6.steps"], ["6.cfg"])
    assert (found["sampler"], found["scheduler"], found["checkpoint"]) == (
        ["6.sampler_name"],
        ["6.scheduler"],
        ["1.ckpt_name"],
    )
    assert [output.node for output in propose(SDXL).outputs] == ["9"]


def test_prompts_are_told_apart_behind_nodes_that_carry_both():
    found = places(propose(WAN))
    assert (found["prompt"], found["negative_prompt"]) == (["2.text"], ["3.text"])
    found = places(propose(graph_json("controlnet_canny")))
    assert (found["prompt"], found["negative_prompt"]) == (["positive.text"], ["7.text"])


def test_a_graph_with_a_guider_is_understood():
    found = places(propose(FLUX))
    assert (found["prompt"], found["guidance_scale"], found["steps"]) == (["2.text"], ["3.guidance"], ["6.steps"])
    assert "negative_prompt" not in found
    assert (found["seed"], found["diffusion_model"]) == (["5.noise_seed"], ["1.unet_name"])


def test_pictures_masks_and_controls_are_told_apart():
    assert places(propose(graph_json("img2img")))["image"] == ["10.image"]
    found = places(propose(graph_json("inpaint_vae_encode")))
    assert found["image"] == found["mask"] == ["10.image"]
    assert places(propose(graph_json("controlnet_canny")))["control_image"] == ["11.image"]


def test_a_server_gives_choices_and_limits():
    offered = {one.given.name: one.given for one in propose(graph_json("txt2img"), "0.33").inputs}
    assert "exp_heun_2_x0" in offered["sampler"].choices
    assert (offered["steps"].min, offered["steps"].max) == (1, 100)


@pytest.mark.parametrize(
    ("nodes", "task", "takes"),
    [
        (SDXL, "text_to_image", ["prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed"]),
        (
            graph_json("img2img"),
            "image_to_image",
            ["prompt", "num_inference_steps", "guidance_scale", "strength", "seed"],
        ),
        (WAN, "image_to_video", None),
    ],
    ids=["words", "picture", "video"],
)
def test_a_workflow_becomes_a_model_of_the_catalogue(nodes, task, takes, tmp_path):
    addition = prepared(nodes, name="My own", family="sdxl", licence="Apache-2.0")
    folder = adding.write(addition, tmp_path)
    said = manifest.read(folder / "manifest.json")
    assert (said.tasks, said.kind, said.loader, said.provider, said.draws_people) == (
        (task,),
        "workflow",
        "comfy",
        "comfyui",
        True,
    )
    assert (said.licence.id, said.licence.commercial, said.family) == ("Apache-2.0", "unknown", "sdxl")
    if takes is not None:
        assert list(said.takes) == takes
    workflow = installed.read(folder)
    assert checking.check(workflow) == []
    forbidden.refuse_workflow(workflow)
    assert "## Inputs" in (folder / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_what_was_added_can_be_filled_in(tmp_path):
    workflow = installed.read(adding.write(prepared(SDXL), tmp_path))
    asked = request(prompt="a red boat", width=640, options={"scheduler": "simple"})
    graph = injecting.inject(workflow, asked, Run(index=0, count=1, seed=3), pictures={}, prefix="tintype/r/0")
    assert (graph.nodes["2"].inputs["value"], graph.nodes["5"].inputs["width"]) == ("a red boat", 640)
    assert (graph.nodes["6"].inputs["noise_seed"], graph.nodes["6"].inputs["scheduler"]) == (3, "simple")
    assert "8" not in graph.nodes


def test_the_options_schema_and_the_defaults_are_those_of_the_graph(tmp_path):
    said = manifest.read(adding.write(prepared(graph_json("lora")), tmp_path) / "manifest.json")
    properties = said.options["properties"]
    assert properties["lora_strength"] == {
        "type": "number",
        "title": "Lora strength",
        "default": 0.8,
        "minimum": -4.0,
        "maximum": 4.0,
    }
    assert (properties["checkpoint"]["default"], properties["scheduler"]["enum"][0]) == (
        "tiny_sd15_tae.safetensors",
        "normal",
    )
    assert (said.defaults.steps, said.defaults.guidance_scale, said.defaults.negative_prompt) == (2, 7.0, "bad")
    assert said.defaults.sampler == "euler"


def test_a_picture_of_its_own_is_a_required_option(tmp_path):
    said = manifest.read(adding.write(prepared(graph_json("controlnet_canny")), tmp_path) / "manifest.json")
    assert said.tasks == ("text_to_image",)
    assert said.options["properties"]["control_image"]["format"] == "picture"
    assert said.options["required"] == ["control_image"]


def test_a_videos_length_is_the_graphs_own_and_its_limits_go_with_it(tmp_path):
    said = manifest.read(adding.write(prepared(WAN, node_types_of()), tmp_path) / "manifest.json")
    assert (said.length.frames, said.length.fps, said.length.multiple_of) == (81, 16, 4)


def node_types_of():
    info = object_info("0.33")
    for class_type in ("CreateVideo", "SaveVideo", "UNETLoader"):
        info[class_type]["input"]["required"] = {
            name: spec for name, spec in info[class_type]["input"]["required"].items() if name != "format"
        }
    info["UNETLoader"]["input"]["required"]["unet_name"] = [["wan.safetensors"]]
    info["CLIPTextEncode"]["input"]["required"].pop("clip")
    info["VAEDecode"]["input"]["required"].pop("vae")
    info["WanImageToVideo"]["input"]["required"].pop("vae")
    return node_types.read(info)


def test_catalogue_loras_take_the_place_of_the_loras_in_the_graph():
    proposal = propose(graph_json("lora"))
    addition = prepared(graph_json("lora"), keep=[*proposal.names(suggested=True), "loras"])
    names = [given.name for given in addition.workflow.bindings.inputs]
    assert "loras" in names
    assert "lora_strength" not in names
    assert addition.manifest["features"] == ["negative_prompt", "loras"]
    assert addition.manifest["limits"]["max_loras"] == 1


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"id": "My Model"}, "is no id of a model"),
        ({"id": "../up"}, "is no id of a model"),
        ({"keep": ["prompt", "colour"]}, "offers no input 'colour'; it offers prompt"),
        ({"keep": ["steps"]}, "needs a prompt or a picture among its inputs"),
        ({"limits": {"prompt": (1, 2)}}, "is no number and has no limits"),
        ({"limits": {"steps": (9, 3)}}, "cannot go from 9 to 3"),
    ],
)
def test_an_answer_that_does_not_fit_is_told_what_would(answers, says):
    with pytest.raises(adding.AnswerInvalidError) as refused:
        prepared(SDXL, **answers)
    assert says in refused.value.detail


def test_narrower_limits_hold_in_the_model_and_in_the_bindings():
    addition = prepared(SDXL, limits={"steps": (5, 25)})
    assert addition.workflow.bindings.get("steps").max == 25
    assert addition.manifest["limits"]["max_steps"] == 25


def test_an_id_that_is_taken_is_refused_and_leaves_what_is_there(tmp_path):
    folder = adding.write(prepared(SDXL), tmp_path)
    before = (folder / "workflow.json").read_text()
    with pytest.raises(adding.WorkflowThereError, match="choose another id"):
        adding.write(prepared(graph_json("img2img")), tmp_path)
    assert (folder / "workflow.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_workflow_that_saves_nothing_is_told_to():
    nodes = {name: node for name, node in SDXL.items() if name not in ("8", "9")}
    with pytest.raises(graphs.GraphError, match="end it with `Save Image`"):
        propose(nodes)
    with pytest.raises(graphs.GraphError, match="nothing in the workflow saves"):
        propose(graph_json("save_image_websocket"))


def test_a_workflow_that_may_not_or_cannot_run_is_not_added():
    nodes = json.loads(json.dumps(SDXL))
    nodes["7"]["class_type"] = "ReActorFaceSwap"
    with pytest.raises(forbidden.identity.IdentityTransferError):
        prepared(nodes)
    with pytest.raises(checking.WorkflowUnfitError, match=r"'sdxl/base\.safetensors' in the folder 'checkpoints'"):
        prepared(SDXL, node_types.read(object_info("0.33")))


def test_a_picture_that_was_not_kept_is_not_loaded_from_the_server_either():
    with pytest.raises(forbidden.WorkflowForbiddenError, match="make it an input"):
        prepared(graph_json("img2img"), keep=["prompt"])
