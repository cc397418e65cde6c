"""Files of models as a graph names them, and as a server lists them: relative to ComfyUI's folders, never absolute."""

from collections.abc import Sequence

from tintype.comfy.workflows.graphs import Graph
from tintype.comfy.workflows.node_types import NodeTypes

ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".torchscript")
FOLDERS = {
    "ckpt_name": "checkpoints",
    "vae_name": "vae",
    "lora_name": "loras",
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
}
BY_CLASS = {
    "UpscaleModelLoader": "upscale_models",
    "CLIPVisionLoader": "clip_vision",
    "PhotoMakerLoader": "photomaker",
    "LatentUpscaleModelLoader": "latent_upscale_models",
    "ADE_LoadAnimateDiffModel": "animatediff_models",
    "ADE_AnimateDiffLoaderGen1": "animatediff_models",
    "ADE_AnimateDiffLoaderWithContext": "animatediff_models",
    "ADE_AnimateDiffLoRALoader": "animatediff_motion_lora",
    "IPAdapterModelLoader": "ipadapter",
}
BUILT_IN = frozenset({"pixel_space", "taesd", "taesdxl", "taesd3", "taef1", "None"})
"""Choices among models for which no file is needed."""


def folder_of(class_type: str, name: str) -> str | None:
    """The model folder of ComfyUI's that an input of a class of nodes chooses from; None where it chooses no model."""
    if name in FOLDERS:
        return FOLDERS[name]
    return BY_CLASS.get(class_type) if name.endswith("_name") or name == "name" else None


def is_file(value: object) -> bool:
    """Whether a value reads like the name of a file with weights."""
    return isinstance(value, str) and value.lower().endswith(ENDINGS)


def resolve(wanted: str, listed: Sequence[object]) -> str | None:
    """What a server calls a file: exactly so, else with other slashes, else the one file of that base name."""
    names = [name for name in listed if isinstance(name, str)]
    if wanted in names:
        return wanted
    plain = _plain(wanted)
    for alike in (lambda name: _plain(name) == plain, lambda name: _base(name) == _base(wanted)):
        found = [name for name in names if alike(name)]
        if len(found) == 1:
            return found[0]
    return None


def resolved(graph: Graph, types: NodeTypes) -> Graph:
    """The graph with every model's file called as the server calls it, as far as it has one."""
    for node in graph.nodes.values():
        if node.class_type not in types:
            continue
        for name, kind in types[node.class_type].inputs_of(node).items():
            value = node.inputs.get(name)
            if not isinstance(value, str) or kind.choices is None or value in kind.choices:
                continue
            if (is_file(value) or folder_of(node.class_type, name)) and (there := resolve(value, kind.choices)):
                graph = graph.with_value(node.id, name, there)
    return graph


def _plain(name: str) -> str:
    return name.replace("\\", "/")


def _base(name: str) -> str:
    return _plain(name).rpartition("/")[2]
