"""Videos: AnimateDiff v3, Stable Video Diffusion 1.1, Wan 2.2, LTX-Video."""

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.workflows import files, stills, transformers, unets
from scripts.workflows.drafts import Draft, Link, Node
from scripts.workflows.files import File
from scripts.workflows.recipes import Recipe
from scripts.workflows.unets import Words

ADAPTER_HELP = "The LoRA that AnimateDiff v3 was trained with; it takes the look of its training videos off."


def recipes() -> Iterator[Recipe]:
    """All that make videos."""
    yield from (_animate(is_long=False), _animate(is_long=True), _svd())
    yield from (_wan(has_picture=False), _wan(has_picture=True), _ltx(has_picture=False), _ltx(has_picture=True))


def save(draft: Draft, images: Link, fps: float) -> None:
    """The frames as an MP4."""
    video = draft.add("Video", "CreateVideo", images=images, fps=fps)
    draft.bind("fps", "integer", video, "fps")
    node = draft.add("Save", "SaveVideo", video=video[0], filename_prefix="tintype", format="mp4", codec="h264")
    draft.outputs.append({"node": node.title, "kind": "videos"})


def limits(
    multiple_of: int, most_pixels: int, *, most_side: int, least_side: int = 256, loras: int = 0
) -> dict[str, Any]:
    """The manifest's limits of a model of videos."""
    return {
        "min_side": least_side,
        "max_side": most_side,
        "multiple_of": multiple_of,
        "max_pixels": most_pixels,
        "max_steps": 100,
        "max_guidance_scale": 20,
        "max_images": 1,
        "max_loras": loras,
    }


def _animate(*, is_long: bool) -> Recipe:
    family, draft = unets.SD15, Draft()
    loaded = unets.load(draft, family)
    said = unets.words(draft, loaded.clip)
    adapter = draft.add(
        *("Adapter", "LoraLoaderModelOnly"),
        model=loaded.model,
        lora_name=draft.need(files.MOTION_V3_ADAPTER),
        strength_model=0.7,
    )
    draft.bind(
        *("adapter_weight", "number", adapter, "strength_model"),
        min=0,
        max=2,
        default=0.7,
        label="Weight of the adapter",
        help=ADAPTER_HELP,
    )
    motion: dict[str, Any] = {
        "model": adapter[0],
        "model_name": draft.need(files.MOTION_V3),
        "beta_schedule": "autoselect",
    }
    if is_long:
        motion["context_options"] = _windows(draft)[0]
    moving = draft.add("Motion", "ADE_AnimateDiffLoaderGen1", **motion)
    draft.bind(
        *("motion_model", "model", moving, "model_name"),
        folder="animatediff_models",
        default=files.MOTION_V3.name,
        label="Motion model",
        help="A motion model for SD 1.5 in the server's folder.",
    )
    frames = 48 if is_long else 16
    latent = draft.add("Canvas", "EmptyLatentImage", width=512, height=512, batch_size=frames)
    for name, target in (("width", "width"), ("height", "height"), ("frames", "batch_size")):
        draft.bind(name, "integer", latent, target)
    sampler = unets.sample(draft, family, moving[0], said, latent[0])
    save(draft, unets.show(draft, sampler[0], loaded.vae), 8.0)
    return _animate_recipe(draft, is_long=is_long)


def _windows(draft: Draft) -> Node:
    """Overlapping windows of sixteen frames, by which a video grows longer than the motion model knows."""
    node = draft.add(
        *("Windows", "ADE_StandardUniformContextOptions"),
        context_length=16,
        context_stride=1,
        context_overlap=4,
        fuse_method="pyramid",
    )
    draft.bind(
        *("window_overlap", "integer", node, "context_overlap"),
        min=1,
        max=12,
        default=4,
        label="Overlap of windows",
        help="Frames that neighbouring windows of sixteen share; more is smoother and slower.",
    )
    draft.bind(
        *("window_stride", "integer", node, "context_stride"),
        min=1,
        max=4,
        default=1,
        label="Stride of windows",
        help="Above 1 some windows also look at every second, fourth … frame, which ties a long video together.",
    )
    return node


def _animate_recipe(draft: Draft, *, is_long: bool) -> Recipe:
    family = unets.SD15
    length = {"frames": 16, "fps": 8, "min_frames": 8, "max_frames": 24, "max_fps": 30}
    if is_long:
        length |= {"frames": 48, "min_frames": 17, "max_frames": 240}
    how = "of any length up to 240 frames, by overlapping windows" if is_long else "of sixteen frames"
    frames = (
        "Things may change slowly over a long video: a window knows sixteen frames at a time."
        if is_long
        else "The motion model knows sixteen frames; more than 24 need `comfy-animatediff-long`."
    )
    return Recipe(
        id=f"comfy-animatediff{'-long' if is_long else ''}",
        name=f"AnimateDiff v3 in ComfyUI{', long' if is_long else ''}",
        description=f"Videos from words with SD 1.5 and AnimateDiff v3, {how}.",
        purpose=f"Makes a short video from words, {how}, with any checkpoint, style and LoRAs of SD 1.5.",
        family=family.family,
        tasks=("text_to_video",),
        draft=draft,
        defaults=family.defaults,
        limits=limits(8, 512 * 768, most_side=768, loras=3),
        length=length,
        samplers=unets.SAMPLERS,
        features=stills.FEATURES,
        known_limits=(
            frames,
            "Made for 512 × 512 pixels; other sizes move less.",
            "An older model: movements are small, and what comes near the edges flickers.",
            stills.PEOPLE,
        ),
        checked="whole runs",
        examples=("waves rolling onto a beach at sunset", "a candle flickering on a desk at night"),
    )


def _svd() -> Recipe:
    draft = Draft()
    loader = draft.add("Checkpoint", "ImageOnlyCheckpointLoader", ckpt_name=draft.need(files.SVD))
    picture = stills.source(draft)
    guided = draft.add("Guidance along time", "VideoLinearCFGGuidance", model=loader[0], min_cfg=1.0)
    draft.bind(
        *("first_guidance", "number", guided, "min_cfg"),
        min=0,
        max=10,
        default=1.0,
        label="Guidance of the first frame",
        help="Guidance grows from this at the first frame to the guidance scale at the last.",
    )
    said = draft.add(
        *("Motion", "SVD_img2vid_Conditioning"),
        clip_vision=loader[1],
        init_image=picture,
        vae=loader[2],
        width=1024,
        height=576,
        video_frames=25,
        motion_bucket_id=127,
        fps=6,
        augmentation_level=0.02,
    )
    for name, target in (("width", "width"), ("height", "height"), ("frames", "video_frames"), ("fps", "fps")):
        draft.bind(name, "integer", said, target)
    _bind_motion(draft, said)
    sampler = transformers.sample(
        draft, guided[0], Words(positive=said[0], negative=said[1]), said[2], steps=20, cfg=2.5
    )
    draft.bind("guidance_scale", "number", sampler, "cfg", min=0, max=20)
    save(draft, unets.show(draft, sampler[0], loader[2]), 6.0)
    return _svd_recipe(draft)


def _svd_recipe(draft: Draft) -> Recipe:
    return Recipe(
        id="comfy-svd",
        name="Stable Video Diffusion 1.1 in ComfyUI",
        description="Sets a picture in motion with Stable Video Diffusion XT 1.1, 25 frames of 1024 × 576.",
        purpose="Sets a still picture in motion. It reads no words: what moves is up to the model and "
        "`motion` says how much.",
        family="svd",
        tasks=("image_to_video",),
        draft=draft,
        defaults={"width": 1024, "height": 576, "steps": 20, "guidance_scale": 2.5, "sampler": "euler"},
        limits=limits(64, 1024 * 576, most_side=1024),
        length={"frames": 25, "fps": 6, "min_frames": 14, "max_frames": 25, "min_fps": 3, "max_fps": 30},
        samplers=transformers.SAMPLERS,
        known_limits=(
            "A prompt has no effect. The model conditions on `fps`, so it changes the motion as well.",
            "Trained at 25 frames of 1024 × 576; faces and hands in motion come apart.",
            "The weights are gated: its licence must be accepted on the Hub, and it limits commercial use.",
            stills.PEOPLE,
        ),
        checked="whole runs",
    )


def _bind_motion(draft: Draft, said: Node) -> None:
    draft.bind(
        *("motion", "integer", said, "motion_bucket_id"),
        min=1,
        max=255,
        default=127,
        label="Motion",
        help="How much moves.",
    )
    draft.bind(
        *("noise", "number", said, "augmentation_level"),
        min=0,
        max=1,
        default=0.02,
        label="Noise on the picture",
        help="More lets the video leave the picture further behind.",
    )


def _wan(*, has_picture: bool) -> Recipe:
    draft = Draft()
    high = _expert(draft, "High noise", files.WAN_IMAGE_HIGH if has_picture else files.WAN_TEXT_HIGH)
    low = _expert(draft, "Low noise", files.WAN_IMAGE_LOW if has_picture else files.WAN_TEXT_LOW)
    encoder = draft.add("Text encoder", "CLIPLoader", clip_name=draft.need(files.WAN_WORDS), type="wan")
    decoder = transformers.vae(draft, files.WAN_VAE)
    said = unets.words(draft, encoder[0])
    size: dict[str, Any] = {"width": 832, "height": 480, "length": 81, "batch_size": 1}
    if has_picture:
        start = draft.add(
            *("First frame", "WanImageToVideo"),
            positive=said.positive,
            negative=said.negative,
            vae=decoder,
            start_image=stills.source(draft),
            **size,
        )
        said, latent = Words(positive=start[0], negative=start[1]), start[2]
    else:
        start = draft.add("Canvas", "EmptyHunyuanLatentVideo", **size)
        latent = start[0]
    for name, target in (("width", "width"), ("height", "height"), ("frames", "length")):
        draft.bind(name, "integer", start, target)
    samples = _two_stretches(draft, (high, low), said, latent)
    save(draft, unets.show(draft, samples, decoder), 16.0)
    return _wan_recipe(draft, has_picture=has_picture)


def _expert(draft: Draft, title: str, file: File) -> Link:
    """One of the two denoisers, shifted towards much noise."""
    name = "high_noise_model" if title == "High noise" else "low_noise_model"
    loader = transformers.load(draft, file, title=f"{title} model", name=name)
    shifted = draft.add(f"{title} shift", "ModelSamplingSD3", model=loader[0], shift=8.0)
    draft.bind(
        *("shift", "number", shifted, "shift"),
        min=1,
        max=20,
        default=8.0,
        label="Shift",
        help="More spends more steps on much noise, which is where motion is decided.",
    )
    return shifted[0]


def _two_stretches(draft: Draft, experts: tuple[Link, Link], said: Words, latent: Link) -> Link:
    """The first steps by the expert for much noise, the others by the one for little."""
    chooser = draft.add("Sampler", "KSamplerSelect", sampler_name="euler")
    schedule = draft.add("Schedule", "BasicScheduler", model=experts[0], scheduler="simple", steps=20, denoise=1.0)
    draft.bind("sampler", "choice", chooser, "sampler_name", choices=list(transformers.SAMPLERS))
    draft.bind("steps", "integer", schedule, "steps", min=4, max=100)
    split = draft.add("Hand over", "SplitSigmasDenoise", sigmas=schedule[0], denoise=0.5)
    draft.bind(
        *("low_noise_share", "number", split, "denoise"),
        min=0.25,
        max=0.75,
        default=0.5,
        label="Share of the low noise model",
        help="Which part of all steps, the last ones, it makes.",
    )
    first = stills.pass_over(draft, "Much noise", experts[0], said, (chooser[0], split[0]), latent, has_noise=True)
    return stills.pass_over(draft, "Little noise", experts[1], said, (chooser[0], split[1]), first, has_noise=False)


def _wan_recipe(draft: Draft, *, has_picture: bool) -> Recipe:
    kind = "image" if has_picture else "text"
    begins = "that begin with a picture" if has_picture else "from words"
    return Recipe(
        id=f"comfy-wan-{kind}",
        name=f"Wan 2.2 in ComfyUI, {kind} to video",
        description=f"Videos {begins} with Wan 2.2 A14B, five seconds at 16 frames a second.",
        purpose=f"Makes videos {begins}. Two experts share the work: one decides what moves while there is much noise, "
        "the other draws the detail.",
        family="wan",
        tasks=("image_to_video",) if has_picture else ("text_to_video",),
        draft=draft,
        defaults={"width": 832, "height": 480, "steps": 20, "guidance_scale": 3.5, "sampler": "euler"},
        limits=limits(16, 1280 * 720, most_side=1280),
        length={"frames": 81, "fps": 16, "min_frames": 17, "max_frames": 121, "multiple_of": 4, "max_fps": 30},
        samplers=transformers.SAMPLERS,
        features=("negative_prompt",),
        languages=("en", "zh"),
        known_limits=(
            "Two experts of 14 GB each in fp8: 24 GB on the device, and 32 GB of memory for the one that waits.",
            "Trained at 81 frames; longer ones tend to run back and forth.",
            stills.PEOPLE,
        ),
        checked="runs after the text encoder",
        examples=("a paper boat drifts down a rainy gutter, close to the ground",),
    )


def _ltx(*, has_picture: bool) -> Recipe:
    draft = Draft()
    loader = draft.add("Checkpoint", "CheckpointLoaderSimple", ckpt_name=draft.need(files.LTX_2B))
    encoder = draft.add("Text encoder", "CLIPLoader", clip_name=draft.need(files.T5XXL), type="ltxv")
    said = unets.words(draft, encoder[0])
    size: Mapping[str, Any] = {"width": 768, "height": 512, "length": 97, "batch_size": 1}
    if has_picture:
        worn = draft.add("As from a video", "LTXVPreprocess", image=stills.source(draft), img_compression=35)
        start = draft.add(
            *("First frame", "LTXVImgToVideo"),
            positive=said.positive,
            negative=said.negative,
            vae=loader[2],
            image=worn[0],
            strength=1.0,
            **size,
        )
        said, latent = Words(positive=start[0], negative=start[1]), start[2]
    else:
        start = draft.add("Canvas", "EmptyLTXVLatentVideo", **size)
        latent = start[0]
    for name, target in (("width", "width"), ("height", "height"), ("frames", "length")):
        draft.bind(name, "integer", start, target)
    paced = draft.add("Pace", "LTXVConditioning", positive=said.positive, negative=said.negative, frame_rate=24.0)
    draft.bind("fps", "integer", paced, "frame_rate")
    samples = _ltx_samples(draft, loader[0], Words(positive=paced[0], negative=paced[1]), latent)
    save(draft, unets.show(draft, samples, loader[2]), 24.0)
    return _ltx_recipe(draft, has_picture=has_picture)


def _ltx_samples(draft: Draft, model: Link, said: Words, latent: Link) -> Link:
    chooser = draft.add("Sampler", "KSamplerSelect", sampler_name="euler")
    draft.bind("sampler", "choice", chooser, "sampler_name", choices=list(transformers.SAMPLERS))
    schedule = draft.add(
        *("Schedule", "LTXVScheduler"),
        latent=latent,
        steps=30,
        max_shift=2.05,
        base_shift=0.95,
        stretch=True,
        terminal=0.1,
    )
    draft.bind("steps", "integer", schedule, "steps", min=1, max=100)
    return stills.pass_over(draft, "Sample", model, said, (chooser[0], schedule[0]), latent, has_noise=True)


def _ltx_recipe(draft: Draft, *, has_picture: bool) -> Recipe:
    kind = "image" if has_picture else "text"
    begins = "that begin with a picture" if has_picture else "from words"
    return Recipe(
        id=f"comfy-ltx-{kind}",
        name=f"LTX-Video in ComfyUI, {kind} to video",
        description=f"Videos {begins} with LTX-Video 2B 0.9.5, four seconds at 24 frames a second.",
        purpose=f"Makes videos {begins}, fast: the small model of its kind.",
        family="ltx",
        tasks=("image_to_video",) if has_picture else ("text_to_video",),
        draft=draft,
        defaults={
            "width": 768,
            "height": 512,
            "steps": 30,
            "guidance_scale": 3.0,
            "sampler": "euler",
            "negative_prompt": "low quality, distorted, jerky motion, smeared",
        },
        limits=limits(32, 1280 * 720, most_side=1280),
        length={"frames": 97, "fps": 24, "min_frames": 9, "max_frames": 257, "multiple_of": 8, "max_fps": 30},
        samplers=transformers.SAMPLERS,
        features=("negative_prompt",),
        known_limits=(
            "It wants long, concrete descriptions of what is seen and how the camera moves.",
            "The licence asks for a paid agreement from a yearly revenue of ten million dollars up; read it first.",
            stills.PEOPLE,
        ),
        checked="runs after the text encoder",
        examples=(
            "The camera moves slowly along a wooden pier at dawn; mist drifts over still water, and a gull lands on a "
            "post.",
        ),
    )
