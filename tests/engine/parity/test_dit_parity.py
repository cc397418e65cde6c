"""What the engine draws with a diffusion transformer alone is what diffusers' own pipeline draws."""

from pathlib import Path

import pytest

from tests.engine.parity import dit_cases, harness
from tests.engine.parity.harness import Case

pytestmark = pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("case", dit_cases.cases(), ids=lambda case: case.name)
def test_a_picture_is_the_one_that_diffusers_draws(case: Case, folder: Path):
    result = harness.compare(case, folder)
    assert result.latents <= harness.MOST_LATENTS
    assert result.pixels <= harness.MOST_PIXELS
