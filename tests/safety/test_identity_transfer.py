"""Parts that transfer identity are known by their names, in every spelling they come in; harmless names are not."""

import pytest

from tintype.safety import identity
from tintype.safety.identity import IdentityTransferError

REFUSED = [
    "ReActorFaceSwap", "ReActorBuildFaceModel", "ReActorSetWeight", "comfyui-reactor-node", "ComfyUI-ReActor",
    "reactor_face_swap", "sd-webui-reactor", "IPAdapterFaceID", "ip-adapter-faceid_sdxl.bin",
    "ip-adapter-faceid-plusv2_sd15.safetensors", "ip-adapter-plus-face_sd15.safetensors",
    "ip-adapter-full-face_sd15.safetensors", "models/instantid/ip-adapter.bin", "InstantIDFaceAnalysis",
    "ApplyInstantID", "InstantID", "PuLIDFluxApply", "ApplyPulid", "pulid_flux_v0.9.1.safetensors",
    "pulid_v1.1.safetensors", "ip-adapter_pulid_sdxl_fp16.safetensors", "inswapper_128.onnx", "inswapper_128_fp16.onnx",
    "myinswapper", "roop", "sd-webui-roop", "Roop-Unleashed", "simswap_256.onnx", "SimSwap", "facefusion-3.0",
    "FaceFusion", "InsightFaceSwap", "IPAdapterInsightFaceLoader", "face_swap", "Face Swap", "FaceSwapNode",
    "swap faces", "DeepFaceLab", "hyperswap_1a_256.onnx", "PhotoMakerLoader", "photomaker-v1.bin", "ＩｎｓｔａｎｔＩＤ",
    "换脸工作流",
]  # fmt: skip
HARMLESS = [
    "interface", "SurfaceID", "surface-id", "surface swap", "pulled pork", "metal pulido", "troops", "European group",
    "nuclear-reactor", "reactor core lora", "FaceDetailer", "face detailer", "face_yolov8m.pt",
    "UltralyticsDetectorProvider",
    "Instant Ideas", "instant film", "sd_xl_base_1.0.safetensors", "ip-adapter_sd15.safetensors", "IPAdapterApply",
    "IPAdapterModelLoader", "typeface", "preface", "faced", "LoadImage", "KSampler", "photo maker's workshop",
    "valid", "id", "head", "swap", "ModelSwap", "LatentSwap", "sketch", "control_v11p_sd15_canny", "4x-UltraSharp",
]  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_part_that_transfers_identity_is_refused(name: str):
    with pytest.raises(IdentityTransferError, match="leave it out") as refused:
        identity.refuse_identity_transfer(["KSampler", name])
    assert name[:80] in refused.value.detail


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_name_passes(name: str):
    identity.refuse_identity_transfer([name])


def test_all_that_is_refused_is_named():
    with pytest.raises(IdentityTransferError) as refused:
        identity.refuse_identity_transfer(["roop", "sketch", "simswap"])
    assert "'roop', 'simswap'" in refused.value.detail
