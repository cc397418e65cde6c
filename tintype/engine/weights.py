"""What a model's weights come to, read from the headers of its safetensors files without loading any."""

import json
import math
from pathlib import Path
from typing import Any, cast

from tintype.engine.loading import ModelBrokenError

LARGEST_HEADER_BYTES = 100 << 20
"""As the format itself has it; a longer one is damage."""


def count(folder: Path, *, but: str = "") -> int:
    """The numbers in all components of a model folder in diffusers layout; variants of the same weights count once.

    The component `but` is left out.

    Raises:
        ModelBrokenError: a file is missing or damaged.
    """
    found = sorted(folder.glob("*/*.safetensors"))
    files = [path for path in found if ".fp16." not in path.name and path.parent.name != but]
    if not files:
        raise ModelBrokenError(f"{folder} has no weights in safetensors; `tintype doctor` checks its files")
    return sum(count_file(path) for path in files)


def count_file(path: Path) -> int:
    """The numbers in one file.

    Raises:
        ModelBrokenError: it is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LARGEST_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header: Any = json.loads(file.read(length))
        tensors = cast("dict[str, Any]", header)
        return sum(math.prod(entry["shape"]) for name, entry in tensors.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelBrokenError(f"{path} is damaged ({error}); `tintype doctor` checks its files") from error
