"""Write the shipped ComfyUI workflows and the page about them: `python scripts/write_workflows.py`.

They are put together in `scripts/workflows`; `tests/comfy/workflows/test_shipped.py` holds the files to it.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.workflows import pages

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "tintype" / "catalog" / "workflows"
WIDTH = 110
PAGE = ROOT / "docs" / "workflows-shipped.md"


def files() -> Iterator[tuple[Path, str]]:
    """Every file there should be, with its text."""
    for recipe in pages.recipes():
        folder = SHIPPED / recipe.id
        yield folder / "manifest.json", _json(recipe.manifest())
        yield folder / "workflow.json", _json(recipe.draft.graph)
        yield folder / "bindings.json", _json(recipe.draft.bindings())
        yield folder / "README.md", pages.readme(recipe)
    yield PAGE, pages.table()


def _json(value: Mapping[str, Any]) -> str:
    return _laid_out(value, 0) + "\n"


def _laid_out(value: Any, indent: int) -> str:
    """JSON for readers: what fits into a line stands on one."""
    line = json.dumps(value, ensure_ascii=False)
    if indent + len(line) <= WIDTH or not isinstance(value, dict | list):
        return line
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {_laid_out(item, indent + 2)}" for name, item in value.items()]
        return "{\n" + ",\n".join(inner + part for part in parts) + "\n" + " " * indent + "}"
    parts = [_laid_out(item, indent + 2) for item in value]
    return "[\n" + ",\n".join(inner + part for part in parts) + "\n" + " " * indent + "]"


def main() -> None:
    """Write them all; folders of workflows that are no more go."""
    wanted = dict(files())
    for folder in SHIPPED.glob("*/"):
        if folder / "manifest.json" not in wanted:
            shutil.rmtree(folder)
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
