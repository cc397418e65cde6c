"""Tiny models with random weights, in the layout that downloaded ones have."""

import inspect
import json
from pathlib import Path

import diffusers
import safetensors.torch
import torch
import transformers

SIDE = 64
"""Pixels of a side: eight latents."""
TOKEN_WIDTH = 32
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "clip_sample": False,
    "set_alpha_to_one": False,
}


def write_stable_diffusion(
    folder: Path, *, in_channels: int = 4, prediction_type: str = "epsilon", **more: object
) -> None:
    """A Stable Diffusion 1.5; with nine channels the one that inpaints. `more` is for its denoiser."""
    torch.manual_seed(1)
    write_tokenizer(folder / "tokenizer")
    text_encoder().save_pretrained(folder / "text_encoder")
    unet(in_channels=in_channels, **more).save_pretrained(folder / "unet")
    vae().save_pretrained(folder / "vae")
    diffusers.DDIMScheduler(**SCHEDULER, prediction_type=prediction_type).save_pretrained(folder / "scheduler")
    _index(
        folder,
        _class_name="StableDiffusionPipeline",
        scheduler=["diffusers", "DDIMScheduler"],
        text_encoder=["transformers", "CLIPTextModel"],
        tokenizer=["transformers", "CLIPTokenizer"],
        unet=["diffusers", "UNet2DConditionModel"],
        vae=["diffusers", "AutoencoderKL"],
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )


def write_sdxl(folder: Path, *, in_channels: int = 4, is_refiner: bool = False) -> None:
    """A Stable Diffusion XL, or its refiner, which has one text encoder and is told a score."""
    torch.manual_seed(3 if is_refiner else 2)
    encoders = 1 if is_refiner else 2
    for name in ("tokenizer", "tokenizer_2")[-encoders:]:
        write_tokenizer(folder / name, pad_token="!" if name == "tokenizer_2" else "<|endoftext|>")
    if not is_refiner:
        text_encoder().save_pretrained(folder / "text_encoder")
    text_encoder(with_projection=True).save_pretrained(folder / "text_encoder_2")
    numbers = 5 if is_refiner else 6
    unet(
        in_channels=in_channels,
        is_xl=True,
        cross_attention_dim=TOKEN_WIDTH * encoders,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TOKEN_WIDTH + 8 * numbers,
        transformer_layers_per_block=(1, 2),
        use_linear_projection=True,
    ).save_pretrained(folder / "unet")
    torch.manual_seed(2)
    vae(scaling_factor=0.13025).save_pretrained(folder / "vae")
    diffusers.DDIMScheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    first = [None, None] if is_refiner else ["transformers", "CLIPTextModel"]
    _index(
        folder,
        _class_name="StableDiffusionXLImg2ImgPipeline" if is_refiner else "StableDiffusionXLPipeline",
        force_zeros_for_empty_prompt=not is_refiner,
        scheduler=["diffusers", "DDIMScheduler"],
        text_encoder=first,
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        tokenizer=[None, None] if is_refiner else ["transformers", "CLIPTokenizer"],
        tokenizer_2=["transformers", "CLIPTokenizer"],
        unet=["diffusers", "UNet2DConditionModel"],
        vae=["diffusers", "AutoencoderKL"],
        **({"requires_aesthetics_score": True} if is_refiner else {}),
    )


def unet(
    *, in_channels: int = 4, cross_attention_dim: int = TOKEN_WIDTH, is_xl: bool = False, **more: object
) -> torch.nn.Module:
    """A denoiser with one block that attends and one that does not, on either side; XL attends in the inner one."""
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    return diffusers.UNet2DConditionModel(
        sample_size=SIDE // 8,
        in_channels=in_channels,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=down[::-1] if is_xl else down,
        up_block_types=up[::-1] if is_xl else up,
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=8,
        norm_num_groups=8,
        **more,
    )


def vae(*, scaling_factor: float = 0.18215) -> torch.nn.Module:
    """An autoencoder that makes a latent of 8 × 8 pixels."""
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=SIDE,
        scaling_factor=scaling_factor,
    )


def text_encoder(*, with_projection: bool = False) -> torch.nn.Module:
    """A CLIP text encoder of three layers."""
    config = transformers.CLIPTextConfig(
        vocab_size=514,
        hidden_size=TOKEN_WIDTH,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=TOKEN_WIDTH,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    kind = transformers.CLIPTextModelWithProjection if with_projection else transformers.CLIPTextModel
    return _stirred(kind(config))


def write_tokenizer(folder: Path, *, pad_token: str = "<|endoftext|>") -> None:
    """A CLIP tokenizer that knows letters and no words."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**special, "pad_token": pad_token, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"})
    )


def write_controlnet(folder: Path, model: Path, *, seed: int) -> None:
    """A ControlNet for a model, with its last layers stirred: trained ones begin with zeros and would do nothing."""
    torch.manual_seed(seed)
    denoiser = diffusers.UNet2DConditionModel.from_pretrained(model / "unet")
    _stirred(
        diffusers.ControlNetModel.from_unet(denoiser, conditioning_embedding_out_channels=(8, 8, 16, 16))
    ).save_pretrained(folder)


def write_union(folder: Path, model: Path, *, seed: int) -> None:
    """A union of many ControlNets for an SDXL, stirred like the plain ones."""
    torch.manual_seed(seed)
    denoiser = diffusers.UNet2DConditionModel.from_pretrained(model / "unet")
    own = inspect.signature(diffusers.ControlNetUnionModel).parameters
    shape = {name: value for name, value in denoiser.config.items() if name in own}
    first = denoiser.config["block_out_channels"][0]
    union = diffusers.ControlNetUnionModel(
        **{
            **shape,
            "conditioning_embedding_out_channels": (8, 8, 16, 16),
            "num_trans_channel": first,
            "num_proj_channel": first,
            "num_trans_head": 2,
        }
    )
    _stirred(union).save_pretrained(folder)


def write_adapter(folder: Path, *, seed: int, is_xl: bool) -> None:
    """A T2I-Adapter for the tiny denoisers."""
    torch.manual_seed(seed)
    kind = "full_adapter_xl" if is_xl else "full_adapter"
    diffusers.T2IAdapter(
        in_channels=3,
        channels=[32, 64],
        num_res_blocks=1,
        downscale_factor=16 if is_xl else 8,
        adapter_type=kind,
    ).save_pretrained(folder)


def write_style_adapter(folder: Path, model: Path, *, is_plus: bool = False) -> None:
    """A style adapter for a model, with its image encoder."""
    torch.manual_seed(9)
    config = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
        projection_dim=24,
    )
    _stirred(transformers.CLIPVisionModelWithProjection(config)).save_pretrained(folder / "image_encoder")
    denoiser = diffusers.UNet2DConditionModel.from_pretrained(model / "unet")
    width = denoiser.config.cross_attention_dim
    tensors = {}
    layers = [name for name in denoiser.attn_processors if name.endswith("attn2.processor")]
    for index, name in enumerate(layers):
        channels = denoiser.get_submodule(name.removesuffix(".processor")).to_k.out_features
        for kind in ("k", "v"):
            tensors[f"ip_adapter.{2 * index + 1}.to_{kind}_ip.weight"] = torch.randn(channels, width)
    if is_plus:
        tensors |= {f"image_proj.{name}": value for name, value in _plus_projection(width).items()}
    else:
        tensors["image_proj.proj.weight"] = torch.randn(4 * width, 24) / 5
        tensors["image_proj.proj.bias"] = torch.randn(4 * width) / 5
        tensors["image_proj.norm.weight"] = 1 + torch.randn(width) / 5
        tensors["image_proj.norm.bias"] = torch.randn(width) / 5
    safetensors.torch.save_file(tensors, folder / "adapter.safetensors")


def write_learned_word(folder: Path, *, count: int) -> None:
    """Vectors for a word, as AUTOMATIC1111's web UI writes them."""
    torch.manual_seed(count)
    folder.mkdir()
    safetensors.torch.save_file({"emb_params": torch.randn(count, TOKEN_WIDTH)}, folder / "learned.safetensors")


def write_lora(folder: Path, model: Path, *, seed: int) -> None:
    """A LoRA for the attentions of a model's denoiser and its text encoder, as kohya's scripts write them."""
    torch.manual_seed(seed)
    denoiser = diffusers.UNet2DConditionModel.from_pretrained(model / "unet")
    encoder = transformers.CLIPTextModel.from_pretrained(model / "text_encoder")
    layers = {
        f"lora_unet_{name}": layer for name, layer in denoiser.named_modules() if name.endswith(("to_q", "to_v"))
    } | {f"lora_te_text_model_{name}": layer for name, layer in encoder.named_modules() if name.endswith("q_proj")}
    tensors = {}
    for name, layer in layers.items():
        written = name.replace(".", "_")
        tensors[f"{written}.lora_down.weight"] = torch.randn(4, layer.in_features) / 4
        tensors[f"{written}.lora_up.weight"] = torch.randn(layer.out_features, 4) / 4
        tensors[f"{written}.alpha"] = torch.tensor(4.0)
    folder.mkdir()
    safetensors.torch.save_file(tensors, folder / "lora.safetensors")


def _plus_projection(width: int) -> dict[str, torch.Tensor]:
    """As the files of that kind name the weights of their perceiver: heads are always 64 wide."""
    inner, tokens, heads = 32, 6, 64
    shapes = {
        "latents": (1, tokens, inner),
        "proj_in.weight": (inner, 32),
        "proj_in.bias": (inner,),
        "proj_out.weight": (width, inner),
        "proj_out.bias": (width,),
        "norm_out.weight": (width,),
        "norm_out.bias": (width,),
    }
    for layer in range(4):
        shapes |= {
            f"layers.{layer}.0.norm1.weight": (inner,),
            f"layers.{layer}.0.norm1.bias": (inner,),
            f"layers.{layer}.0.norm2.weight": (inner,),
            f"layers.{layer}.0.norm2.bias": (inner,),
            f"layers.{layer}.0.to_q.weight": (heads, inner),
            f"layers.{layer}.0.to_kv.weight": (2 * heads, inner),
            f"layers.{layer}.0.to_out.weight": (inner, heads),
            f"layers.{layer}.1.0.weight": (inner,),
            f"layers.{layer}.1.0.bias": (inner,),
            f"layers.{layer}.1.1.weight": (4 * inner, inner),
            f"layers.{layer}.1.3.weight": (inner, 4 * inner),
        }
    return {name: torch.randn(shape) / 4 for name, shape in shapes.items()}


def _stirred(network: torch.nn.Module) -> torch.nn.Module:
    """The same with weights that make a difference: what starts as zeros or nearly so would hide mistakes."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def _index(folder: Path, **entries: object) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_diffusers_version": diffusers.__version__, **entries}))
