"""The model files that shipped workflows ask for: where each lies, its size, its source and its licence."""

from dataclasses import dataclass

GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Licence:
    """A licence as manifests name it."""

    id: str
    url: str
    commercial: str = "yes"
    gated: bool = False


@dataclass(frozen=True, kw_only=True)
class File:
    """A file in one of ComfyUI's model folders. `gigabytes` is rounded; `note` says what its source does not show."""

    folder: str
    name: str
    gigabytes: float
    source: str
    licence: Licence
    note: str = ""


HUB = "https://huggingface.co"
OPENRAIL_M = Licence(
    id="CreativeML-OpenRAIL-M", url=f"{HUB}/spaces/CompVis/stable-diffusion-license/raw/main/license.txt"
)
OPENRAIL = Licence(id="OpenRAIL", url=f"{HUB}/lllyasviel/ControlNet-v1-1")
OPENRAIL_XL = Licence(id="OpenRAIL++-M", url=f"{HUB}/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md")
APACHE = Licence(id="Apache-2.0", url="https://www.apache.org/licenses/LICENSE-2.0")
MIT = Licence(id="MIT", url="https://opensource.org/license/mit")
BSD = Licence(id="BSD-3-Clause", url="https://github.com/xinntao/Real-ESRGAN/blob/master/LICENSE")
FLUX_DEV = Licence(
    id="FLUX.1-dev-Non-Commercial",
    url=f"{HUB}/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
    commercial="no",
    gated=True,
)
STABILITY = Licence(
    id="Stability-AI-Community",
    url=f"{HUB}/stabilityai/stable-video-diffusion-img2vid-xt-1-1/blob/main/LICENSE.md",
    commercial="threshold",
    gated=True,
)
LTX = Licence(id="LTX-Video-Open-Weights", url=f"{HUB}/Lightricks/LTX-Video", commercial="threshold")
FAIR_AI = Licence(id="Fair-AI-Public-1.0-SD", url="https://freedevproject.org/faipl-1.0-sd/")


def _file(folder: str, name: str, gigabytes: float, source: str, licence: Licence, note: str = "") -> File:
    address = source if source.startswith("https:") else f"{HUB}/{source}"
    return File(folder=folder, name=name, gigabytes=gigabytes, source=address, licence=licence, note=note)


SD15 = _file(
    "checkpoints",
    "sd15/v1-5-pruned-emaonly-fp16.safetensors",
    2.13,
    "Comfy-Org/stable-diffusion-v1-5-archive",
    OPENRAIL_M,
)
SD15_INPAINTING = _file(
    "checkpoints",
    "sd15/sd-v1-5-inpainting.safetensors",
    4.27,
    "webui/stable-diffusion-inpainting",
    OPENRAIL_M,
)
SD15_VAE = _file(
    "vae", "sd15/vae-ft-mse-840000-ema-pruned.safetensors", 0.33, "stabilityai/sd-vae-ft-mse-original", MIT
)
CONTROL_V11 = "comfyanonymous/ControlNet-v1-1_fp16_safetensors"
SD15_CANNY = _file("controlnet", "sd15/control_v11p_sd15_canny_fp16.safetensors", 0.72, CONTROL_V11, OPENRAIL)
SD15_DEPTH = _file("controlnet", "sd15/control_v11f1p_sd15_depth_fp16.safetensors", 0.72, CONTROL_V11, OPENRAIL)
SD15_POSE = _file("controlnet", "sd15/control_v11p_sd15_openpose_fp16.safetensors", 0.72, CONTROL_V11, OPENRAIL)

SDXL = _file(
    "checkpoints", "sdxl/sd_xl_base_1.0.safetensors", 6.94, "stabilityai/stable-diffusion-xl-base-1.0", OPENRAIL_XL
)
SDXL_REFINER = _file(
    "checkpoints",
    "sdxl/sd_xl_refiner_1.0.safetensors",
    6.08,
    "stabilityai/stable-diffusion-xl-refiner-1.0",
    OPENRAIL_XL,
)
SDXL_INPAINTING = _file(
    "diffusion_models",
    "sdxl/stable-diffusion-xl-inpainting-0.1.fp16.safetensors",
    5.14,
    "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
    OPENRAIL_XL,
    "there it is called unet/diffusion_pytorch_model.fp16.safetensors; save it under this name",
)
SDXL_VAE = _file(
    "vae",
    "sdxl/sdxl_vae.safetensors",
    0.33,
    "madebyollin/sdxl-vae-fp16-fix",
    MIT,
    "the one of stabilityai/sdxl-vae does as well where the server computes the VAE in fp32 or bf16",
)
XINSIR = "there it is called diffusion_pytorch_model.safetensors; save it under this name"
SDXL_CANNY = _file(
    "controlnet",
    "sdxl/controlnet-canny-sdxl-1.0.safetensors",
    2.5,
    "xinsir/controlnet-canny-sdxl-1.0",
    APACHE,
    XINSIR,
)
SDXL_DEPTH = _file(
    "controlnet",
    "sdxl/controlnet-depth-sdxl-1.0.safetensors",
    2.5,
    "xinsir/controlnet-depth-sdxl-1.0",
    APACHE,
    XINSIR,
)
SDXL_POSE = _file(
    "controlnet",
    "sdxl/controlnet-openpose-sdxl-1.0.safetensors",
    2.5,
    "xinsir/controlnet-openpose-sdxl-1.0",
    APACHE,
    XINSIR,
)

FLUX_TEXT = "comfyanonymous/flux_text_encoders"
FLUX_DEV_UNET = _file("diffusion_models", "flux/flux1-dev.safetensors", 23.8, "Comfy-Org/flux1-dev", FLUX_DEV)
FLUX_SCHNELL_UNET = _file("diffusion_models", "flux/flux1-schnell.safetensors", 23.8, "Comfy-Org/flux1-schnell", APACHE)
FLUX_VAE = _file("vae", "flux/ae.safetensors", 0.34, "black-forest-labs/FLUX.1-schnell", APACHE)
CLIP_L = _file("text_encoders", "clip_l.safetensors", 0.25, FLUX_TEXT, MIT)
T5XXL = _file("text_encoders", "t5xxl_fp16.safetensors", 9.79, FLUX_TEXT, APACHE)

QWEN = "Comfy-Org/Qwen-Image_ComfyUI"
QWEN_IMAGE = _file("diffusion_models", "qwen/qwen_image_fp8_e4m3fn.safetensors", 20.4, QWEN, APACHE)
QWEN_EDIT = _file(
    "diffusion_models",
    "qwen/qwen_image_edit_2509_fp8_e4m3fn.safetensors",
    20.4,
    "Comfy-Org/Qwen-Image-Edit_ComfyUI",
    APACHE,
)
QWEN_TEXT = _file("text_encoders", "qwen_2.5_vl_7b_fp8_scaled.safetensors", 9.38, QWEN, APACHE)
QWEN_VAE = _file("vae", "qwen/qwen_image_vae.safetensors", 0.25, QWEN, APACHE)

ESRGAN = _file("upscale_models", "RealESRGAN_x4plus.safetensors", 0.07, "Comfy-Org/Real-ESRGAN_repackaged", BSD)

MOTION_V3 = _file(
    "animatediff_models",
    "mm_sd15_v3.safetensors",
    0.84,
    "conrevo/AnimateDiff-A1111",
    APACHE,
    "the weights of guoyww/animatediff v3_sd15_mm.ckpt in half precision; the original file, a pickle, works as well",
)
MOTION_V3_ADAPTER = _file(
    "loras",
    "sd15/mm_sd15_v3_adapter.safetensors",
    0.1,
    "conrevo/AnimateDiff-A1111",
    APACHE,
    "the weights of guoyww/animatediff v3_sd15_adapter.ckpt",
)
SVD = _file(
    "checkpoints",
    "svd/svd_xt_1_1.safetensors",
    4.78,
    "stabilityai/stable-video-diffusion-img2vid-xt-1-1",
    STABILITY,
)

WAN = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
WAN_TEXT_HIGH = _file("diffusion_models", "wan/wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", 14.3, WAN, APACHE)
WAN_TEXT_LOW = _file("diffusion_models", "wan/wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors", 14.3, WAN, APACHE)
WAN_IMAGE_HIGH = _file("diffusion_models", "wan/wan2.2_i2v_high_noise_14B_fp8_scaled.safetensors", 14.3, WAN, APACHE)
WAN_IMAGE_LOW = _file("diffusion_models", "wan/wan2.2_i2v_low_noise_14B_fp8_scaled.safetensors", 14.3, WAN, APACHE)
WAN_WORDS = _file(
    "text_encoders",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    6.74,
    "Comfy-Org/Wan_2.1_ComfyUI_repackaged",
    APACHE,
)
WAN_VAE = _file("vae", "wan/wan_2.1_vae.safetensors", 0.25, WAN, APACHE)

LTX_2B = _file("checkpoints", "ltx/ltx-video-2b-v0.9.5.safetensors", 6.34, "Lightricks/LTX-Video", LTX)

REALISTIC_VISION = _file(
    "checkpoints",
    "sd15/Realistic_Vision_V5.1_fp16-no-ema.safetensors",
    2.13,
    "SG161222/Realistic_Vision_V5.1_noVAE",
    OPENRAIL_M,
)
DREAMSHAPER = _file("checkpoints", "sd15/DreamShaper_8_pruned.safetensors", 2.13, "Lykon/DreamShaper", OPENRAIL_M)
COUNTERFEIT = _file("checkpoints", "sd15/Counterfeit-V3.0_fp16.safetensors", 4.24, "gsdf/Counterfeit-V3.0", OPENRAIL_M)
JUGGERNAUT = _file(
    "checkpoints",
    "sdxl/Juggernaut-XL_v9_RunDiffusionPhoto_v2.safetensors",
    7.11,
    "RunDiffusion/Juggernaut-XL-v9",
    OPENRAIL_M,
)
ANIMAGINE = _file("checkpoints", "sdxl/animagine-xl-3.1.safetensors", 6.94, "cagliostrolab/animagine-xl-3.1", FAIR_AI)
OFFSET_LORA = _file(
    "loras",
    "sdxl/sd_xl_offset_example-lora_1.0.safetensors",
    0.05,
    "stabilityai/stable-diffusion-xl-base-1.0",
    OPENRAIL_XL,
)
OF_STYLES = (REALISTIC_VISION, DREAMSHAPER, COUNTERFEIT, JUGGERNAUT, ANIMAGINE, OFFSET_LORA)
"""What styles would like to have; each does without where a server has none of it."""
