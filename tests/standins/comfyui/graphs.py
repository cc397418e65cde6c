"""Small workflows in API format, of nodes that every ComfyUI has."""

from typing import Any

Graph = dict[str, dict[str, Any]]


def node(kind: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


def text_to_image(
    checkpoint: str,
    *,
    prefix: str,
    seed: int = 1,
    steps: int = 4,
    batch: int = 1,
    size: int = 64,
    save: str = "SaveImage",
) -> Graph:
    """A picture of Stable Diffusion, stored by the node "Save"."""
    storing = {} if save == "SaveImageWebsocket" else {"filename_prefix": prefix}
    return {
        "4": node("CheckpointLoaderSimple", "Checkpoint", ckpt_name=checkpoint),
        "5": node("EmptyLatentImage", "Size", width=size, height=size, batch_size=batch),
        "6": node("CLIPTextEncode", "Positive prompt", text="a cat", clip=["4", 1]),
        "7": node("CLIPTextEncode", "Negative prompt", text="bad", clip=["4", 1]),
        "3": node(
            "KSampler",
            "Sampler",
            seed=seed,
            steps=steps,
            cfg=7.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
        ),
        "8": node("VAEDecode", "Decode", samples=["3", 0], vae=["4", 2]),
        "9": node(save, "Save", images=["8", 0], **storing),
    }


def flat(*, prefix: str, color: int = 0xF1EDE2, size: int = 64, batch: int = 1) -> Graph:
    """A picture of one colour: needs no model."""
    return {
        "1": node("EmptyImage", "Canvas", width=size, height=size, batch_size=batch, color=color),
        "2": node("SaveImage", "Save", images=["1", 0], filename_prefix=prefix),
    }


def loaded(name: str, *, prefix: str) -> Graph:
    """An uploaded picture, stored as it is."""
    return {
        "1": node("LoadImage", "Source", image=name),
        "2": node("SaveImage", "Save", images=["1", 0], filename_prefix=prefix),
    }


def video(kind: str, *, prefix: str, frames: int = 8, size: int = 64) -> Graph:
    """A clip of one colour, stored by `SaveAnimatedWEBP`, `SaveWEBM` or `SaveVideo`."""
    canvas = node("EmptyImage", "Canvas", width=size, height=size, batch_size=frames, color=0xF1EDE2)
    if kind == "SaveVideo":
        return {
            "1": canvas,
            "2": node("CreateVideo", "Frames", images=["1", 0], fps=8.0),
            "3": node(kind, "Save", video=["2", 0], filename_prefix=prefix, format="mp4", codec="h264"),
        }
    settings = (
        {"codec": "vp9", "fps": 8.0, "crf": 32.0}
        if kind == "SaveWEBM"
        else {"fps": 8.0, "lossless": True, "quality": 80, "method": "default"}
    )
    return {"1": canvas, "2": node(kind, "Save", images=["1", 0], filename_prefix=prefix, **settings)}


def too_large(*, prefix: str) -> Graph:
    """A canvas of 4 TB, more than any device has."""
    return flat(prefix=prefix, size=16384, batch=4096)


def half_wrong(*, prefix: str) -> Graph:
    """Two outputs, of which one is at fault: a server runs the other."""
    graph = flat(prefix=prefix)
    graph["3"] = node("EmptyImage", "Wrong canvas", width=0, height=64, batch_size=1, color=0)
    graph["4"] = node("SaveImage", "Wrong save", images=["3", 0], filename_prefix=prefix)
    return graph
