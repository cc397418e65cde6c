"""What no workflow may hold is refused when one is added and again in every graph that is run."""

import pytest

from tests.comfy.workflows.given import TXT2IMG, graph_json, request, workflow
from tintype import safety
from tintype.comfy.workflows import forbidden, graphs, injecting
from tintype.comfy.workflows.forbidden import WorkflowForbiddenError
from tintype.comfy.workflows.injecting import Run
from tintype.comfy.workflows.installed import Workflow
from tintype.safety.identity import IdentityTransferError

IMAGE = {"name": "image", "type": "picture", "to": [{"node": "LoadImage", "input": "image"}]}
MASK = {"name": "mask", "type": "mask", "to": [{"node": "LoadImage", "input": "image"}]}


def having(nodes, **parts) -> Workflow:
    return Workflow(id="x", graph=graphs.parse(nodes), bindings=workflow(**parts).bindings)


def with_node(class_type, name="txt2img", title=None, **inputs):
    nodes = graph_json(name)
    nodes["50"] = {"class_type": class_type, "inputs": inputs, "_meta": {"title": title or "added"}}
    return nodes


@pytest.mark.parametrize(
    "nodes",
    [
        with_node("ReActorFaceSwap"),
        with_node("ApplyInstantID"),
        with_node("IPAdapterFaceID"),
        with_node("Anything", title="PuLID flux"),
        with_node("Anything", model_name="inswapper_128.onnx"),
        with_node("Anything", x="models/ip-adapter-faceid-plusv2_sd15.bin"),
    ],
    ids=lambda nodes: str(nodes["50"]),
)
def test_parts_that_transfer_identity_are_refused(nodes):
    with pytest.raises(IdentityTransferError):
        forbidden.refuse_workflow(having(nodes))


def test_a_model_that_transfers_identity_is_refused_at_submit_when_a_request_names_it():
    lora = {"name": "lora", "type": "model", "folder": "loras", "to": [{"node": "10", "input": "lora_name"}]}
    flow = workflow("lora", inputs=[lora])
    forbidden.refuse_workflow(flow)
    asked = request(options={"lora": "ip-adapter-faceid_sd15_lora.safetensors"})
    graph = injecting.inject(flow, asked, Run(index=0, count=1, seed=1), pictures={}, prefix="p")
    with pytest.raises(IdentityTransferError):
        forbidden.refuse_run(flow, graph, asked)


@pytest.mark.parametrize("name", ["txt2img", "lora", "batch"])
def test_what_is_harmless_passes(name):
    flow = workflow(name, inputs=TXT2IMG["inputs"][:3])
    forbidden.refuse_workflow(flow)
    graph = injecting.inject(flow, request(), Run(index=0, count=1, seed=1), pictures={}, prefix="p")
    forbidden.refuse_run(flow, graph, request())


def test_a_file_of_the_servers_that_nobody_looked_at_is_refused_until_it_is_an_input():
    with pytest.raises(WorkflowForbiddenError, match=r"'LoadImage' \(10\) loads a file of the server's"):
        forbidden.refuse_workflow(having(graph_json("img2img")))
    forbidden.refuse_workflow(having(graph_json("img2img"), inputs=[IMAGE]))


@pytest.mark.parametrize("class_type", ["VHS_LoadVideoPath", "Image Load", "LoadImageFromUrl", "WebcamCapture"])
def test_other_ways_to_load_pictures_are_known(class_type):
    with pytest.raises(WorkflowForbiddenError, match="loads a file"):
        forbidden.refuse_workflow(having(with_node(class_type, path="x")))


@pytest.mark.parametrize("class_type", ["PythonScript", "easy python", "RunShellCommand"])
def test_nodes_that_run_programs_are_refused(class_type):
    with pytest.raises(WorkflowForbiddenError, match="runs programs"):
        forbidden.refuse_workflow(having(with_node(class_type)))


@pytest.mark.parametrize("name", ["txt2img", "controlnet_canny"])
def test_words_in_the_graph_are_read_as_what_is_drawn_or_what_is_avoided(name):
    parts = {"inputs": [IMAGE]} if name == "controlnet_canny" else {}
    nodes = graph_json(name)
    nodes["7"]["inputs"]["text"] = "nude, naked, blurry"
    forbidden.refuse_workflow(having(nodes, **parts))
    nodes["6"]["inputs"]["text"] = "a naked woman"
    with pytest.raises(safety.BlockedError):
        forbidden.refuse_workflow(having(nodes, **parts))


def test_words_that_no_sampler_is_seen_to_avoid_count_as_drawn():
    with pytest.raises(safety.BlockedError):
        forbidden.refuse_workflow(having(with_node("StringConcat", string="a naked woman")))


def test_a_mask_may_not_become_a_picture():
    with pytest.raises(WorkflowForbiddenError, match="is given a mask, and 'VAEEncode'"):
        forbidden.refuse_workflow(having(graph_json("img2img"), inputs=[MASK]))
    nodes = graph_json("inpaint_vae_encode")
    nodes["20"] = {"class_type": "LoadImageMask", "inputs": {"image": "m.png", "channel": "red"}}
    nodes["21"] = {"class_type": "MaskToImage", "inputs": {"mask": ["20", 0]}}
    nodes["11"]["inputs"] |= {"pixels": ["21", 0], "mask": ["20", 0]}
    del nodes["10"]
    mask = {**MASK, "to": [{"node": "20", "input": "image"}]}
    with pytest.raises(WorkflowForbiddenError, match="'MaskToImage'"):
        forbidden.refuse_workflow(having(nodes, inputs=[mask]))
