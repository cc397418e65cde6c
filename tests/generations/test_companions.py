"""The models that a request needs beside its own, found among those that are installed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import SCRIPTED
from tintype.catalog.operations import Catalogue
from tintype.generations import companions, validation
from tintype.generations.pictures import Picture
from tintype.generations.schemas import ImageCreate
from tintype.media.tables import Media

PICTURE = "01890a5d-ac96-774b-bcce-b302099a8057"
NETWORK = {"kind": "controlnet", "tasks": [], "samplers": [], "controls": ["canny", "depth"]}
ESTIMATOR = {"kind": "preprocessor", "family": "depth", "tasks": [], "samplers": [], "controls": ["depth"]}

Install = Callable[..., Catalogue]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """A function that installs models beside `scripted`, by their ids, and gives the catalogue."""

    def add(**models: dict[str, object]) -> Catalogue:
        for name, changes in {"scripted": {"features": ["controls", "hires"]}, **models}.items():
            folder = tmp_path / "models" / name
            folder.mkdir(parents=True)
            kept = {key: value for key, value in SCRIPTED.items() if key not in ("defaults", "limits", "options")}
            manifest = SCRIPTED if name == "scripted" else kept
            (folder / "manifest.json").write_text(json.dumps({**manifest, "id": name, **changes}))
        return Catalogue(tmp_path)

    return add


def resolve(catalogue: Catalogue, **fields: object) -> dict[str, object]:
    request = ImageCreate.model_validate({"prompt": "a cat", "model": "scripted", **fields})
    media = Media(id=PICTURE)
    pictures = [
        Picture(place=("body", "controls", index, "image"), role="control", media=media)
        for index in range(len(request.controls))
    ]
    return validation.resolve(request, catalogue, pictures).parameters


def control(kind: str, **fields: object) -> dict[str, object]:
    return {"type": kind, "image": PICTURE, **fields}


def test_a_photograph_whose_depths_steer_brings_what_reads_them(install: Install):
    catalogue = install(network=NETWORK, estimator=ESTIMATOR)
    found = resolve(catalogue, controls=[control("depth"), control("canny"), control("depth", is_ready=True)])
    assert [one["preprocessor"] for one in found["controls"]] == ["estimator", None, None]
    assert [one["is_ready"] for one in found["controls"]] == [False, False, True]
    assert companions.ids_of(found) == ("network", "estimator")


@pytest.mark.parametrize("changes", [{"controls": ["pose"]}, {"provider": "elsewhere"}, {"kind": "upscaler"}])
def test_a_photograph_that_nothing_reads_depths_from_is_refused(install: Install, changes: dict[str, object]):
    catalogue = install(network=NETWORK, other={**ESTIMATOR, **changes})
    with pytest.raises(validation.InvalidGenerationError) as refused:
        resolve(catalogue, controls=[control("canny"), control("depth")])
    (field,) = refused.value.fields
    assert field.loc == ("body", "controls", 1, "is_ready")
    assert field.msg.endswith("send depths, near bright, and true here")
    assert resolve(catalogue, controls=[control("depth", is_ready=True)])


def test_a_refiner_is_of_the_family_of_what_it_refines(install: Install):
    other = {"kind": "checkpoint", "family": "sdxl", "tasks": [], "samplers": []}
    catalogue = install(scripted={"features": ["refiner"]}, other=other, same={**other, "family": "scripted"})
    assert resolve(catalogue, refiner={"model": "same"})["refiner"]["model"] == "same"
    for name in ("other", "nowhere"):
        with pytest.raises(validation.InvalidGenerationError) as refused:
            resolve(catalogue, refiner={"model": name})
        (field,) = refused.value.fields
        assert field.loc == ("body", "refiner", "model")
        assert "is no model of the family of 'scripted'; send " in field.msg
