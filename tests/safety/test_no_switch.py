"""There is no switch: no setting, variable, option or field of a request turns a check or a mark off or down."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.processes import RunningStudio
from tintype import settings
from tintype.api import app
from tintype.catalog import operations as catalog
from tintype.catalog.manifest import Manifest
from tintype.catalog.operations import Model
from tintype.cli.app import app as command_line
from tintype.errors import SetupError

SOURCES = Path(settings.__file__).parent
TOPIC = re.compile(
    r"^(safe|safety|unsafe|nsfw|sfw|moderat\w*|censor\w*|uncensored|watermark\w*|mark|marks|marking|provenance|c2pa|"
    r"credentials?|explicit|adult|nud\w+|sexual\w*|detectors?|guardrails?|screen\w*|consent\w*|disclos\w*)$"
)
SWITCH = re.compile(
    r"^(enabled?|disabled?|allow\w*|skip|bypass|ignore|off|on|no|without|level|threshold|tolerance|strict\w*|mode|"
    r"force|override)$"
)
PEERS_FIELDS: dict[str, Any] = {
    "enable_safety_checker": False,
    "disable_safety_checker": True,
    "enable_safety_checks": False,
    "safety_checker": None,
    "requires_safety_checker": False,
    "safety_tolerance": 6,
    "safety_settings": [],
    "safety_filter_level": "block_none",
    "person_generation": "allow_all",
    "nsfw": True,
    "allow_nsfw": True,
    "nsfw_filter": False,
    "censor_nsfw": False,
    "block_nsfw": False,
    "safe_mode": False,
    "moderation": "low",
    "uncensored": True,
    "filter_prompts": False,
    "add_watermark": False,
    "disable_watermark": True,
    "watermark": False,
    "provenance": False,
    "has_person_source": False,
    "model_draws_people": False,
}
"""What other tools call their switches, with the value that would turn the check off; and our own facts."""


NO_SWITCHES = {
    "Provenance.label_corner": "where a visible label of the operator's own goes; the marks stay as they are"
}
"""Settings that speak of safety or marks and choose among values, each with the reason why none of them is `off`."""


def words_of(name: str) -> list[str]:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_").strip("_").split("_")


def is_switch(name: str, kind: str = "") -> bool:
    """Whether a name speaks of safety and is one, by its name or by its type."""
    words = words_of(name)
    is_typed = bool(re.search(r"\b(bool|boolean|int|integer|float|number|Literal|enum)\b", kind))
    return any(TOPIC.match(word) for word in words) and (is_typed or any(SWITCH.match(word) for word in words))


@pytest.mark.parametrize("name", ["enable_safety_checker", "nsfwLevel", "TINTYPE_SAFETY_MODE", "no-watermark"])
def test_the_search_knows_a_switch_when_it_sees_one(name: str):
    assert is_switch(name)
    assert is_switch("nsfw", "bool")
    assert not is_switch("seed_mode", "Literal")
    assert not is_switch("provenance_certificate", "str")


def test_no_setting_is_a_switch():
    found = [
        f"{group.__name__}.{name}"
        for group in settings.GROUPS
        for name, field in group.model_fields.items()
        for spoken in (f"{group.table}_{name}", *settings._aliases(group, name))
        if is_switch(spoken, str(field.annotation))
    ]
    assert set(found) == set(NO_SWITCHES)


def test_no_environment_variable_anywhere_in_the_source_is_a_switch():
    constants = {
        node.value
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    names = {value for value in constants if re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+", value)}
    assert "TINTYPE_HOME" in names
    assert [name for name in sorted(names) if is_switch(name)] == []


def test_the_checks_read_no_setting_and_no_variable():
    for path in (SOURCES / "safety").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            assert not {"os", "settings", "tintype.settings"} & set(imported), path
            assert not (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")), path


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made = app.create(url="postgresql://nobody@127.0.0.1/none", home=Path("/nonexistent"), api=settings.Api())
    return made.openapi()


def requested(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every parameter and every field that a request may have, however deep, with its schema."""
    waiting: list[Any] = []
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                yield parameter["name"], parameter["schema"]
            waiting += [content["schema"] for content in operation.get("requestBody", {}).get("content", {}).values()]
    seen: set[str] = set()
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, list):
            waiting += schema
        elif isinstance(schema, dict):
            reference = schema.get("$ref", "")
            if reference and reference not in seen:
                seen.add(reference)
                waiting.append(document["components"]["schemas"][reference.rpartition("/")[2]])
            yield from schema.get("properties", {}).items()
            waiting += [value for key, value in schema.items() if key not in ("examples", "default", "enum")]


def test_no_field_of_a_request_is_a_switch(document: dict[str, Any]):
    fields = list(requested(document))
    assert {"prompt", "negative_prompt", "switch_at", "limit"} <= {name for name, _ in fields}
    assert [name for name, schema in fields if is_switch(name, str(schema)) or name in PEERS_FIELDS] == []


def test_no_option_of_the_command_line_is_a_switch():
    waiting: list[Any] = [typer.main.get_command(command_line)]
    names: list[str] = []
    while waiting:
        command = waiting.pop()
        waiting += list(getattr(command, "commands", {}).values())
        names += [opt.strip("-") for parameter in command.params for opt in (parameter.name, *parameter.opts)]
    assert "prompt" in names
    assert [name for name in names if is_switch(name) or name.replace("-", "_") in PEERS_FIELDS] == []


def test_the_only_fact_of_a_models_manifest_that_checks_rest_on_is_whether_it_draws_people():
    speaking = [name for name in Manifest.model_fields if "people" in name or is_switch(name, "bool")]
    assert speaking == ["draws_people"]
    assert Manifest.model_fields["draws_people"].is_required() or Manifest.model_fields["draws_people"].default is True


@pytest.mark.parametrize("table", ["safety", "watermark", "moderation"])
def test_a_table_for_a_switch_in_the_settings_file_stops_the_start(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tintype.toml").write_text(f"[{table}]\nenabled = false\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SetupError, match=table):
        settings.load(settings.Api)


async def test_what_other_tools_call_their_switches_is_refused_or_without_effect(new_studio):
    studio: RunningStudio = await new_studio(workers=0)
    plain = {"prompt": "a boat", "model": "scripted", "seed": 1}
    for name, value in PEERS_FIELDS.items():
        beside = await studio.http.post("/api/generate/image", json={**plain, name: value})
        inside = await studio.http.post("/api/generate/image", json={**plain, "options": {name: value}})
        waiting = await studio.http.post("/generate", json={"prompt": "a boat", "extra_params": {name: value}})
        outside = await studio.http.post("/generate", json={"prompt": "a boat", name: value})
        assert [beside.status_code, inside.status_code, waiting.status_code, outside.status_code] == [422] * 4, name
        assert name in beside.text + inside.text
    assert (await studio.http.get("/api/generate")).json()["items"] == []
    without = (await studio.http.post("/api/generate/image", json=plain)).json()
    query = {name: str(value).lower() for name, value in PEERS_FIELDS.items()}
    headers = {f"X-{name.replace('_', '-')}": "false" for name in PEERS_FIELDS}
    switched = await studio.http.post("/api/generate/image", json=plain, params=query, headers=headers)
    if switched.status_code == 202:
        assert switched.json()["parameters"] == without["parameters"]
    else:
        assert switched.status_code == 422


def test_a_data_folder_inside_the_package_makes_no_model_one_that_ships():
    manifest = catalog.Catalogue(Path("nowhere")).get("sketch").manifest
    inside = Model(manifest=manifest, folder=catalog.BUILTIN / "home" / "models" / "sketch")
    assert inside.can_draw_people
    assert not Model(manifest=manifest, folder=catalog.BUILTIN / "sketch").can_draw_people
