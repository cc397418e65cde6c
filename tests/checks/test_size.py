"""Files and functions stay small. The numbers in `limits.json` only ever go down."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMITS = json.loads((Path(__file__).parent / "limits.json").read_text())
GOAL_FILE, GOAL_FUNCTION = 400, 50
LEFT_OUT = ROOT / "tintype" / "db" / "migrations" / "versions"


def sources() -> Iterator[Path]:
    for folder in ("tintype", "scripts", "benchmarks"):
        yield from (path for path in (ROOT / folder).rglob("*.py") if LEFT_OUT not in path.parents)


def longest_file() -> tuple[int, Path]:
    return max((len(path.read_text().splitlines()), path) for path in sources())


def longest_function() -> tuple[int, str]:
    def functions() -> Iterator[tuple[int, str]]:
        for path in sources():
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield (node.end_lineno or 0) - node.lineno + 1, f"{path.relative_to(ROOT)}: {node.name}"

    return max(functions())


def test_no_file_is_longer_than_the_limit():
    lines, path = longest_file()
    assert lines <= LIMITS["file_lines"], f"{path.relative_to(ROOT)} has {lines} lines: split it"


def test_no_function_is_longer_than_the_limit():
    lines, name = longest_function()
    assert lines <= LIMITS["function_lines"], f"{name} has {lines} lines: split it"


def test_the_limits_follow_the_code_down():
    lines, _ = longest_file()
    assert LIMITS["file_lines"] == max(lines, GOAL_FILE), "lower file_lines in limits.json"
    lines, _ = longest_function()
    assert LIMITS["function_lines"] == max(lines, GOAL_FUNCTION), "lower function_lines in limits.json"
