"""Networks in Hugging Face folders: from safetensors alone, complete, and without any code of the folder."""

from typing import Any

import torch
import transformers

from tintype.detectors.folders import Folder
from tintype.inference import hub_folders


def network(folder: Folder, kind: Any, dtype: torch.dtype) -> Any:
    """The network of the transformers class `kind` in evaluation mode, on the CPU.

    Raises:
        DetectorBrokenError: a file is missing or damaged, a weight is missing, left over or not finite. Plain
            transformers would fill a missing one with random numbers.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if not any(name.endswith(".safetensors") for name, _ in folder.sha256):
        raise folder.broken("its manifest lists no weights in safetensors")
    try:
        loaded, found = hub_folders.load(kind, folder.path, dtype=dtype)
    except hub_folders.FAILURES as error:
        raise folder.broken(first_line(error)) from error
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if found[problem]:
            raise folder.broken(f"its weights have {len(found[problem])} {problem.replace('_', ' ')}")
    if not all(bool(torch.isfinite(weight).all()) for weight in loaded.parameters()):
        raise folder.broken("its weights hold values that are not finite")
    return loaded.eval().requires_grad_(requires_grad=False)


def first_line(error: Exception) -> str:
    """What kind of error it is, and the beginning of what it says."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
