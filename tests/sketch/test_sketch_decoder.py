"""The decoder's own training changes how latents are drawn and never what they mean."""

import pathlib

import pytest
import torch

from scripts.sketch import autoencoder, decoder, export, hardware
from tests.sketch.test_sketch_model import FOLDER


@pytest.fixture
def run(tmp_path: pathlib.Path) -> hardware.Run:
    export.restore(FOLDER, tmp_path, minutes=1)
    return hardware.Run(folder=tmp_path, device=torch.device("cpu"), minutes=0.02)


def test_the_decoder_learns_and_the_encoder_stays(run: hardware.Run):
    before = autoencoder.load(run.folder)
    decoder.train(run, pictures=32)
    after = autoencoder.load(run.folder)
    was, now = before.state_dict(), after.state_dict()
    changed = {name.partition(".")[0] for name, weights in was.items() if not torch.equal(weights, now[name])}
    assert changed == {"decoder"}
