"""The reference pages say what the code does, and the README's commands exist."""

import re
from pathlib import Path
from typing import Any

import pytest

from scripts import document
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


def test_every_command_the_pages_name_exists():
    known = re.findall(r"## `(tintype[a-z ]*)`", document.commands_page())
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for command in re.findall(r"`(tintype [a-z]+(?: [a-z]+)?)", page.read_text()):
            assert any(command == name or command.startswith(name + " ") for name in known[1:]), (
                f"{page.name}: {command}"
            )


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
