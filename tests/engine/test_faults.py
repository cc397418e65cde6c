"""What the errors of torch mean: a shortage, a broken device, or simply wrong work."""

import pytest
import torch

from tintype.engine import faults


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
