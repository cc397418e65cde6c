"""Folders of tiny detectors, made for tests: colours stand for what a real one would look for."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tintype.catalog import manifest
from tintype.catalog.manifest import Manifest

RED, GREEN, GREY = (255, 0, 0), (0, 255, 0), (128, 128, 128)


def plain(height: int, width: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, dtype=np.uint8)


def with_patch(height: int, width: int, *, size: int, top: int, left: int) -> NDArray[np.uint8]:
    """A green picture with a red square in it."""
    pixels = plain(height, width, GREEN)
    pixels[top : top + size, left : left + size] = RED
    return pixels


def listed(folder: Path, description: dict[str, Any]) -> Manifest:
    """Write `detector.json` and a manifest of all that lies in `folder`."""
    (folder / "detector.json").write_text(json.dumps(description))
    return relisted(folder)


def relisted(folder: Path) -> Manifest:
    """Write the manifest of all that lies in `folder` now."""
    (folder / "manifest.json").unlink(missing_ok=True)
    files = [
        {
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    content = {
        "id": "stand-in",
        "name": "Stand-in",
        "description": "Colours stand for classes.",
        "kind": "detector",
        "family": "stand-in",
        "tasks": [],
        "files": files,
        "licence": {"id": "Apache-2.0", "commercial": "yes"},
        "prompt_languages": [],
        "draws_people": False,
    }
    (folder / "manifest.json").write_text(json.dumps(content))
    return manifest.read(folder / "manifest.json")


def classifier(folder: Path, **changes: Any) -> Manifest:
    """A real ViT whose weights are set by hand: the more of a picture is red, the surer it is of `nsfw`.

    Its layers add nothing to what each patch says: the value projection is zero, and so is the second half of each
    MLP. The class token starts as zero and sees the patches through one averaging attention in the first layer.
    """
    folder.mkdir(exist_ok=True)
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        image_size=32,
        patch_size=8,
        id2label={0: "normal", 1: "nsfw"},
        label2id={"normal": 0, "nsfw": 1},
    )
    network = transformers.ViTForImageClassification(config)
    weights = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    # Feature 0: red minus green of a patch, in -2..2; feature 1 its opposite, so that the mean is 0.
    patch = weights["vit.embeddings.patch_embeddings.projection.weight"]
    for feature, sign in ((0, 1), (1, -1)):
        patch[feature, 0], patch[feature, 1] = sign / 64, -sign / 64
    for name in ("layernorm_before", "layernorm_after"):
        weights[f"vit.layers.0.{name}.weight"].fill_(1)
    weights["vit.layernorm.weight"].fill_(1)
    weights["vit.layers.0.attention.v_proj.weight"] += torch.eye(8)
    weights["vit.layers.0.attention.o_proj.weight"] += torch.eye(8)
    # A little of a constant feature keeps the last normalisation from turning any trace of red into certainty.
    weights["vit.embeddings.cls_token"][..., 2:4] = torch.tensor([1.0, -1.0])
    weights["classifier.weight"][1, 0], weights["classifier.weight"][0, 1] = 3, 3
    network.load_state_dict(weights)
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing(32)))
    description = {"adapter": "image_classifier", "labels": {"normal": None, "nsfw": "sexual"}}
    return listed(folder, description | changes)


def preprocessing(side: int) -> dict[str, Any]:
    """A preprocessor_config.json as ViT classifiers on the Hub have it."""
    return {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "image_processor_type": "ViTImageProcessor",
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": side, "width": side},
    }


def graph(folder: Path, nodes: list[Any], constants: dict[str, NDArray[Any]], **shapes: Any) -> None:
    """Write `model.onnx`: input `picture` of shape `takes`, outputs named in `gives` with their shapes."""
    folder.mkdir(exist_ok=True)
    built = helper.make_graph(
        nodes,
        "stand-in",
        [helper.make_tensor_value_info("picture", shapes.get("kind", TensorProto.FLOAT), shapes["takes"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes["gives"].items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def onnx_classifier(folder: Path, *, batch: int | str = "pictures", **changes: Any) -> Manifest:
    """A classifier in ONNX: logit `nsfw` is 8 times (mean red minus mean green), of values in -1..1."""
    weights = np.array([[8, 0], [-8, 0], [0, 0]], dtype=np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["picture", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], ["logits"]),
    ]
    constants = {"weights": weights, "axes": np.array([2, 3], dtype=np.int64)}
    graph(folder, nodes, constants, takes=[batch, 3, 32, 32], gives={"logits": [batch, 2]})
    description = {
        "adapter": "onnx_classifier",
        "file": "model.onnx",
        "input": {"width": 32, "height": 32, "resample": "bicubic", "mean": [0.5] * 3, "deviation": [0.5] * 3},
        "activation": "softmax",
        "classes": ["NSFW", "SFW"],
        "labels": {"NSFW": "sexual", "SFW": None},
    }
    return listed(folder, description | changes)


FORMS: dict[str, dict[str, Any]] = {
    "rows": {"form": "rows", "output": "rows"},
    "turned rows": {"form": "rows", "output": "turned", "transposed": True},
    "queries": {"form": "queries", "boxes": "parts", "scores": "logits", "activation": "sigmoid"},
    "grid": {"form": "grid", "output": "cells", "strides": [8]},
    "yunet": {"form": "yunet", "strides": [8]},
}
"""The same boxes in every form that detectors give them."""


def boxes(folder: Path, form: str = "rows", *, batch: int | str = "pictures", **changes: Any) -> Manifest:
    """A finder of red: each of the 16 cells of its 32 x 32 input is a box that scores as much as it is red."""
    rows, columns = np.mgrid[0:4, 0:4].reshape(2, 1, 16, 1).astype(np.float32)
    eights = np.full((1, 16, 1), 8, np.float32)
    centres = np.concatenate([columns * 8 + 4, rows * 8 + 4, eights, eights], axis=2)
    offsets = np.tile(np.array([0.5, 0.5, 0, 0], np.float32), (1, 16, 1))
    nodes = [
        helper.make_node("Conv", ["picture", "redness"], ["cells_red"], strides=[8, 8]),
        helper.make_node("Clip", ["cells_red", "zero", "one"], ["clipped"]),
        helper.make_node("Reshape", ["clipped", "as_rows"], ["scores"]),
        # 0 times the scores gives every picture of a batch its own copy of the constant boxes.
        helper.make_node("Mul", ["scores", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "one"], ["objectness"]),
        helper.make_node("Add", ["nothing", "centres"], ["centres_each"]),
        helper.make_node("Add", ["nothing", "offsets"], ["bbox_8"]),
        helper.make_node("Concat", ["centres_each", "scores"], ["rows"], axis=2),
        helper.make_node("Transpose", ["rows"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Div", ["centres_each", "side"], ["parts"]),
        helper.make_node("Mul", ["scores", "twelve"], ["stretched"]),
        helper.make_node("Sub", ["stretched", "six"], ["logits"]),
        helper.make_node("Concat", ["bbox_8", "objectness", "scores"], ["cells"], axis=2),
        helper.make_node("Identity", ["scores"], ["cls_8"]),
        helper.make_node("Identity", ["scores"], ["obj_8"]),
    ]
    redness = np.zeros((1, 3, 8, 8), np.float32)
    redness[0, 0], redness[0, 1] = 1 / 64, -1 / 64
    numbers = {"zero": 0, "one": 1, "side": 32, "twelve": 12, "six": 6}
    constants = {name: np.array(value, np.float32) for name, value in numbers.items()}
    constants |= {"centres": centres, "offsets": offsets, "redness": redness, "as_rows": np.array([-1, 16, 1])}
    gives = {"rows": 5, "parts": 4, "logits": 1, "cells": 6, "cls_8": 1, "obj_8": 1, "bbox_8": 4}
    shapes = {name: [batch, 16, last] for name, last in gives.items()} | {"turned": [batch, 5, 16]}
    graph(folder, nodes, constants, takes=[batch, 3, 32, 32], gives=shapes)
    description = {
        "adapter": "onnx_boxes",
        "file": "model.onnx",
        "input": {"width": 32, "height": 32, "fit": "letterbox", "resample": "box"},
        "output": FORMS[form],
        "classes": ["person"],
        "labels": {"person": "person"},
    }
    return listed(folder, description | changes)


CATEGORIES: dict[str, str | None] = {
    "Violent": None,
    "Non-violent Illegal Acts": None,
    "Sexual Content or Sexual Acts": "sexual",
    "PII": None,
    "Suicide & Self-Harm": None,
    "Unethical Acts": None,
    "Politically Sensitive Topics": None,
    "Copyright Violation": None,
    "Jailbreak": None,
}
"""What Qwen3Guard tells apart."""

TEMPLATE = (
    "{%- for message in messages %}<|im_start|>{{ message.role }}\nJudge this:\n\nUSER: {{ message.content }}\n\n"
    "The end.<|im_end|>\n{%- endfor %}<|im_start|>assistant\n"
)


def guard(folder: Path, **changes: Any) -> Manifest:
    """A tiny Qwen3 with random weights and a tokenizer of single bytes: it answers, but nothing of sense."""
    folder.mkdir(exist_ok=True)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    marks = ["<|im_start|>", "<|im_end|>"]
    own = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={token: index for index, token in enumerate(alphabet)}, merges=[])
    )
    own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=own, eos_token=marks[1], pad_token=marks[1])
    tokenizer.add_special_tokens({"additional_special_tokens": [marks[0]]})
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(4)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
    description = {"adapter": "text_classifier", "labels": CATEGORIES, "answer_tokens": 16, "piece_tokens": 64}
    return listed(folder, description | {"overlap_tokens": 16} | changes)
