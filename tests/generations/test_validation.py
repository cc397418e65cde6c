"""From a request to resolved parameters, against any manifest."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.processes import SCRIPTED
from tintype.catalog.manifest import Limits, Manifest
from tintype.catalog.operations import Catalogue
from tintype.generations import validation
from tintype.generations.schemas import ImageCreate, VideoCreate
from tintype.intake.text import clean_text


@pytest.fixture
def catalogue(tmp_path):
    """A function that gives a catalogue with the model `scripted`, its manifest changed as asked."""

    def make(**changes: object) -> Catalogue:
        for name in ("scripted", "sdxl-base"):
            if name == "scripted" or changes.get("family") == "sdxl":
                folder = tmp_path / "models" / name
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "manifest.json").write_text(json.dumps({**SCRIPTED, "id": name, **changes}))
        return Catalogue(tmp_path)

    return make


def resolve(catalogue: Catalogue, **fields: object) -> validation.Resolved:
    request = ImageCreate.model_validate({"prompt": "a cat", "model": "scripted", **fields})
    return validation.resolve(request, catalogue)


def refused(catalogue: Catalogue, **fields: object) -> dict[str, str]:
    with pytest.raises(validation.InvalidGenerationError) as problem:
        resolve(catalogue, **fields)
    return {str(field.loc[-1]): field.msg for field in problem.value.fields}


def test_what_is_left_out_gets_the_models_defaults(catalogue):
    found = resolve(catalogue(), seed=3)
    assert found.parameters == {
        "task": "text_to_image",
        "prompt": "a cat",
        "negative_prompt": "",
        "drawn": {"prompt": "a cat", "negative_prompt": ""},
        "width": 64,
        "height": 64,
        "num_images": 1,
        "seed": 3,
        "seeds": [3],
        "num_inference_steps": 2,
        "guidance_scale": 1,
        "sampler": "euler",
        "seed_mode": "fast",
        "output_format": "png",
        "options": {},
    }


def test_zero_is_a_guidance_of_its_own_and_not_the_default(catalogue):
    assert resolve(catalogue(), guidance_scale=0).parameters["guidance_scale"] == 0


def test_without_a_model_the_built_in_one_draws(catalogue):
    assert resolve(catalogue(), model=None).model.id == "sketch"


def test_a_style_chooses_the_first_of_its_models_that_is_installed(catalogue):
    assert resolve(catalogue(), model=None).model.id == "sketch"
    found = resolve(catalogue(family="sdxl"), model=None, style="realism")
    assert found.model.id == "sdxl-base"
    assert found.prompt == "a cat"
    assert found.parameters["drawn"]["prompt"].startswith("a cat, photograph")
    assert found.parameters["drawn"]["negative_prompt"].startswith("illustration")
    assert (found.parameters["prompt"], found.parameters["negative_prompt"]) == ("a cat", "")


def test_a_model_for_another_task_is_refused(catalogue):
    answer = refused(catalogue(tasks=["upscale"]))
    assert "does not make pictures from words" in answer["model"]


def test_a_negative_prompt_is_refused_where_the_model_has_none(catalogue):
    assert "negative_prompt" in refused(catalogue(features=[]), negative_prompt="dogs")


def test_a_model_whose_detector_is_missing_is_refused_before_anything_else(catalogue):
    with pytest.raises(validation.SafetyDetectorMissingError) as problem:
        resolve(catalogue(draws_people=True, dependencies=["seer"]), width=3)
    assert (problem.value.code, problem.value.status) == ("safety_detector_missing", 422)
    assert "'seer' is not installed" in problem.value.detail


def test_options_are_checked_against_the_manifest(catalogue):
    options = {"type": "object", "properties": {"tiled": {"type": "boolean"}}}
    assert resolve(catalogue(options=options), options={"tiled": True}).parameters["options"] == {"tiled": True}
    assert refused(catalogue(options=options), options={"tiled": 1}) == {
        "tiled": "is not of type boolean; send a boolean"
    }
    assert "there are none" in refused(catalogue(options={}), options={"tiled": True})["tiled"]


@given(
    min_side=st.integers(8, 600),
    extra=st.integers(0, 600),
    multiple_of=st.sampled_from([1, 2, 8, 16, 64]),
    side=st.integers(1, 16384),
)
def test_the_side_suggested_instead_is_one_that_is_accepted(min_side, extra, multiple_of, side):
    limits = Limits(
        min_side=min_side,
        max_side=min_side + multiple_of + extra,
        multiple_of=multiple_of,
        max_pixels=2**28,
        max_steps=1,
        max_guidance_scale=1,
    )
    nearest = validation.nearest(side, limits)
    assert limits.min_side <= nearest <= limits.max_side
    assert nearest % multiple_of == 0
    if limits.min_side <= side <= limits.max_side and side % multiple_of == 0:
        assert nearest == side


@given(st.text())
def test_a_prompt_is_taken_exactly_when_it_is_plain_text(prompt):
    forbidden = any((ord(c) < 32 and c not in "\n\r\t") or 127 <= ord(c) < 160 for c in prompt)
    try:
        taken = ImageCreate.model_validate({"prompt": prompt}).prompt
    except ValueError:
        assert forbidden or not clean_text(prompt).strip()
    else:
        assert not forbidden
        assert taken == clean_text(prompt).strip()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_options_that_are_taken_can_be_kept_as_json(value):
    try:
        options = ImageCreate.model_validate({"prompt": "x", "options": {"a": value}}).options
    except ValueError:
        return
    text = json.dumps(options, allow_nan=False, ensure_ascii=False).encode()
    assert b"\\u0000" not in text


CHOOSES_ITS_CHECKPOINT = {
    "family": "sdxl",
    "samplers": ["euler", "euler_ancestral"],
    "options": {"type": "object", "properties": {"checkpoint": {"type": "string"}, "scheduler": {"type": "string"}}},
}


def test_a_style_chooses_checkpoint_sampler_steps_and_guidance_where_the_request_leaves_them_open(catalogue):
    there = catalogue(**CHOOSES_ITS_CHECKPOINT)
    found = resolve(there, style="anime").parameters
    assert (found["sampler"], found["num_inference_steps"], found["guidance_scale"]) == ("euler_ancestral", 28, 6.0)
    assert found["options"]["checkpoint"].startswith("sdxl/animagine")
    assert found["options"]["scheduler"] == "normal"
    own = resolve(there, style="anime", sampler="euler", steps=5, cfg_scale=2, options={"scheduler": "karras"})
    chosen = own.parameters
    assert (chosen["sampler"], chosen["num_inference_steps"], chosen["guidance_scale"]) == ("euler", 5, 2)
    assert chosen["options"] == {**found["options"], "scheduler": "karras"}


def test_a_style_leaves_how_a_model_runs_alone_where_it_cannot_choose_the_checkpoint(catalogue):
    there = catalogue(family="sdxl", samplers=["euler", "euler_ancestral"])
    found = resolve(there, style="anime").parameters
    assert (found["sampler"], found["num_inference_steps"], found["options"]) == ("euler", 2, {})
    assert "anime" in found["drawn"]["prompt"]


def test_what_a_workflow_does_not_take_of_a_request_for_a_video_is_refused_and_its_own_size_is_not():
    said = Manifest.model_validate(
        {**SCRIPTED, "loader": "comfy", "kind": "workflow", "takes": ["prompt", "width", "height"]}
    )
    asked = VideoCreate(prompt="x", frames=9, fps=8, seed=4)
    found = [problem.loc[-1] for problem in validation.taken_problems(asked, said)]
    assert found == ["seed", "fps", "frames"]
    assert list(validation.taken_problems(VideoCreate(prompt="x", seed=-1), said)) == []


LIMITS = {**SCRIPTED["limits"], "max_side": 512, "max_pixels": 512 * 384, "max_steps": 50}


@pytest.mark.parametrize(
    ("hires", "size", "said"),
    [
        ({"scale": 2}, (256, 192), {}),
        ({"scale": 2.1}, (256, 192), {"scale": "256×192 becomes 538×403; 'scripted' draws at most 196608 pixels"}),
        ({"scale": 4}, (64, 256), {"scale": "512 a side: send at most 2, or a smaller picture"}),
        ({"scale": 1.5}, (512, 384), {"scale": "leave `hires` out, or a smaller picture"}),
        ({"scale": 2, "steps": 51}, (64, 64), {"steps": "at most 50 steps"}),
    ],
)
def test_a_second_pass_is_held_to_the_limits_of_the_first(catalogue, hires, size, said):
    models = catalogue(features=["hires"], limits=LIMITS)
    asked = {"hires": hires, "width": size[0], "height": size[1]}
    if not said:
        assert resolve(models, **asked).parameters["hires"]["scale"] == hires["scale"]
        return
    found = refused(models, **asked)
    assert found.keys() == said.keys()
    assert all(text in found[name] for name, text in said.items())


def test_a_style_that_no_installed_model_has_is_refused_with_the_models_that_have_it(catalogue):
    found = refused(catalogue(), model=None, style="anime")
    assert "no installed model that can do this draws in the style 'anime'" in found["style"]
    assert "install 'counterfeit-v3' or 'anything-v5'" in found["style"]


def test_a_style_takes_a_model_it_has_words_for_where_its_own_are_not_installed(catalogue):
    found = resolve(catalogue(family="sdxl"), model=None, style="anime")
    assert found.model.manifest.family == "sdxl"
    assert "anime style" in found.parameters["drawn"]["prompt"]
