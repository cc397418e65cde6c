"""What a request needs beside its model comes from the catalogue: drawings, upscalers, words that were learned."""

import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Servers
from tests.engine import upscalers
from tests.engine.parity import tiny_unets
from tests.engine.test_preprocessing import install_estimator
from tests.processes import SCRIPTED, RunningStudio

FAMILY = "stable_diffusion"
SHAPE = {key: SCRIPTED[key] for key in ("limits", "defaults", "samplers")}
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {
        **SHAPE,
        "kind": "checkpoint",
        "family": FAMILY,
        "tasks": ["text_to_image", "image_to_image", "upscale"],
        "features": ["controls", "hires", "negative_prompt"],
    },
    "word": {"kind": "embedding", "family": FAMILY, "trigger_words": ["<toy>"]},
    "network": {"kind": "controlnet", "family": FAMILY, "controls": ["depth"]},
    "estimator": {"kind": "preprocessor", "family": "depth", "controls": ["depth"]},
    "enlarger": {"kind": "upscaler", "family": "rrdb", "tasks": ["upscale"], "scales": [2]},
}


def install(home: Path) -> None:
    models = home / "models"
    models.mkdir(parents=True)
    tiny_unets.write_stable_diffusion(models / "tiny")
    tiny_unets.write_controlnet(models / "network", models / "tiny", seed=4)
    tiny_unets.write_learned_word(models / "word", count=2)
    install_estimator(models / "estimator")
    upscalers.install(models / "enlarger", upscalers.compact(factor=2))
    shared = {key: SCRIPTED[key] for key in ("licence", "prompt_languages", "draws_people")}
    for name, changes in MODELS.items():
        manifest = {**shared, "id": name, "name": name, "description": "Tiny, for tests.", "tasks": [], **changes}
        (models / name / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
async def studio(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStudio]:
    """A studio with a detector that looks at pictures, and tiny models."""
    studio = RunningStudio(home=tmp_path_factory.mktemp("parts") / "home", url=await servers.new_database())
    install(studio.home)
    try:
        await studio.start(environment={"TINTYPE_ENGINE_DEVICE": "cpu", "TINTYPE_ENGINE_THREADS": "1"})
        yield studio
    finally:
        await studio.stop()


def photograph() -> str:
    file = io.BytesIO()
    Image.fromarray(upscalers.landscape(64, 64)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


async def draw(studio: RunningStudio, path: str = "image", **fields: Any) -> tuple[dict[str, Any], np.ndarray]:
    answer = await studio.http.post(f"/api/generate/{path}", json=fields)
    assert answer.status_code == 202, answer.text
    done = await studio.wait(answer.json()["id"])
    assert done["status"] == "completed", f"{done['error']}\n{studio.logs()}"
    data = (await studio.http.get(done["output_paths"][0])).content
    return done, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


WORDS = {"prompt": "a red cat", "model": "tiny", "seed": 5, "steps": 4}


async def test_depths_are_read_off_a_photograph_unless_it_shows_them_already(studio: RunningStudio):
    control = {"type": "depth", "image": photograph(), "strength": 2.0}
    done, made = await draw(studio, **WORDS, controls=[control])
    assert done["parameters"]["controls"][0]["preprocessor"] == "estimator"
    _, ready = await draw(studio, **WORDS, controls=[{**control, "is_ready": True}])
    _, plain = await draw(studio, **WORDS)
    _, again = await draw(studio, **WORDS, controls=[control])
    assert np.array_equal(made, again)
    assert not np.array_equal(made, ready)
    assert not np.array_equal(plain, ready)


async def test_a_second_pass_goes_over_what_an_upscaler_makes(studio: RunningStudio):
    larger = {"scale": 2, "steps": 4, "strength": 0.5}
    done, made = await draw(studio, **WORDS, hires={**larger, "upscaler": "enlarger"})
    assert done["parameters"]["hires"]["upscaler"] == "enlarger"
    _, of_latents = await draw(studio, **WORDS, hires=larger)
    assert made.shape == of_latents.shape == (128, 128, 3)
    assert np.abs(made - of_latents).max() > 3


async def test_a_model_that_draws_enlarges_in_tiles_over_what_an_upscaler_makes(studio: RunningStudio):
    asked = {"image": photograph(), "scale": 3, "model": "tiny", "seed": 3, "steps": 6}
    done, made = await draw(studio, "upscale", **asked, strength=0.5, prompt="oil paint")
    assert made.shape == (192, 192, 3)
    assert (done["parameters"]["upscaler"], done["parameters"]["drawn"]["prompt"]) == ("enlarger", "oil paint")
    _, less = await draw(studio, "upscale", **asked, strength=0.2)
    assert np.abs(made - less).max() > 3


async def test_a_learned_word_is_known_where_it_is_written(studio: RunningStudio):
    done, made = await draw(studio, **{**WORDS, "prompt": "a red <toy>"})
    assert done["parameters"]["embeddings"] == {"<toy>": "word"}
    done, plain = await draw(studio, **{**WORDS, "prompt": "a red toy"})
    assert "embeddings" not in done["parameters"]
    assert not np.array_equal(made, plain)


async def test_what_only_enlarges_is_taken_where_no_model_is_named(studio: RunningStudio):
    done, made = await draw(studio, "upscale", image=photograph(), scale=2)
    assert (done["model"], made.shape) == ("enlarger", (128, 128, 3))
    answer = await studio.http.post(
        "/api/generate/upscale", json={"image": photograph(), "scale": 2, "model": "enlarger", "prompt": "oil paint"}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["msg"] == "'enlarger' does not draw; leave it out"


async def test_an_upscaler_that_is_not_there_is_refused_with_those_that_are(studio: RunningStudio):
    for path, fields in (
        ("image", {**WORDS, "hires": {"scale": 2, "upscaler": "tiny"}}),
        ("upscale", {"image": photograph(), "model": "tiny", "upscaler": "tiny"}),
    ):
        answer = await studio.http.post(f"/api/generate/{path}", json=fields)
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["loc"][-1] == "upscaler"
        assert error["msg"] == "'tiny' is no upscaler that goes with 'tiny'; send 'enlarger'"
