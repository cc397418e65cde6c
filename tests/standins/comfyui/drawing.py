"""What the stand-in's nodes give: pictures that differ with their inputs, and the files that savers write."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.standins.comfyui.checking import is_link

DATA = Path(__file__).parents[2] / "data" / "comfyui"
CLIPS = {".mp4": "clip.mp4", ".webm": "clip.webm"}
SUFFIXES = {"SaveAnimatedWEBP": ".webp", "SaveWEBM": ".webm", "SaveVideo": ".mp4", "VHS_VideoCombine": ".mp4"}
COUNTS = ("batch_size", "length", "frames", "amount")

Graph = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures on their way through a graph."""

    width: int
    height: int
    count: int
    seed: bytes

    def picture(self, index: int) -> Image.Image:
        """One of them: a gradient between two colours that its seed chooses."""
        digest = hashlib.sha256(self.seed + bytes([index % 256])).digest()
        first, last = (Image.new("RGB", (self.width, self.height), tuple(digest[at : at + 3])) for at in (0, 3))
        ramp = Image.linear_gradient("L").resize((self.width, self.height))
        return Image.composite(first, last, ramp)


def batch_of(graph: Graph, node: str, input_folder: Path) -> Batch | Image.Image:
    """What reaches a node: an upload as it is, or what the nearest nodes upstream say of size and number.

    Raises:
        PIL.UnidentifiedImageError: an upload is no picture.
    """
    found: dict[str, int] = {}
    for each in upstream(graph, node):
        inputs = graph[each]["inputs"]
        if graph[each]["class_type"] == "LoadImage" and "width" not in found:
            with Image.open(input_folder / inputs["image"]) as picture:
                picture.load()
                return picture.convert("RGB")
        for name in ("width", "height"):
            if isinstance(inputs.get(name), int):
                found.setdefault(name, inputs[name])
        for name in COUNTS:
            if isinstance(inputs.get(name), int):
                found.setdefault("count", inputs[name])
    return Batch(
        width=found.get("width", 64),
        height=found.get("height", 64),
        count=found.get("count", 1),
        seed=_drawn(graph, node).encode(),
    )


def _drawn(graph: Graph, node: str) -> str:
    """The signature of what a node shows: a saver shows what it is given, wherever it stores it."""
    about = graph[node]
    if not about["class_type"].startswith(("Save", "Preview", "VHS")):
        return signature(graph, node)
    return " ".join(signature(graph, value[0]) for value in about["inputs"].values() if is_link(value))


def upstream(graph: Graph, node: str) -> list[str]:
    """A node and all it depends on, the nearest first."""
    found = [node]
    for each in found:
        links = (value[0] for value in graph[each]["inputs"].values() if is_link(value))
        found += [link for link in dict.fromkeys(links) if link not in found]
    return found


def signature(graph: Graph, node: str) -> str:
    """Equal for nodes that would give the same."""
    about = graph[node]
    inputs = {
        name: signature(graph, value[0]) + f":{value[1]}" if is_link(value) else value
        for name, value in about["inputs"].items()
    }
    return hashlib.sha256(json.dumps([about["class_type"], inputs], sort_keys=True).encode()).hexdigest()


def preview(batch: Batch | Image.Image, *, image_format: str = "JPEG") -> bytes:
    """The first picture, encoded."""
    return encode(batch if isinstance(batch, Image.Image) else batch.picture(0), image_format)


def encode(picture: Image.Image, image_format: str) -> bytes:
    into = io.BytesIO()
    picture.save(into, format=image_format)
    return into.getvalue()


def save(graph: Graph, node: str, batch: Batch | Image.Image, folder: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Write the files of a node that stores; what it shows then. Numbers go on after the highest there is."""
    kind = graph[node]["class_type"]
    prefix = str(graph[node]["inputs"].get("filename_prefix", "ComfyUI"))
    subfolder, _, stem = prefix.rpartition("/")
    (folder / subfolder).mkdir(parents=True, exist_ok=True)
    taken = [path.stem[len(stem) + 1 :].split("_")[0] for path in (folder / subfolder).glob(f"{stem}_*")]
    number = max((int(each) for each in taken if each.isdigit()), default=0) + 1
    if kind in SUFFIXES:
        data = _clip(batch, SUFFIXES[kind])
        name = f"{stem}_{number:05}_{SUFFIXES[kind]}"
        (folder / subfolder / name).write_bytes(data)
        listed = [{"filename": name, "subfolder": subfolder, "type": "output"}]
        if kind == "VHS_VideoCombine":
            return {"gifs": [{**listed[0], "format": "video/h264-mp4", "frame_rate": 8.0}]}
        return {"images": listed, "animated": [True]}
    about = PngInfo()
    about.add_text("prompt", json.dumps(graph))
    for name, value in extra.get("extra_pnginfo", {}).items():
        about.add_text(name, json.dumps(value))
    pictures = [batch] if isinstance(batch, Image.Image) else [batch.picture(at) for at in range(batch.count)]
    place = "temp" if kind == "PreviewImage" else "output"
    listed = []
    for at, picture in enumerate(pictures):
        name = f"{stem}_{number + at:05}_.png"
        picture.save(folder / subfolder / name, pnginfo=about)
        listed.append({"filename": name, "subfolder": subfolder, "type": place})
    return {"images": listed}


def _clip(batch: Batch | Image.Image, suffix: str) -> bytes:
    if suffix in CLIPS:  # as a real server made them: eight frames of 64 pixels
        return (DATA / CLIPS[suffix]).read_bytes()
    assert isinstance(batch, Batch)
    frames = [batch.picture(at) for at in range(batch.count)]
    into = io.BytesIO()
    frames[0].save(into, format="WEBP", save_all=True, append_images=frames[1:], duration=125)
    return into.getvalue()
