"""The two texts that carry settings: exact both ways, and readable by the grammar that other tools use."""

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tintype.media import settings_text
from tintype.media.settings_text import GenerationSettings, Lora

# The grammar of AUTOMATIC1111's infotext reader, written down independently of ours.
A1111_FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TRICKY = st.lists(
    st.sampled_from(
        [
            "a cat",
            "\n",
            ", ",
            ": ",
            '"',
            "\\",
            "Steps: 20, Sampler: Euler, CFG scale: 7",
            "Negative prompt:",
            " ",
            "Size: 512x512",
            "<lora:x:1>",
            "(red:1.2)",
            "кот",
            "猫",
            "🐈",
            "\u3000",
            "\r\n",
            "\x85",
            "\x00",
            "Seed: 1",
            "Version: tintype 9",
            "{",
            "}",
            "Exact prompt: ",
            "Loras: []",
        ]
    ),
    max_size=8,
).map("".join)
PROMPT = st.one_of(TRICKY, TEXT)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
SETTINGS = st.builds(
    GenerationSettings,
    prompt=PROMPT,
    negative_prompt=PROMPT,
    steps=st.none() | st.integers(0, 100_000),
    sampler=st.none() | TRICKY | TEXT,
    guidance_scale=st.none() | NUMBER,
    seed=st.none() | st.integers(0, settings_text.SEED_MAX),
    model=st.none() | TRICKY,
    model_hash=st.none() | st.text("0123456789abcdef", min_size=10, max_size=10),
    loras=st.lists(st.builds(Lora, name=TRICKY | TEXT, weight=NUMBER, hash=st.none() | TEXT), max_size=3).map(tuple),
    style=st.none() | TRICKY,
    tool_version=st.none() | st.from_regex(r"[0-9]{1,2}\.[0-9]\.[0-9](\.dev[0-9])?", fullmatch=True),
    extra=st.dictionaries(
        st.from_regex(settings_text.NAME, fullmatch=True).filter(lambda name: name not in settings_text.KNOWN),
        TRICKY | TEXT,
        max_size=4,
    ),
)
SIZED = st.builds(
    lambda settings, size: settings.model_copy(update={"width": size[0], "height": size[1]} if size else {}),
    SETTINGS,
    st.none() | st.tuples(st.integers(1, 99_999), st.integers(1, 99_999)),
)

SETTINGS_OF_A_CAT = GenerationSettings(
    prompt="a red cat, sitting\non a mat",
    negative_prompt="blurry, dog",
    steps=20,
    sampler="Euler a",
    guidance_scale=7.5,
    seed=1234567890,
    width=512,
    height=768,
    model="sketch",
    model_hash="0123456789",
    loras=(Lora(name="ink", weight=0.8, hash="abcdef012345"), Lora(name="paper")),
    style="realism",
    tool_version="0.1.0",
    extra={"Clip skip": "2", "Note": "one, two: three"},
)


@given(SIZED)
def test_parameters_read_back_are_the_settings_that_were_written(settings):
    assert settings_text.from_parameters(settings_text.to_parameters(settings)) == settings


@given(SIZED)
def test_our_json_read_back_is_the_settings_that_were_written(settings):
    assert settings_text.from_json(settings_text.to_json(settings)) == settings


def test_the_parameters_text_is_what_automatic1111_writes():
    assert settings_text.to_parameters(SETTINGS_OF_A_CAT) == (
        "a red cat, sitting\non a mat <lora:ink:0.8> <lora:paper:1>\n"
        "Negative prompt: blurry, dog\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 1234567890, Size: 512x768, "
        "Model hash: 0123456789, Model: sketch, Style: realism, Clip skip: 2, "
        'Note: "one, two: three", Lora hashes: "ink: abcdef012345", '
        'Loras: "[[\\"ink\\", 0.8, \\"abcdef012345\\"], [\\"paper\\", 1.0, null]]", Version: tintype 0.1.0'
    )


@given(
    prompt=st.lists(st.sampled_from(["cat", "Steps: 9", "a, b", '"q"', "猫", "(x:1.1)"]), min_size=1).map(", ".join),
    seed=st.integers(0, settings_text.SEED_MAX),
    model=TRICKY.map(lambda text: f"m{text}m"),
)
def test_the_grammar_of_other_tools_reads_the_same_fields(prompt, seed, model):
    settings = GenerationSettings(
        prompt=prompt,
        negative_prompt="dog",
        steps=20,
        sampler="Euler",
        seed=seed,
        width=64,
        height=96,
        model=model,
    )
    *lines, last = settings_text.to_parameters(settings).split("\n")
    fields = {key: json.loads(v) if v[:1] == '"' else v for key, v in A1111_FIELD.findall(last)}
    assert lines == [*prompt.split("\n"), "Negative prompt: dog"]
    assert (fields["Steps"], fields["Sampler"]) == ("20", "Euler")
    assert (fields["Seed"], fields["Size"], fields["Model"]) == (str(seed), "64x96", model)


def test_a_file_of_automatic1111_is_read_as_its_own_reader_does():
    read = settings_text.from_parameters(
        "masterpiece, <lora:detail_tweaker:0.6>, a castle\nat dawn\n"
        "Negative prompt: lowres,\nbad hands\n"
        "Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6, Seed: 4000000000, "
        "Size: 832x1216, Model hash: 31e35c80fc, Model: sd_xl_base, Clip skip: 2, "
        'Lora hashes: "detail_tweaker: 7c6bad76eb54", '
        "Version: v1.10.1"
    )
    assert (read.tool, read.tool_version) == ("automatic1111", "v1.10.1")
    assert read.prompt == "masterpiece, , a castle\nat dawn"
    assert read.negative_prompt == "lowres,\nbad hands"
    assert (read.steps, read.sampler, read.guidance_scale) == (28, "DPM++ 2M", 6)
    assert (read.seed, read.width, read.height) == (4_000_000_000, 832, 1216)
    assert (read.model, read.model_hash) == ("sd_xl_base", "31e35c80fc")
    assert read.loras == (Lora(name="detail_tweaker", weight=0.6),)
    assert dict(read.extra) == {"Schedule type": "Karras", "Clip skip": "2"}


def test_text_without_fields_is_all_prompt():
    read = settings_text.from_parameters("just a caption, with: a colon")
    assert (read.prompt, read.steps, dict(read.extra)) == ("just a caption, with: a colon", None, {})
    assert not settings_text.has_fields("just a caption, with: a colon")


def test_numbers_that_are_none_are_unknown():
    read = settings_text.from_parameters(
        "x\nSteps: many, CFG scale: nan, Seed: -1, Size: 0x9999999, Sampler: Euler, Version: v1"
    )
    unknown = (read.steps, read.guidance_scale, read.seed, read.width, read.height)
    assert unknown == (None, None, None, None, None)
    assert read.sampler == "Euler"


@given(TRICKY | TEXT | st.text())
def test_reading_parameters_never_fails(text):
    settings_text.from_parameters(text)
    settings_text.from_parameters(f"x\nSteps: 1, Sampler: {text}, Seed: {text}, Version: tintype, Loras: {text}")


@pytest.mark.parametrize("unit", ["a", " ", "aa:", 'aa:"', "a ", 'aa:"\\', ",", "\n", "<lora:", "<lora:a:"])
def test_a_hostile_megabyte_is_read_in_little_time(unit):
    began = time.perf_counter()
    settings_text.from_parameters((unit * (1 << 20))[: 1 << 20])
    settings_text.from_parameters("x\nSteps: 1, Size: 1x1, Seed: 1, " + (unit * (1 << 20))[: 1 << 20])
    assert time.perf_counter() - began < 5


def test_json_that_is_not_ours_is_a_value_error():
    for text in (
        "",
        "[]",
        "{",
        '{"steps": "many"}',
        '{"width": -5}',
        "[" * 100_000,
        '{"seed": NaN}',
        "x" * (2 << 20),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - pydantic's is one of several kinds
            settings_text.from_json(text)


def test_settings_cannot_be_changed_and_are_checked():
    with pytest.raises(ValidationError):
        SETTINGS_OF_A_CAT.prompt = "another"
    with pytest.raises(ValidationError):
        GenerationSettings(extra={"not: a name": "x"})
    with pytest.raises(ValidationError):
        GenerationSettings(guidance_scale=float("nan"))
