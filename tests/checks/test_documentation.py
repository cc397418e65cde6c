"""The reference pages say what the code does, and the README's commands exist."""

import re
from pathlib import Path
from typing import Any

import pytest

from scripts import document
from tests.checks import commands_in_pages
from tests.checks.commands_in_pages import commands
from tintype import settings
from tintype.providers.contract import GenerationRequest, ModelFiles, Output, Provider

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", document.PAGES)
def test_a_reference_page_is_what_the_code_says(page: str):
    written = (ROOT / "docs" / page).read_text()
    assert written == document.PAGES[page](), "run `.venv/bin/python scripts/document.py`"


def test_every_setting_has_a_description():
    for group in settings.GROUPS:
        for name, field in group.model_fields.items():
            assert field.description, f"{group.__name__}.{name}"


def test_every_variable_the_pages_name_exists():
    known = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", document.settings_page())) | {"TINTYPE_HOME", "TORCH_INDEX_URL"}
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"\bTINTYPE_[A-Z0-9_]+\b", page.read_text()):
            assert name in known, f"{page.name} names {name}"


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_a_page_names_can_be_run(page: Path):
    problems = [(command.words, commands_in_pages.problem(command)) for command in commands(page.read_text())]
    assert [(words, problem) for words, problem in problems if problem] == []


def test_the_commands_of_the_pages_are_found():
    found = {" ".join(command.words[:2]) for page in PAGES for command in commands(page.read_text())}
    assert {
        "make run",
        "make test",
        ".venv/bin/tintype generate",
        ".venv/bin/tintype doctor",
        "tintype worker",
        ".venv/bin/python scripts/document.py",
        "python scripts/train_sketch.py",
        "python benchmarks/sketch_accuracy.py",
    } <= found


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("```sh\ntintype genrate x\n```", "no command genrate"),
        ("```sh\n.venv/bin/tintype generate x --sied 7\n```", "--sied"),
        ("```sh\nTINTYPE_HOME=/srv $(true) && tintype generate x \\\n  --sied 7 | tee a\n```", "--sied"),
        ("```sh\ntintype generate a ring\n```", "extra argument"),
        ("```sh\ntintype generate # nothing to draw\n```", "Missing parameter"),
        ("```\n$ tintype generate x -n 9 > out\n```", "less than or equal to 8"),
        ("```console\n$ tintype models shew sketch\n```", "`tintype models` has no command shew"),
        ("```sh\nPROMPT=x make rum\n```", "no target rum"),
        ("```sh\npython -m tintype.cli up --promt x\n```", "--promt"),
        ("```sh\n.venv/bin/python scripts/documents.py\n```", "no scripts/documents.py"),
        ("```sh\npython benchmarks/overhead.py --request 5\n```", "no option --request"),
        ("```sh\npython -m benchmarks.overheat\n```", "no benchmarks/overheat.py"),
        ("Steps:\n\n    make rum\n    tintype up\n", "no target rum"),
        ("Then `tintype upp` starts it.", "no command upp"),
        ("Then `.venv/bin/tintype models\nlst` lists them.", "no command lst"),
    ],
)
def test_a_wrong_command_in_a_page_is_noticed(wrong: str, says: str):
    problems = [found for command in commands(f"# Page\n\n{wrong}\n") if (found := commands_in_pages.problem(command))]
    assert len(problems) == 1
    assert says in problems[0]


async def test_the_example_provider_runs_and_fits_the_contract():
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "providers.md").read_text(), re.DOTALL)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    provider: Provider = names["create"]()
    contract = [name for name in vars(Provider) if not name.startswith("_")]
    assert all(callable(getattr(provider, name)) for name in contract)
    model = ModelFiles(id="flat", family="flat", folder="")
    request = GenerationRequest(
        id="1",
        task="text_to_image",
        model=model,
        prompt="",
        negative_prompt="",
        width=4,
        height=2,
        seeds=(300, 7),
        steps=1,
        guidance_scale=1.0,
        sampler="none",
    )
    outputs = [item async for item in provider.generate(request) if isinstance(item, Output)]
    assert [item.pixels.shape for item in outputs] == [(2, 4, 3)] * 2
    assert outputs[0].pixels[0, 0, 0] == 44


def test_every_link_between_pages_leads_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
