"""The families around UNets draw what diffusers' own pipelines draw."""

from pathlib import Path

import pytest

from tests.engine.parity import harness, unet_cases
from tests.engine.parity.harness import Case


@pytest.mark.parametrize("case", unet_cases.cases(), ids=lambda case: case.name)
def test_the_engine_draws_what_a_plain_pipeline_draws(case: Case, unets: Path):
    result = harness.compare(case, unets)
    assert result.latents <= harness.MOST_LATENTS
    assert result.pixels <= harness.MOST_PIXELS
