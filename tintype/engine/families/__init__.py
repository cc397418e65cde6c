"""One file per family of models. Names are known without torch; the code of a family is imported when it is needed."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tintype.engine.family import Outline
    from tintype.providers.contract import ModelFiles

NAMES = (
    *("background", "flux", "flux2_klein", "qwen_image", "rrdb"),
    *("sdxl", "sketch", "stable_diffusion", "z_image"),
)

UNGUIDED = ("background", "rrdb")
"""Those that make a picture of another one alone. All others draw from words."""


def outline(files: "ModelFiles") -> "Outline":
    """The outline of a model, by the module that carries its family's name.

    Raises:
        ModelBrokenError: its files cannot be read.
    """
    return importlib.import_module(f"tintype.engine.families.{files.family}").outline(files)
