"""Networks of transformers in Hugging Face folders: from safetensors alone and without any code of the folder."""

from pathlib import Path
from typing import Any

import safetensors

from tintype.inference import turns

FAILURES = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, safetensors.SafetensorError)
"""What transformers raises over a folder it cannot load."""


def load(kind: Any, folder: Path, **arguments: Any) -> tuple[Any, dict[str, Any]]:
    """The network of the transformers class `kind`, when it is its turn, and what was said of its weights.

    Missing ones are filled with random numbers and listed under `missing_keys`. Raises one of `FAILURES`.
    """
    with turns.ONE_MODEL_AT_A_TIME:
        return kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **arguments,
        )
