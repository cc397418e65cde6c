"""Settings read back out of files as other tools write them, and nothing but silence out of broken ones."""

import io
import json
import random
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tintype.media import encoding
from tintype.media.recall import NothingFound, RecalledSettings, recall
from tintype.media.settings_text import GenerationSettings, Lora

PIXELS = np.full((8, 8, 3), 127, np.uint8)
A1111 = (
    "a castle <lora:ink:0.7>\nNegative prompt: fog\n"
    "Steps: 28, Sampler: DPM++ 2M, CFG scale: 6, Seed: 7, Size: 832x1216, Model: base, Version: v1.10.1"
)


def a_png(texts: dict[str, str], *, compressed: bool = False, international: bool = False) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        if international:
            info.add_itxt(key, text, zip=compressed)
        else:
            info.add_text(key, text, zip=compressed)
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def with_exif(kind: str, exif: Image.Exif, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


def with_comment(kind: str, comment: bytes) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    return with_exif(kind, exif)


def settings_of(data: bytes, source: str) -> GenerationSettings:
    found = recall(data)
    assert isinstance(found, RecalledSettings), found
    assert found.source == source
    return found.settings


def assert_castle(settings: GenerationSettings) -> None:
    assert (settings.prompt, settings.negative_prompt) == ("a castle", "fog")
    assert (settings.steps, settings.guidance_scale, settings.seed) == (28, 6, 7)
    assert (settings.width, settings.height, settings.model) == (832, 1216, "base")
    assert settings.loras == (Lora(name="ink", weight=0.7),)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("international", [False, True])
def test_a_png_of_automatic1111_is_read(compressed, international):
    data = a_png({"parameters": A1111}, compressed=compressed, international=international)
    assert_castle(settings_of(data, "automatic1111"))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\x00" + A1111.encode("utf-16-be"),
        b"UNICODE\x00" + A1111.encode("utf-16-le"),
        b"ASCII\x00\x00\x00" + A1111.encode(),
        bytes(8) + A1111.encode(),
    ],
)
def test_an_exif_comment_of_automatic1111_is_read_in_any_of_its_encodings(kind, comment):
    assert_castle(settings_of(with_comment(kind, comment), "automatic1111"))


def test_forge_is_told_from_automatic1111():
    text = A1111.replace("Version: v1.10.1", "Version: f2.0.1v1.10.1-previous-1")
    assert settings_of(a_png({"parameters": text}), "forge").tool_version == "f2.0.1v1.10.1-previous-1"


COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 7,
            "steps": 28,
            "cfg": 6.0,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": 1,
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 832, "height": 1216, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle", "clip": ["10", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fog", "clip": ["10", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "10": {
        "class_type": "LoraLoader",
        "inputs": {"lora_name": "ink", "strength_model": 0.7, "model": ["4", 0], "clip": ["4", 1]},
    },
}


def test_the_graph_in_a_png_of_comfyui_is_read():
    settings = settings_of(a_png({"prompt": json.dumps(COMFY), "workflow": "{}"}), "comfyui")
    assert_castle(settings)
    assert settings.sampler == "dpmpp_2m"


def test_the_graph_in_a_webp_of_comfyui_is_read():
    exif = Image.Exif()
    exif[0x010F] = f"workflow:{json.dumps({'nodes': []})}"
    exif[0x0110] = f"prompt:{json.dumps(COMFY)}"
    assert_castle(settings_of(with_exif("WEBP", exif), "comfyui"))


def test_of_two_passes_the_base_pass_is_recalled():
    second = {**COMFY["3"]["inputs"], "seed": 99, "steps": 5, "latent_image": ["20", 0]}
    graph = {
        "1": {"class_type": "KSampler", "inputs": second},
        "20": {"class_type": "LatentUpscale", "inputs": {"samples": ["3", 0], "width": 1664, "height": 2432}},
        **COMFY,
    }
    assert_castle(settings_of(a_png({"prompt": json.dumps(graph)}), "comfyui"))


def test_a_flux_graph_with_a_custom_sampler_is_read():
    graph = {
        "13": {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {
                "noise": ["25", 0],
                "guider": ["22", 0],
                "sampler": ["16", 0],
                "sigmas": ["17", 0],
                "latent_image": ["27", 0],
            },
        },
        "25": {"class_type": "RandomNoise", "inputs": {"noise_seed": 7}},
        "22": {"class_type": "BasicGuider", "inputs": {"model": ["12", 0], "conditioning": ["26", 0]}},
        "26": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["6", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle", "clip": ["11", 0]}},
        "16": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
        "17": {
            "class_type": "BasicScheduler",
            "inputs": {"steps": 20, "scheduler": "simple", "model": ["12", 0]},
        },
        "27": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 768}},
        "12": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev"}},
    }
    settings = settings_of(a_png({"prompt": json.dumps(graph)}), "comfyui")
    assert (settings.prompt, settings.negative_prompt) == ("a castle", "")
    assert (settings.seed, settings.steps, settings.guidance_scale) == (7, 20, 3.5)
    assert (settings.sampler, settings.model) == ("euler", "flux1-dev")
    assert (settings.width, settings.height) == (1024, 768)


def test_a_graph_that_goes_in_circles_ends():
    graph = {
        "1": {
            "class_type": "KSampler",
            "inputs": {"seed": 1, "steps": 2, "latent_image": ["2", 0], "model": ["1", 0]},
        },
        "2": {"class_type": "X", "inputs": {"samples": ["1", 0], "a": ["2", 0]}},
    }
    assert settings_of(a_png({"prompt": json.dumps(graph)}), "comfyui").seed == 1


def test_invokeai_is_read():
    data = {
        "app_version": "5.0.0",
        "positive_prompt": "a castle",
        "negative_prompt": "fog",
        "steps": 28,
        "cfg_scale": 6.0,
        "seed": 7,
        "width": 832,
        "height": 1216,
        "scheduler": "dpmpp_2m",
        "model": {"key": "k", "name": "base", "hash": "blake3:00", "base": "sdxl"},
        "loras": [{"model": {"name": "ink"}, "weight": 0.7}],
    }
    settings = settings_of(a_png({"invokeai_metadata": json.dumps(data)}), "invokeai")
    assert_castle(settings)
    assert settings.tool_version == "5.0.0"


def test_invokeai_before_version_3_is_read():
    image = {
        "prompt": [{"prompt": "a castle", "weight": 1}],
        "steps": 28,
        "cfg_scale": 6,
        "seed": 7,
        "width": 64,
    }
    data = {"app_version": "2.3", "model_weights": "sd-1.5", "image": image}
    settings = settings_of(a_png({"sd-metadata": json.dumps(data)}), "invokeai")
    assert (settings.prompt, settings.steps, settings.model) == ("a castle", 28, "sd-1.5")


FOOOCUS = {
    "version": "Fooocus v2.5.5",
    "prompt": "a castle",
    "negative_prompt": "fog",
    "steps": 28,
    "seed": "7",
    "guidance_scale": 6.0,
    "sampler": "dpmpp_2m",
    "resolution": "(832, 1216)",
    "base_model": "base",
    "styles": "['Fooocus V2']",
    "loras": [["ink", 0.7, "00"]],
}


def test_fooocus_is_read_from_png_and_from_jpeg():
    settings = settings_of(a_png({"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}), "fooocus")
    assert_castle(settings)
    assert (settings.style, settings.tool_version) == ("['Fooocus V2']", "2.5.5")
    exif = Image.Exif()
    exif[0x9286] = json.dumps(FOOOCUS)
    assert_castle(settings_of(with_exif("JPEG", exif), "fooocus"))


@pytest.mark.parametrize("place", ["png", "jpeg"])
def test_swarmui_is_read(place):
    image = {
        "prompt": "a castle",
        "negativeprompt": "fog",
        "steps": 28,
        "cfgscale": 6.0,
        "seed": 7,
        "model": "base",
        "width": 832,
        "height": 1216,
        "loras": ["ink"],
        "loraweights": ["0.7"],
        "swarm_version": "0.9.5",
    }
    text = json.dumps({"sui_image_params": image, "sui_extra_data": {}})
    comment = b"UNICODE\0" + text.encode("utf-16-be")
    data = a_png({"parameters": text}) if place == "png" else with_comment("JPEG", comment)
    assert_castle(settings_of(data, "swarmui"))


def test_novelai_is_read():
    comment = {
        "prompt": "a castle",
        "uc": "fog",
        "steps": 28,
        "scale": 6,
        "seed": 7,
        "width": 832,
        "height": 1216,
    }
    texts = {
        "Software": "NovelAI",
        "Description": "a castle",
        "Comment": json.dumps(comment),
        "Source": "NAI v3",
    }
    settings = settings_of(a_png(texts), "novelai")
    assert (settings.prompt, settings.negative_prompt, settings.guidance_scale) == ("a castle", "fog", 6)
    assert settings.model == "NAI v3"


def test_our_own_json_wins_over_what_others_wrote():
    own = encoding.encode(PIXELS, "png", GenerationSettings(prompt="ours", steps=3, seed=1))
    extra = a_png({"prompt": json.dumps(COMFY)})
    at = extra.index(b"tEXt") - 4
    length = struct.unpack(">I", extra[at : at + 4])[0]
    both = own[:33] + extra[at : at + 12 + length] + own[33:]
    assert settings_of(both, "tintype").prompt == "ours"


def test_our_json_survives_an_xmp_writer_that_prefers_attributes():
    packet = (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:Description tintype:Settings="
        '"{&quot;tool&quot;:&quot;tintype&quot;,&quot;prompt&quot;:&quot;a &amp; b\\nc&quot;}"/></x:xmpmeta>'
    )
    data = with_exif("JPEG", Image.Exif(), xmp=packet.encode())
    assert settings_of(data, "tintype").prompt == "a & b\nc"


def test_text_behind_the_pixels_is_found_too():
    data = a_png({"parameters": A1111})
    at = data.index(b"tEXt") - 4
    length = struct.unpack(">I", data[at : at + 4])[0]
    chunk, rest = data[at : at + 12 + length], data[:at] + data[at + 12 + length :]
    end = rest.index(b"IEND") - 4
    assert_castle(settings_of(rest[:end] + chunk + rest[end:], "automatic1111"))


DEEP = '{"a":' * 200_000
HOSTILE = [
    *(
        DEEP,
        "[" * 200_000,
        "{",
        "{}",
        "[]",
        "null",
        '"x"',
        "9" * 10_000,
        '{"3": {"inputs": 5}}',
        '{"a": ["a", 0]}',
    ),
    '{"prompt": "\\ud800", "version": "Fooocus", "steps": 1e999, "seed": %s}' % ("9" * 5000),
    '{"sui_image_params": [1, 2]}',
    '{"image": {"prompt": [[]], "seed": {}}, "positive_prompt": 5, "model": [], "loras": {"a": 1}}',
    '{"version": "Fooocus", "prompt": {"__import__": "os"}, "resolution": "print(1)"}',
    '{"1": {"inputs": {"seed": ["1", 0], "steps": ["1", 0], "latent_image": ["1", 0]}}}',
    '{"1": {"inputs": {"seed": true, "steps": NaN, "latent_image": ["9", 0], "model": [[], {}]}}}',
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(
    "key",
    ["parameters", "tintype", "prompt", "workflow", "invokeai_metadata", "sd-metadata", "Comment", "comf"],
)
def test_hostile_metadata_never_raises(key, text):
    found = recall(a_png({key: text, "Software": "NovelAI"} if key == "Comment" else {key: text}))
    assert isinstance(found, RecalledSettings | NothingFound)


@pytest.mark.parametrize("text", [DEEP, "{", '{"steps": "many"}'])
def test_settings_that_cannot_be_read_are_told_from_none_at_all(text):
    found = recall(a_png({"tintype": text}))
    assert isinstance(found, NothingFound)
    assert "unreadable: tintype" in found.reason
    assert recall(a_png({})) == NothingFound(reason="the file carries no settings")
    assert recall(b"not a picture") == recall(b"") == NothingFound(reason="the file carries no settings")


def test_a_caption_in_the_exif_comment_is_not_taken_for_settings():
    comment = b"ASCII\0\0\0Holidays: a week, by the sea"
    assert isinstance(recall(with_comment("JPEG", comment)), NothingFound)


def test_text_that_inflates_to_a_bomb_is_cut_off():
    body = b"parameters\0\0" + zlib.compress(b"Steps: 1, " * 20_000_000, 9)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    data = a_png({})
    bomb = data[:33] + chunk + data[33:]
    tracemalloc.start()
    try:
        found = recall(bomb)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(found, NothingFound)
    assert peak_bytes < 16 << 20


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_mutated_and_cut_files_never_raise(kind):
    settings = GenerationSettings(prompt="a castle", steps=28, seed=7, sampler="Euler", width=8, height=8)
    data = encoding.encode(PIXELS, kind, settings)
    dice = random.Random(kind)
    recalled = 0
    for _ in range(600):
        mutated = bytearray(data[: dice.choice([len(data), dice.randrange(len(data))])])
        for _ in range(dice.randint(0, 5)):
            if mutated:
                mutated[dice.randrange(len(mutated))] = dice.randrange(256)
        recalled += isinstance(recall(bytes(mutated)), RecalledSettings)
    assert recalled > 100


def test_nothing_is_ever_evaluated():
    """Fooocus evaluates metadata of uploads; the audit hook sees any attempt to compile or run."""
    seen: list[str] = []
    listening = True

    def hear(event: str, arguments: tuple) -> None:
        if listening and event in ("exec", "compile", "os.system", "subprocess.Popen"):
            seen.append(event)

    recall(a_png({"parameters": json.dumps(FOOOCUS)}))
    sys.addaudithook(hear)
    for text in HOSTILE:
        recall(a_png({"parameters": text, "prompt": text}))
    listening = False
    assert seen == []
