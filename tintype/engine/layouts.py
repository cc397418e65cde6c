"""Finds out how the files of a model lie: in diffusers' layout, or all in one."""

from pathlib import Path

from tintype.engine import diffusers_folder, single_file
from tintype.engine.checkpoint import Checkpoint
from tintype.engine.loading import ModelBrokenError
from tintype.providers.contract import ModelFiles


def read(files: ModelFiles) -> Checkpoint:
    """The model in its folder, or in the one file that is there.

    Raises:
        ModelBrokenError: its files cannot be read, or there are none or several.
    """
    place = Path(files.folder)
    if (place / "model_index.json").is_file():
        return diffusers_folder.read(place)
    found = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    if len(found) != 1:
        raise ModelBrokenError(
            f"{place} has no model_index.json and {len(found)} .safetensors files; it takes either the index of a "
            "model in diffusers' layout or one file with everything"
        )
    return single_file.read(found[0])
