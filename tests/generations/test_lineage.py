"""What is known of what goes into a generation, and what follows from it where the request arrives."""

import json

import pytest

from tests.processes import SCRIPTED
from tintype.catalog.operations import Catalogue, Model
from tintype.db.base import new_id
from tintype.generations import lineage, validation
from tintype.generations.lineage import OnePersonError
from tintype.media.tables import Media
from tintype.safety import Stage


def media(sha256: str = "a", **known: object) -> Media:
    """An upload nobody has judged, unless said otherwise."""
    return Media(
        id=new_id(), sha256=sha256, **{"shows_person": None, "person_in_lineage": False, "is_foreign": True, **known}
    )


def drawn_here() -> Media:
    """A picture whose whole lineage is the built-in model's."""
    return media(shows_person=False, is_foreign=False)


@pytest.fixture
def catalogue(tmp_path, monkeypatch) -> Catalogue:
    """The built-in model, one of the user's and a LoRA of a person; no detector."""
    monkeypatch.setattr(validation.registry, "has_foreign", lambda: False)
    part = {**SCRIPTED, "kind": "lora", "tasks": [], "depicts_person": True}
    for name, manifest in (("scripted", SCRIPTED), ("somebody", part)):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({**manifest, "id": name}))
    return Catalogue(tmp_path)


@pytest.fixture
def sketch(catalogue: Catalogue) -> Model:
    return catalogue.get("sketch")


def test_pictures_whose_whole_lineage_is_the_built_in_model_need_no_detector(catalogue, sketch):
    known = lineage.of([sketch], [("source", drawn_here())])
    assert not known.facts(Stage.OUTPUT).needs_detector
    assert not known.is_foreign
    validation.check_pictures_safety([(("body", "image"), drawn_here())], catalogue)


def test_an_upload_given_to_the_built_in_model_needs_one(catalogue, sketch):
    upload = media()
    known = lineage.of([sketch], [("source", upload)])
    assert known.facts(Stage.OUTPUT).needs_detector
    assert known.is_foreign
    places = [("body", "image"), ("body", "mask")]
    with pytest.raises(validation.SafetyDetectorMissingError, match="send one that 'sketch' drew") as refused:
        validation.check_pictures_safety([(place, upload) for place in places], catalogue)
    assert [field.loc for field in refused.value.fields] == places
    assert "send shapes instead" in refused.value.fields[1].msg


def test_a_picture_of_another_model_is_foreign_for_ever(catalogue, sketch):
    first = lineage.of([catalogue.get("scripted")])
    assert first.model_draws_people
    made = media(shows_person=False, is_foreign=first.is_foreign)
    assert lineage.of([sketch], [("source", made)]).has_foreign_source


@pytest.mark.parametrize(
    ("known", "has_person"),
    [
        ({}, True),
        ({"shows_person": True}, True),
        ({"shows_person": False}, False),
        ({"shows_person": False, "person_in_lineage": True}, True),
    ],
)
def test_a_picture_counts_as_a_persons_unless_somebody_looked_and_none_went_in(sketch, known, has_person):
    assert lineage.of([sketch], [("source", media(**known))]).has_person_source is has_person


def test_a_mask_brings_nobody_in_but_is_looked_at(sketch):
    known = lineage.of([sketch], [("source", drawn_here()), ("mask", media())])
    assert (known.has_person_source, known.has_foreign_source) == (False, True)


def test_a_lora_of_a_person_is_a_persons_picture(catalogue, sketch):
    assert lineage.of([sketch, catalogue.get("somebody")]).has_person_source


PERSON, UNKNOWN, NOBODY = {"shows_person": True}, {"shows_person": None}, {"shows_person": False}


@pytest.mark.parametrize(
    ("pictures", "are_judged", "passes"),
    [
        ([PERSON], True, True),
        ([PERSON, NOBODY, NOBODY], True, True),
        ([PERSON, PERSON], False, False),
        ([PERSON, UNKNOWN], False, True),
        ([PERSON, UNKNOWN], True, False),
        ([UNKNOWN, UNKNOWN], True, False),
        ([UNKNOWN, UNKNOWN], False, True),
    ],
)
def test_at_most_one_picture_shows_a_person_as_far_as_is_known(sketch, pictures, are_judged, passes):
    inputs = [("source" if not number else "style", media(str(number), **one)) for number, one in enumerate(pictures)]
    if passes:
        lineage.check_one_person([sketch], inputs, are_judged=are_judged)
        return
    with pytest.raises(OnePersonError, match="at most one"):
        lineage.check_one_person([sketch], inputs, are_judged=are_judged)


def test_the_same_picture_twice_is_one_and_a_lora_of_a_person_another(catalogue, sketch):
    twice = [("source", media(**PERSON)), ("control", media(**PERSON))]
    lineage.check_one_person([sketch], twice, are_judged=True)
    with pytest.raises(OnePersonError, match="the LoRA 'somebody'"):
        lineage.check_one_person([sketch, catalogue.get("somebody")], twice, are_judged=True)
