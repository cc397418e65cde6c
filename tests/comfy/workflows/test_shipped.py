"""The workflows that ship with Tintype: whole, true to what a real server says of its nodes, and told in words."""

import copy
import dataclasses
import json
from typing import Any

import pytest

from scripts import write_workflows
from scripts.workflows import files, pages
from tests.comfy.workflows import given, shipped
from tintype.catalog import operations as catalog
from tintype.catalog import styles
from tintype.catalog.operations import Catalogue
from tintype.comfy.workflows import checking, choosing, forbidden, injecting, model_names, node_types, schema
from tintype.comfy.workflows.node_types import NodeTypes
from tintype.generations import companions
from tintype.generations.schemas import ImageCreate
from tintype.providers.contract import GenerationRequest

MAKES_VIDEOS = ("text_to_video", "image_to_video")
every = pytest.mark.parametrize("workflow_id", shipped.IDS)


def test_there_is_one_for_everything_that_is_promised():
    both = {
        f"comfy-{family}{ending}"
        for family in ("sd15", "sdxl")
        for ending in (
            *("", "-hires", "-image", "-inpaint", "-inpaint-model", "-outpaint"),
            *("-canny", "-depth", "-pose", "-controls"),
        )
    }
    others = {"sdxl-refiner", "flux-dev", "flux-schnell", "qwen-image", "qwen-image-edit", "upscale"}
    videos = {"animatediff", "animatediff-long", "svd", "wan-text", "wan-image", "ltx-text", "ltx-image"}
    assert set(shipped.IDS) == both | {f"comfy-{name}" for name in others | videos}


def test_the_files_are_what_the_pieces_make():
    written = dict(write_workflows.files())
    for path, text in written.items():
        assert path.read_text() == text, f"{path}: run `.venv/bin/python scripts/write_workflows.py`"
    assert {path for path in write_workflows.SHIPPED.rglob("*") if path.is_file()} == {
        path for path in written if path != write_workflows.PAGE
    }


@every
def test_every_input_goes_to_a_node_and_an_input_that_exist(workflow_id):
    found = shipped.workflow(workflow_id)
    for one in found.bindings.inputs:
        for target in one.targets:
            assert target.input in found.graph.find(target.node).inputs, f"{one.name} to {target}"
    for name, places in found.bindings.bypass.items():
        assert set(places.values()) <= set(found.graph.find(name).inputs)
    for output in found.bindings.outputs:
        assert shipped.object_info()[found.graph.find(output.node).class_type]["output_node"]


@every
def test_the_manifest_says_what_the_bindings_take(workflow_id):
    said, found = shipped.manifest_of(workflow_id), shipped.workflow(workflow_id)
    assert (said.id, said.provider, said.loader, said.kind) == (workflow_id, "comfyui", "comfy", "workflow")
    bound = {one.name: one for one in found.bindings.inputs}
    assert set(said.options.get("properties", {})) == {name for name in bound if name not in schema.FIELDS}
    assert set(said.features) == {name for name in ("negative_prompt", "loras", "controls") if name in bound}
    if "sampler" in bound:
        assert bound["sampler"].choices == said.samplers
    if "controls" in bound:
        assert tuple(slot.type for slot in bound["controls"].slots) == said.controls
    kinds = {output.kind for output in found.bindings.outputs}
    assert kinds == ({"videos"} if said.tasks[0] in MAKES_VIDEOS else {"pictures"})


@every
def test_nothing_is_wrong_with_it_on_a_server_that_has_its_nodes_and_models(workflow_id):
    assert checking.check(shipped.workflow(workflow_id), shipped.types()) == []


@every
@pytest.mark.parametrize("size", ["smallest", "largest"])
def test_a_real_servers_nodes_take_the_smallest_and_the_largest_request(workflow_id, size, tmp_path):
    request = shipped.smallest(workflow_id) if size == "smallest" else shipped.largest(workflow_id, tmp_path)
    types = _with_loras(request) if request.loras else shipped.types()
    graph = shipped.inject(shipped.workflow(workflow_id), request)
    forbidden.refuse_run(shipped.workflow(workflow_id), graph, request)
    assert checking.check_graph(model_names.resolved(graph, types), types) == []
    for node in graph.nodes.values():
        assert set(node.inputs) <= set(types[node.class_type].inputs), f"{node.title} has inputs that nobody reads"
    always = sum(one.name == "adapter_weight" for one in shipped.workflow(workflow_id).bindings.inputs)
    loaders = [node for node in graph.nodes.values() if node.class_type.startswith("LoraLoader")]
    assert len(loaders) == len(request.loras) + always


def _with_loras(request: GenerationRequest) -> NodeTypes:
    """The real server's nodes, as if the LoRAs of a request lay in its folder."""
    said = copy.deepcopy(shipped.object_info())
    for name in ("LoraLoader", "LoraLoaderModelOnly"):
        said[name]["input"]["required"]["lora_name"][0] += [injecting.file_of(lora.model) for lora in request.loras]
    return node_types.read(said)


@every
@pytest.mark.parametrize("what", ["a class", "a model", "an input"])
def test_what_a_server_lacks_is_named_before_anything_is_queued(workflow_id, what):
    found, said = shipped.workflow(workflow_id), copy.deepcopy(shipped.object_info())
    model = found.bindings.requires.models[0].name
    gone = next(node for node in found.graph.nodes.values() if node.class_type != "SaveImage")
    if what == "a class":
        del said[gone.class_type]
    elif what == "a model":
        said = json.loads(json.dumps(said).replace(json.dumps(model), '"another.safetensors"'))
    else:
        said[gone.class_type]["input"]["required"]["wheel"] = ["WHEEL"]
    problems = checking.check(found, node_types.read(said))
    named = {"a class": gone.class_type, "a model": model, "an input": "wheel"}[what]
    assert any(named in problem.message for problem in problems)


@every
def test_nothing_in_it_is_forbidden(workflow_id):
    forbidden.refuse_workflow(shipped.workflow(workflow_id))


@every
def test_nothing_of_one_family_is_in_a_workflow_of_the_other(workflow_id):
    family = shipped.manifest_of(workflow_id).family
    own = {"stable_diffusion": "sd15/", "sdxl": "sdxl/"}
    text = "".join(
        (shipped.folder(workflow_id) / name).read_text() for name in ("workflow.json", "bindings.json", "manifest.json")
    )
    for other in set(own) - {family}:
        assert own[other] not in text
    if family != "sdxl":
        assert "SDXL" not in text.upper()


@every
def test_models_are_named_relative_to_the_folders_of_models(workflow_id):
    found = shipped.workflow(workflow_id)
    needed = {(model.folder, model.name) for model in found.bindings.requires.models}
    assert needed
    for _, name in needed:
        assert not name.startswith("/")
        assert ".." not in name
        assert ":" not in name
    named = {value for node in found.graph.nodes.values() for value in node.inputs.values() if _is_weights(value)}
    assert named == {name for _, name in needed}


def _is_weights(value: object) -> bool:
    return isinstance(value, str) and value.endswith(".safetensors")


@every
def test_the_readme_names_every_node_package_model_and_licence(workflow_id):
    found, text = shipped.workflow(workflow_id), (shipped.folder(workflow_id) / "README.md").read_text()
    for node in found.graph.nodes.values():
        assert f"| {node.title} | `{node.class_type}` | {pages.package_of(node.class_type)} |" in text
    for one in found.bindings.inputs:
        assert f"| {one.name} |" in text or f"| *{one.name}* |" in text
    for model in found.bindings.requires.models:
        assert f"`{model.folder}/{model.name}`" in text
    assert shipped.manifest_of(workflow_id).licence.id in text
    assert {"## Inputs", "## Nodes", "## Models", "## Known limits", "## Checked"} <= set(text.splitlines())


def test_packages_are_those_that_the_server_loaded_the_nodes_from():
    for kind, said in shipped.object_info().items():
        module = said["python_module"]
        own = module == "nodes" or module.startswith("comfy_extras.")
        assert pages.package_of(kind) == (pages.CORE if own else module.removeprefix("custom_nodes."))


def test_they_are_models_where_comfyui_is_set_up_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_URL", raising=False)
    assert set(Catalogue(tmp_path).models()) == {"sketch"}
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:8188")
    models = Catalogue(tmp_path).models()
    assert set(models) == {"sketch", *shipped.IDS}
    assert all(models[name].can_draw_people for name in shipped.IDS)


@pytest.mark.parametrize("style_id", ["realism", "lux", "anime", "chatgpt"])
@pytest.mark.parametrize("workflow_id", ["comfy-sd15", "comfy-sdxl", "comfy-sdxl-hires", "comfy-animatediff"])
def test_a_style_chooses_words_checkpoint_and_sampling_of_the_family(style_id, workflow_id, tmp_path):
    said, found, style = shipped.manifest_of(workflow_id), shipped.workflow(workflow_id), styles.get(style_id)
    assert said.defaults
    prompt, negative = styles.apply(style, said.family, "a cat", "")
    assert prompt.startswith("a cat, ")
    assert negative
    defaults, options = styles.run(style, said, said.defaults, {})
    assert defaults.sampler in said.samplers
    own = "sd15/" if said.family == "stable_diffusion" else "sdxl/"
    names = [one.strip() for name in ("checkpoint", "style_lora") for one in options.get(name, "none").split("|")]
    assert all(name == choosing.NONE or name.startswith(own) for name in names)
    assert set(options) <= set(said.options["properties"])
    request = given.request(options=options, sampler=defaults.sampler, steps=defaults.steps)
    everything = {file.name for file in files.OF_STYLES} | {files.SD15.name, files.SDXL.name}
    drawn = shipped.inject(found, choosing.choose(found, request, lambda folder: everything))
    assert checking.check_graph(drawn, shipped.types()) == []
    assert drawn.find("Checkpoint").inputs["ckpt_name"] == options["checkpoint"].split(" | ")[0]


def test_a_server_without_a_styles_models_draws_with_those_it_has():
    said, found = shipped.manifest_of("comfy-sdxl"), shipped.workflow("comfy-sdxl")
    assert said.defaults
    _, options = styles.run(styles.get("lux"), said, said.defaults, {})
    request = given.request(options=options)
    graph = shipped.inject(found, choosing.choose(found, request, lambda folder: {"flat/sd_xl_base_1.0.safetensors"}))
    assert graph.find("Checkpoint").inputs["ckpt_name"] == files.SDXL.name
    assert "Style LoRA" not in {node.title for node in graph.nodes.values()}
    graph = shipped.inject(found, choosing.choose(found, request, lambda folder: ()))
    assert graph.find("Checkpoint").inputs["ckpt_name"] == files.JUGGERNAUT.name


def test_who_chooses_a_checkpoint_gets_the_styles_words_alone():
    said = shipped.manifest_of("comfy-sdxl")
    assert said.defaults
    own: dict[str, Any] = {"checkpoint": "sdxl/mine.safetensors"}
    assert styles.run(styles.get("anime"), said, said.defaults, own) == (said.defaults, own)
    inpainting = shipped.manifest_of("comfy-sdxl-inpaint-model")
    assert inpainting.defaults
    assert styles.run(styles.get("anime"), inpainting, inpainting.defaults, {}) == (inpainting.defaults, {})


def test_each_control_alone_and_all_together_leave_only_their_own_nodes(tmp_path):
    found = shipped.workflow("comfy-sd15-controls")
    whole = shipped.largest("comfy-sd15-controls", tmp_path)
    for control in whole.controls:
        alone = shipped.inject(found, given.request(controls=(control,), sampler="euler"))
        applied = [node.title for node in alone.nodes.values() if node.class_type == "ControlNetApplyAdvanced"]
        assert applied == [f"Apply {control.type}"]
        assert sum(node.class_type == "LoadImage" for node in alone.nodes.values()) == 1
    together = shipped.inject(found, whole)
    assert sum(node.class_type == "ControlNetApplyAdvanced" for node in together.nodes.values()) == 3


def test_a_drawing_is_used_as_it_is_and_needs_no_package_that_would_make_one():
    found = shipped.workflow("comfy-sdxl-pose")
    control = shipped.smallest("comfy-sdxl-pose").controls[0]
    for is_ready in (True, False):
        graph = shipped.inject(found, given.request(controls=(dataclasses.replace(control, is_ready=is_ready),)))
        packages = {pages.package_of(node.class_type) for node in graph.nodes.values()}
        assert packages == ({pages.CORE} if is_ready else {pages.CORE, "comfyui_controlnet_aux"})
        assert checking.check_graph(graph, shipped.types()) == []


def test_a_workflow_with_a_controlnet_of_its_own_takes_controls_where_none_is_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_URL", "http://127.0.0.1:8188")
    models = Catalogue(tmp_path).models()
    asked = {"type": "pose", "image": "0" * 8 + "-0000" * 3 + "-" + "0" * 12}
    request = ImageCreate.model_validate({"prompt": "a dancer", "controls": [asked]})
    said = models["comfy-sd15-pose"].manifest
    assert list(companions.problems(request, said, models)) == []
    places = {("body", "controls", 0, "image"): "a picture"}
    assert companions.chosen(request, said, models, places)["controls"][0]["model"] == "comfy-sd15-pose"
    first = next(companions.problems(request, models["comfy-sd15-canny"].manifest, models))
    assert "no ControlNet for 'pose'" in first.msg


def test_the_shipped_folder_is_part_of_the_package():
    assert catalog.WORKFLOWS == write_workflows.SHIPPED
