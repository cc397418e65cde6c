"""The manifest of a model: what one must say and what it must not."""

import json
from pathlib import Path

import pytest

from tests.processes import SCRIPTED
from tintype.catalog import manifest
from tintype.catalog.operations import BUILTIN

FILE = {"path": "model.safetensors", "size": 3, "sha256": "0" * 64}
LORA = {
    **{key: SCRIPTED[key] for key in ("name", "description", "family", "licence", "prompt_languages", "draws_people")},
    "id": "a-lora",
    "kind": "lora",
    "tasks": [],
}


def read(folder: Path, **changes: object) -> manifest.Manifest:
    return read_whole(folder, {**SCRIPTED, **changes})


def read_whole(folder: Path, value: object) -> manifest.Manifest:
    path = folder / "manifest.json"
    path.write_text(json.dumps(value))
    return manifest.read(path)


def without(*names: str) -> dict:
    return {name: value for name, value in SCRIPTED.items() if name not in names}


def test_a_whole_manifest_is_read(tmp_path):
    found = read(tmp_path, files=[FILE, {**FILE, "path": "deep/er/model.bin", "size": 4}])
    assert (found.id, found.disk_bytes) == ("scripted", 7)
    assert found.limits.max_images == 8
    with pytest.raises(ValueError, match="frozen"):
        found.id = "other"


def test_the_built_in_model_follows_the_rules():
    assert manifest.read(BUILTIN / "sketch" / "manifest.json").id == "sketch"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../other/model.bin", "a/../../b", "..", "a\\..\\b", "C:\\x"], ids=lambda path: path
)
def test_a_file_outside_the_models_folder_is_refused(tmp_path, path):
    with pytest.raises(manifest.ManifestError, match="leaves the model's folder"):
        read(tmp_path, files=[{**FILE, "path": path}])


@pytest.mark.parametrize(
    "path", ["model.bin", "a/b.bin", "..model.bin", "a..b/c", "unet/diffusion_pytorch_model.fp16.bin"]
)
def test_a_file_inside_the_models_folder_is_fine(tmp_path, path):
    assert read(tmp_path, files=[{**FILE, "path": path}]).files[0].path == path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"limits": {**SCRIPTED["limits"], "colour": 1}}, "limits.colour"),
        ({"id": "Big/Slash"}, "id: "),
        ({"id": "../up"}, "id: "),
        ({"id": ""}, "id: "),
        ({"kind": "car"}, "kind: "),
        ({"tasks": ["text_to_sound"]}, "tasks.0: "),
        ({"features": ["faces"]}, "features.0: "),
        ({"features": ["references"]}, "limits.max_references"),
        ({"samplers": ["other"]}, "default sampler 'euler' is not among `samplers`"),
        ({"samplers": []}, "needs `defaults`, `limits` and `samplers`"),
        ({"limits": None}, "needs `defaults`, `limits` and `samplers`"),
        ({"defaults": None}, "needs `defaults`, `limits` and `samplers`"),
        ({"files": [{**FILE, "sha256": "abc"}]}, "files.0.sha256"),
        ({"files": [{**FILE, "size": -1}]}, "files.0.size"),
        ({"licence": {"id": "x", "commercial": "maybe"}}, "licence.commercial"),
        ({"options": {"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}}, "pattern"),
        ({"options": {"type": "object", "properties": {"a": {"type": "whatever"}}}}, "type: Input should be"),
        ({"options": {"type": "object", "additionalProperties": True}}, "Input should be False"),
        ({"options": {"type": "object", "properties": {"a": {"type": "array"}}}}, "an array needs `items`"),
        ({"options": {"properties": {}}}, "type: Field required"),
        ({"options": {"type": "string"}}, "options are an object"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_rule_that_is_broken_is_named(tmp_path, changes, says):
    with pytest.raises(manifest.ManifestError) as refused:
        read(tmp_path, **changes)
    assert says in refused.value.detail
    assert str(tmp_path) in refused.value.detail


@pytest.mark.parametrize("name", ["id", "name", "licence", "draws_people", "tasks", "prompt_languages"])
def test_what_every_model_must_say_is_required(tmp_path, name):
    with pytest.raises(manifest.ManifestError, match=rf"{name}: Field required"):
        read_whole(tmp_path, without(name))


def test_a_model_that_generates_nothing_needs_no_limits(tmp_path):
    assert read_whole(tmp_path, LORA).limits is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "\x00"])
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(manifest.ManifestError, match=r"manifest\.json"):
        manifest.read(path)


def test_a_file_that_is_not_text_or_missing_is_refused(tmp_path):
    path = tmp_path / "manifest.json"
    with pytest.raises(manifest.ManifestError, match="No such file"):
        manifest.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(manifest.ManifestError, match=r"manifest\.json"):
        manifest.read(path)
