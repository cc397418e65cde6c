"""The local registry of installed models, and styles."""

import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest

from tests.processes import SCRIPTED
from tintype.catalog import operations as catalog
from tintype.catalog import styles
from tintype.catalog.operations import Catalogue
from tintype.cli import doctor


def install(home: Path, model_id: str = "scripted", **changes: object) -> Path:
    folder = home / "models" / model_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({**SCRIPTED, "id": model_id, **changes}))
    return folder


def test_the_built_in_model_is_always_there(tmp_path):
    assert set(Catalogue(tmp_path).models()) == {"sketch"}


def test_models_come_change_and_go_while_one_looks(tmp_path):
    catalogue = Catalogue(tmp_path)
    folder = install(tmp_path)
    assert catalogue.get("scripted").folder == folder
    install(tmp_path, description="another")
    time.sleep(catalog.LOOK_S)
    assert catalogue.get("scripted").manifest.description == "another"
    shutil.rmtree(folder)
    time.sleep(catalog.LOOK_S)
    with pytest.raises(catalog.UnknownModelError, match="installed: sketch"):
        catalogue.get("scripted")


def test_a_model_of_the_users_wins_over_a_built_in_one(tmp_path):
    install(tmp_path, "sketch", name="My sketch")
    assert Catalogue(tmp_path).get("sketch").manifest.name == "My sketch"


def test_a_broken_manifest_hides_only_its_own_model(tmp_path):
    (install(tmp_path, "broken") / "manifest.json").write_text("{")
    (tmp_path / "models" / "odd" / "manifest.json").mkdir(parents=True)
    install(tmp_path)
    assert set(Catalogue(tmp_path).models()) == {"scripted", "sketch"}


def test_a_manifest_that_goes_in_the_middle_of_a_look_does_no_harm(tmp_path):
    install(tmp_path)
    (tmp_path / "models" / "gone").mkdir()
    (tmp_path / "models" / "gone" / "manifest.json").symlink_to(tmp_path / "nowhere")
    assert set(Catalogue(tmp_path).models()) == {"scripted", "sketch"}


def test_a_model_installed_a_moment_ago_can_be_asked_for_at_once(tmp_path):
    catalogue = Catalogue(tmp_path)
    assert set(catalogue.models()) == {"sketch"}
    install(tmp_path)
    assert catalogue.get("scripted").id == "scripted"


def test_the_catalogue_is_not_read_again_without_need(tmp_path, monkeypatch):
    install(tmp_path)
    catalogue = Catalogue(tmp_path)
    first = catalogue.models()
    monkeypatch.setattr(catalog, "installed", lambda home: pytest.fail("read again"))
    time.sleep(catalog.LOOK_S)
    assert catalogue.models() is first


def test_an_unknown_models_name_is_cut_short_in_the_message(tmp_path):
    with pytest.raises(catalog.UnknownModelError) as refused:
        Catalogue(tmp_path).get("x" * 10_000)
    assert len(refused.value.detail) < 200


def test_the_built_in_models_files_are_as_its_manifest_says(tmp_path):
    assert catalog.verify(Catalogue(tmp_path).get("sketch")) == ()


def test_a_missing_a_short_and_a_changed_file_are_found(tmp_path):
    good = b"weights"
    file = {"size": len(good), "sha256": hashlib.sha256(good).hexdigest()}
    folder = install(tmp_path, files=[{**file, "path": name} for name in ("a", "b", "c", "sub/d")])
    (folder / "sub").mkdir()
    for name, data in (("a", good), ("b", b"weight"), ("c", b"weightz")):
        (folder / name).write_bytes(data)
    model = Catalogue(tmp_path).get("scripted")
    found = {problem.path.name: problem.problem for problem in catalog.verify(model)}
    assert found == {
        "b": "has 6 bytes, not 7",
        "c": "has another content than the manifest says",
        "d": "is missing",
    }
    assert {problem.path.name for problem in catalog.verify(model, hashes=False)} == {"b", "d"}


def test_the_four_styles_are_there_and_name_no_model_they_would_not_change():
    assert list(styles.styles()) == ["realism", "lux", "anime", "chatgpt"]
    for style in styles.styles().values():
        assert "sketch" not in style.models
        assert all("{prompt}" in part.prompt and part.prompt != "{prompt}" for part in style.families.values())


def test_a_style_wraps_the_words_for_the_family_it_knows():
    style = styles.get("realism")
    prompt, negative = styles.apply(style, "sdxl", "a {cat}", "dogs")
    assert prompt.startswith("a {cat}, photograph")
    assert negative.startswith("dogs, illustration")
    assert styles.apply(style, "sketch", "a cat", "") == ("a cat", "")
    assert styles.apply(style, "never heard of", "a cat", "dogs") == ("a cat", "dogs")


def test_words_that_look_like_the_styles_own_sign_are_left_alone():
    prompt, _ = styles.apply(styles.get("realism"), "sdxl", "{prompt} {prompt}", "")
    assert prompt.startswith("{prompt} {prompt}, photograph")


def test_an_unknown_style_is_told_those_that_exist():
    with pytest.raises(styles.UnknownStyleError, match="realism, lux, anime, chatgpt"):
        styles.get("cubism")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "InstantID for everyone"},
        {"files": [{"path": "inswapper_128.onnx", "size": 1, "sha256": 64 * "0"}]},
        {"dependencies": ["ip-adapter-faceid"]},
    ],
)
def test_a_model_made_to_put_faces_onto_others_is_left_out_and_doctor_says_so(tmp_path, monkeypatch, changes):
    install(tmp_path, "portrait", **changes)
    install(tmp_path)
    assert set(Catalogue(tmp_path).models()) == {"scripted", "sketch"}
    monkeypatch.setenv("TINTYPE_HOME", str(tmp_path))
    found = {finding.part: finding for finding in doctor._models()}
    wrong = found["model in portrait"]
    assert (wrong.is_well, "which is not done here" in wrong.detail) == (False, True)
    assert "remove" in wrong.mend
    assert found["model scripted"].is_well
