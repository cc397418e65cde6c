"""A pickle under the name of safetensors: refused by its first bytes, with what to do, and never opened."""

import os
import pickle

import pytest
import torch

from tintype.intake import weights


class Calls:
    """Pickles to a call of `os.system`."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("kind", ["saved by torch", "saved by torch long ago", "plain", "the first protocol"])
def test_a_pickle_called_safetensors_is_refused_and_does_not_run(tmp_path, kind):
    path, marker = tmp_path / "model.safetensors", tmp_path / "ran"
    value = {"w": torch.zeros(3), "x": Calls(f"touch {marker}")}
    if kind.startswith("saved by torch"):
        torch.save(value, path, _use_new_zipfile_serialization=kind == "saved by torch")
    else:
        path.write_bytes(pickle.dumps(Calls(f"touch {marker}"), protocol=0 if kind == "the first protocol" else 4))
    with pytest.raises((weights.PickledWeightsError, weights.WeightsInvalidError)) as caught:
        weights.check(path)
    assert not marker.exists()
    if kind != "the first protocol":  # text without a sign of its own: simply no safetensors
        assert (caught.value.status, caught.value.code) == (415, "weights_pickled")
        assert "Take the .safetensors" in caught.value.detail
