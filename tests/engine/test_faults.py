"""What the errors of torch mean: a shortage, a broken device, or simply wrong work."""

import threading
from pathlib import Path

import pytest
import torch

from tintype.engine import faults, runner
from tintype.engine.families.sketch import Sketch
from tintype.providers.contract import GenerationRequest, ModelFiles

BUILTIN = Path(__file__).parents[2] / "tintype" / "catalog" / "builtin" / "sketch"


def raised(error: BaseException) -> BaseException:
    """What `error` becomes."""
    with pytest.raises(type(error) if type(error) is ValueError else Exception) as caught:
        with faults.named("cuda (H100)"):
            raise error
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=lambda error: str(error)[:20],
)
def test_a_shortage_is_one_whatever_class_torch_gives_it(error):
    found = raised(error)
    assert isinstance(found, faults.OutOfMemoryError)
    assert (found.code, found.retryable) == ("out_of_memory", False)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
    ],
    ids=lambda error: str(error)[:20],
)
def test_a_broken_device_is_named_with_what_to_do_and_the_job_may_go_elsewhere(error):
    found = raised(error)
    assert isinstance(found, faults.DeviceBrokenError)
    assert (found.code, found.retryable) == ("device_broken", True)
    assert str(error).splitlines()[0] in found.detail
    assert "restart this worker" in found.detail
    assert "Compile with" not in found.detail


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("CUDA error")])
def test_any_other_error_stays_what_it_is(error):
    assert raised(error) is error


def test_the_memory_of_the_failed_step_is_free_when_it_is_tried_again(monkeypatch: pytest.MonkeyPatch):
    engine = runner.Runner(device="cpu", threads=1)
    files = ModelFiles(id="sketch", family="sketch", folder=str(BUILTIN))
    advance, freed = Sketch.advance, []
    drawings: list[object] = []

    def scarce(self: Sketch, drawing: object) -> None:
        import weakref

        if not drawings:
            drawings.append(weakref.ref(drawing))
            raise torch.OutOfMemoryError
        advance(self, drawing)

    free = engine._free
    monkeypatch.setattr(Sketch, "advance", scarce)
    monkeypatch.setattr(engine, "_free", lambda *, keep: (free(keep=keep), freed.append(drawings[0]() is None)))
    request = GenerationRequest(
        id="one", task="text_to_image", model=files, prompt="a ring", negative_prompt="", width=64, height=64,
        seeds=(7,), steps=2, guidance_scale=3.0, sampler="euler",
    )  # fmt: skip
    list(engine.run(request, threading.Event()))
    assert freed == [True]
