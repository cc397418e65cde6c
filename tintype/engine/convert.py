"""One pickle of weights into one safetensors file: `python -I -m tintype.engine.convert IN.ckpt OUT.safetensors`.

Runs as a process of its own that `tintype.intake.sandbox` has locked away, opens the pickle with the reader of torch
that builds tensors and nothing else, and answers with one line of JSON on standard output: `{"tensors": …,
"left_out": […]}`, or `{"refused": …, "detail": …}` with an exit code of 1. Only what is below `state_dict` or one of
the other names in `WRAPPERS` is kept where a file has it; what is no tensor is left out.
"""

import json
import pickle
import re
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from safetensors.torch import save_file

# Where training tools put the weights inside what they save, the best choice first.
WRAPPERS = ("state_dict", "params_ema", "params", "model_state_dict", "model", "module", "generator")
GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
# What torch and Python take to open any file, on top of what they hold when this starts.
SPARE_BYTES = 512 << 20
# A file is read once, its tensors are put in order once and written once.
COPIES = 3
MAX_TENSORS = 50_000
MAX_LISTED = 100


def main() -> None:
    """Convert, answer, exit."""
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    size = source.stat().st_size
    cap_memory(COPIES * size + SPARE_BYTES)
    try:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = GLOBAL.search(str(error))
        refuse("unsafe" if asked else "unreadable", asked[1] if asked else "")
    except MemoryError:
        refuse("memory")
    except RuntimeError as error:
        refuse("memory" if "memory" in str(error) else "damaged", str(error))
    except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
        refuse("damaged", str(error))
    tensors, left_out = state_of(loaded)
    if not tensors or len(tensors) > MAX_TENSORS:
        refuse("empty" if not tensors else "damaged", f"{len(tensors)} tensors")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > COPIES * size:
        refuse("memory")  # views that repeat a few stored bytes without end
    try:
        save_file(separate(tensors), target)
    except (MemoryError, RuntimeError, ValueError, KeyError, OSError) as error:
        refuse("memory" if isinstance(error, MemoryError) or "memory" in str(error) else "damaged", str(error))
    answer({"tensors": len(tensors), "left_out": left_out[:MAX_LISTED]})


def cap_memory(more_bytes: int) -> None:
    """Let this process take `more_bytes` on top of what it has: how much that is depends on torch's build."""
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + more_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def state_of(loaded: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors of what was saved, by name, and the names of what is left out."""
    if not isinstance(loaded, Mapping):
        return {}, []
    whole = cast("Mapping[Any, Any]", loaded)
    for wrapper in WRAPPERS:
        inner = whole.get(wrapper)
        if isinstance(inner, Mapping) and any(isinstance(value, torch.Tensor) for value in inner.values()):
            kept, left_out = state_of(inner)
            return kept, [*(str(name) for name in whole if name != wrapper), *left_out]
    kept = {str(name): value for name, value in whole.items() if isinstance(value, torch.Tensor)}
    return kept, [str(name) for name, value in whole.items() if not isinstance(value, torch.Tensor)]


def separate(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same values, each dense and in memory of its own, as safetensors wants them."""
    seen: set[int] = set()
    own = dict[str, torch.Tensor]()
    for name, tensor in tensors.items():
        plain = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
        place = plain.untyped_storage().data_ptr()
        whole = plain.is_contiguous() and plain.numel() * plain.element_size() == plain.untyped_storage().nbytes()
        own[name] = plain if whole and place not in seen else plain.clone(memory_format=torch.contiguous_format)
        seen.add(place)
    return own


def refuse(why: str, detail: str = "") -> NoReturn:
    """Say why there is no result and exit with code 1."""
    answer({"refused": why, "detail": detail[:500]})
    sys.exit(1)


def answer(value: dict[str, Any]) -> None:
    """Write the one line this process is asked for."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
