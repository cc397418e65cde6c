"""Tiny diffusion transformers with random weights, saved as folders that load like the real ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import tokenizers
import torch
import transformers
from tokenizers import pre_tokenizers, trainers

from tintype.engine.families import qwen_image

TALK = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LONGEST_TEXT = {"flux": 24, "flux2_klein": 40}
"""What texts are filled up to where that is always the same: a short time for a test, longer than its prompts."""


def build(folder: Path, family: str, **changes: Any) -> Path:
    """The folder of a tiny model of this family, made if it is not there yet; `changes` go to its transformer."""
    torch.manual_seed(7)
    name = "-".join([family, *(f"{name}={value}" for name, value in changes.items())])
    made = folder / name
    if not made.exists():
        PIPELINES[family](changes).save_pretrained(made)
    return made


def build_control(folder: Path, family: str, **changes: Any) -> Path:
    """The folder of a tiny ControlNet for the family's tiny model."""
    torch.manual_seed(11)
    made = folder / "-".join(["control", family, *(f"{name}={value}" for name, value in changes.items())])
    if not made.exists():
        kind, settings = CONTROLS[family]
        network = kind(**{**settings, **changes})
        for parameter in network.parameters():
            if not parameter.any():  # layers that training starts from nothing
                torch.nn.init.normal_(parameter, std=0.2)
        network.save_pretrained(made)
    return made


def _flux(changes: Mapping[str, Any]) -> Any:
    text = _clip_tokenizer()
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
        vae=_autoencoder(),
        text_encoder=transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=len(text),
                hidden_size=32,
                intermediate_size=37,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=77,
                projection_dim=32,
                bos_token_id=text.bos_token_id,
                eos_token_id=text.eos_token_id,
            )
        ),
        tokenizer=text,
        text_encoder_2=transformers.T5EncoderModel(
            transformers.T5Config(vocab_size=256, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
        ),
        tokenizer_2=_t5_tokenizer(LONGEST_TEXT["flux"]),
        transformer=diffusers.FluxTransformer2DModel(**{**FLUX, **changes}),
    )


def _flux2_klein(changes: Mapping[str, Any]) -> Any:
    text = _qwen_tokenizer(LONGEST_TEXT["flux2_klein"])
    vae = diffusers.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2.0)
    return diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae,
        text_encoder=transformers.Qwen3ForCausalLM(_qwen3(text, layers=28)),
        tokenizer=text,
        transformer=diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * 16,
            timestep_guidance_channels=256,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        **changes,
    )


def _qwen_image(changes: Mapping[str, Any]) -> Any:
    text = _qwen_tokenizer(4096)
    return diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=12,
            z_dim=4,
            dim_mult=[1, 2, 2],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.1, -0.2, 0.3, -0.4],
            latents_std=[1.5, 0.8, 2.0, 1.1],
        ),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(_qwen_sees(text)),
        tokenizer=text,
        transformer=diffusers.QwenImageTransformer2DModel(**{**QWEN_IMAGE, **changes}),
    )


def _z_image(changes: Mapping[str, Any]) -> Any:
    text = _qwen_tokenizer(4096)
    transformer = diffusers.ZImageTransformer2DModel(
        **{
            "in_channels": 4,
            "dim": 32,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 16,
            "axes_dims": [4, 6, 6],
            "axes_lens": [1024, 64, 64],
            **changes,
        }
    )
    torch.nn.init.normal_(transformer.x_pad_token)
    torch.nn.init.normal_(transformer.cap_pad_token)
    return diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_autoencoder(),
        text_encoder=transformers.Qwen3Model(_qwen3(text, layers=3)),
        tokenizer=text,
        transformer=transformer,
    )


def _autoencoder() -> Any:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    )


def _qwen3(text: Any, *, layers: int) -> Any:
    return transformers.Qwen3Config(
        vocab_size=len(text),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
    )


def _qwen_sees(text: Any) -> Any:
    words = {
        "vocab_size": len(text),
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": 0,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2], "rope_type": "default"},
    }
    sight = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "out_hidden_size": 16,
        "fullatt_block_indexes": [0],
    }
    return transformers.Qwen2_5_VLConfig(text_config=words, vision_config=sight)


def _qwen_tokenizer(longest: int) -> Any:
    """Learned from the one text it has to read in few tokens."""
    learned = tokenizers.Tokenizer(tokenizers.models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=MARKS, show_progress=False)
    learned.train_from_iterator([qwen_image.TEMPLATE] * 3, trainer)
    model = json.loads(learned.to_str())["model"]
    return transformers.Qwen2TokenizerFast(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        model_max_length=longest,
        additional_special_tokens=MARKS[1:],
        chat_template=TALK,
    )


def _clip_tokenizer() -> Any:
    letters = pre_tokenizers.ByteLevel.alphabet()
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={name: index for index, name in enumerate(names)}, merges=[], model_max_length=77
    )


def _t5_tokenizer(longest: int) -> Any:
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in letters)]
    return transformers.T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=longest)


PIPELINES = {"flux": _flux, "flux2_klein": _flux2_klein, "qwen_image": _qwen_image, "z_image": _z_image}
FLUX = {
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 32,
    "guidance_embeds": True,
    "axes_dims_rope": (4, 4, 8),
}
QWEN_IMAGE = {
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 16,
    "axes_dims_rope": (4, 6, 6),
}
CONTROLS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "flux": (diffusers.FluxControlNetModel, {**FLUX, "num_single_layers": 1, "guidance_embeds": False}),
    "qwen_image": (diffusers.QwenImageControlNetModel, {**QWEN_IMAGE, "num_layers": 1}),
    "z_image": (
        diffusers.ZImageControlNetModel,
        {
            "control_layers_places": [0, 1],
            "control_refiner_layers_places": [0],
            "control_in_dim": 6,
            "add_control_noise_refiner": "control_noise_refiner",
            "dim": 32,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
        },
    ),
}
