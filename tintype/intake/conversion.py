"""Weights that exist only as a pickle (.pth, .ckpt, .bin), converted to safetensors once, in a locked-away process.

Four walls, each meant to hold alone: torch's reader that builds tensors only (`weights_only`); a process without
network, capabilities, tokens in its environment, or a place to write but its own folder (`confined.py`); limits on
memory, processor time and time; and its result is a stranger's file too, checked by `weights.check`.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tintype import logs, settings
from tintype.errors import InvalidRequestError, TintypeError
from tintype.intake import sandbox, weights
from tintype.intake.text import clean_line

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
CHILD = "tintype.engine.convert"
# Torch maps many gigabytes of libraries before it opens anything; the child then sets a limit that fits the file.
ADDRESSES_BYTES = 64 << 30
SPARE_BYTES = 64 << 20
# One thread each: the numbers are copied, not computed, and no GPU is needed for that.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONDONTWRITEBYTECODE": "1",
}

log = logs.get("intake")


class UnsafePickleError(InvalidRequestError):
    """Opening this file would run a program; nothing was run. Take the .safetensors version of it."""

    code = "pickle_unsafe"


class NotConvertibleError(InvalidRequestError):
    """This file holds no weights that can be converted; take the .safetensors version of it."""

    code = "weights_not_convertible"


class ConversionTooLargeError(InvalidRequestError):
    """Opening this file takes far more memory or time than its size explains; take the .safetensors version of it."""

    status = 413
    code = "conversion_too_large"


class ConversionBrokenError(TintypeError):
    """The conversion could not be started; `tintype doctor` checks the installation."""

    status: ClassVar[int] = 500
    code = "conversion_broken"


@dataclass(frozen=True, kw_only=True)
class Converted:
    """The safetensors file, its header, the names in the pickle that were no weights, and what confined the process."""

    path: Path
    header: weights.Header
    left_out: tuple[str, ...]
    without_network: bool
    writes_inside: bool


async def convert(source: Path, target: Path, intake: settings.Intake) -> Converted:
    """Convert the pickle `source` to `target`, which appears complete or not at all; `source` is left as it is.

    Raises:
        UnsafePickleError: it asks for more than tensors.
        NotConvertibleError: it holds no tensors by name, or is damaged.
        ConversionTooLargeError: it takes too much memory or time.
        ConversionBrokenError: this installation cannot convert.
    """
    return await asyncio.to_thread(_convert, source, target, intake.convert_timeout_s)


def _convert(source: Path, target: Path, timeout_s: float) -> Converted:
    size = source.stat().st_size
    folder = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent)).resolve()
    try:
        made = folder / "weights.safetensors"
        ended = sandbox.run(
            [sys.executable, "-I", "-W", "ignore", "-m", CHILD, str(source.resolve()), str(made)],
            folder,
            sandbox.Limits(
                wall_s=timeout_s,
                cpu_s=max(1, int(timeout_s)),
                memory_bytes=ADDRESSES_BYTES,
                file_bytes=4 * size + SPARE_BYTES,
            ),
            extra=ENVIRONMENT,
        )
        left_out = _answer(ended, source.name)
        header = weights.check(made)
        os.chmod(made, 0o644)
        made.replace(target)
        return Converted(
            path=target,
            header=header,
            left_out=left_out,
            without_network=ended.without_network,
            writes_inside=ended.writes_inside,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answer(ended: sandbox.Ended, name: str) -> tuple[str, ...]:
    """The names left out, or the fact that stopped it."""
    shown = clean_line(name)
    if ended.timed_out:
        raise ConversionTooLargeError(f"{shown} took too long to open; take its .safetensors version.")
    said = _said(ended.output)
    match said.get("refused"), said.get("left_out"):
        case "unsafe", _:
            raise UnsafePickleError(
                f"Opening {shown} would run `{clean_line(str(said.get('detail')))}`, so it was not opened and nothing"
                " was run. Take the .safetensors version of it; if there is none, do not use it."
            )
        case "unreadable", _:
            raise NotConvertibleError(
                f"{shown} asks for more than tensors or is damaged; nothing was run. Take its .safetensors version."
            )
        case "memory", _:
            raise ConversionTooLargeError(f"{shown} takes far more memory than its size explains; do not use it.")
        case (("empty" | "damaged"), _):
            raise NotConvertibleError(
                f"{shown} is damaged or holds no weights by name; fetch it again, or take its .safetensors version."
            )
        case None, [*names] if ended.code == 0:
            return tuple(clean_line(str(name)) for name in names)
        case _ if ended.code < 0:
            raise ConversionTooLargeError(f"Opening {shown} was stopped by signal {-ended.code}; do not use it.")
        case _:
            log.error("conversion_broken", code=ended.code, errors=clean_line(_tail(ended.errors), max_chars=2000))
            raise ConversionBrokenError


def _said(output: bytes) -> Mapping[str, Any]:
    """The child's line; nothing where it is not what the child writes."""
    try:
        said = json.loads(output)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _tail(errors: bytes) -> str:
    return errors[-4000:].decode("utf-8", "replace")
