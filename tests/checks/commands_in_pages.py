"""The commands that pages tell people to run, and what would go wrong if they did."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer.main
from typer.exceptions import TyperException

from tintype.cli.app import app

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n?)+")
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
SHELLS = ("", "sh", "bash", "shell", "console", "text")
STARTERS = re.compile(r"(?:\$ )?(?:\w+=(?:\"[^\"]*\"|\S+) )*(?:\S*/)?(?:tintype|make|python3?)\s")


@dataclass(frozen=True, kw_only=True)
class Command:
    """Words as a shell would see them; what stands within a sentence may leave arguments out."""

    words: tuple[str, ...]
    is_whole: bool


def commands(page: str) -> Iterator[Command]:
    """Every command of ours in a page: in blocks, and between backticks."""
    blocks = [text for language, text in FENCE.findall(page) if language in SHELLS]
    rest = FENCE.sub("", page)
    blocks += INDENTED.findall(rest)
    for block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            for words in _simple_commands(line.strip()):
                yield Command(words=words, is_whole=True)
    for span in INLINE.findall(INDENTED.sub("", rest)):
        if STARTERS.match(f"{span} "):
            for words in _simple_commands(" ".join(span.split())):
                yield Command(words=words, is_whole=False)


def problem(command: Command) -> str | None:
    """What is wrong with a command; None for one that runs, and for programs that are not ours."""
    program, *arguments = command.words
    match Path(program).name, arguments:
        case "tintype", _:
            return _problem_of_tintype(arguments, is_whole=command.is_whole)
        case "make", _:
            return _problem_of_make(arguments)
        case "python" | "python3", ["-m", "tintype.cli", *rest]:
            return _problem_of_tintype(rest, is_whole=command.is_whole)
        case "python" | "python3", ["-m", module, *rest] if (ROOT / module.partition(".")[0]).is_dir():
            return _problem_of_script(Path(*module.split(".")).with_suffix(".py"), rest)
        case "python" | "python3", [path, *rest] if path.endswith(".py"):
            return _problem_of_script(Path(path), rest)
    return None


def _simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line, without what a prompt, variables before them, pipes and redirections add."""
    try:
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        tokens = [*lexer, ";"]
    except ValueError:  # not a line for a shell
        return
    words: list[str] = []
    is_redirected = False
    for token in tokens:
        if set(token) <= set("|&;()"):
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words.pop(0)
            if words:
                yield tuple(words)
            words, is_redirected = [], False
        elif set(token) <= set("<>&"):
            is_redirected = True
        elif not is_redirected:
            words.append(token)


def _problem_of_tintype(arguments: list[str], *, is_whole: bool) -> str | None:
    command, path = typer.main.get_command(app), "tintype"
    rest = [argument for argument in arguments if argument != "--help"]
    asks_for_help = len(rest) < len(arguments)
    while rest and hasattr(command, "commands"):
        if rest[0] not in command.commands:
            return f"`{path}` has no command {rest[0]}"
        path, command = f"{path} {rest[0]}", command.commands[rest.pop(0)]
    if hasattr(command, "commands") or asks_for_help:
        return None
    try:
        command.make_context(path, [*rest])
    except TyperException as error:
        is_left_out = type(error).__name__ == "MissingParameter" and not is_whole
        return None if is_left_out else f"`{path}`: {error}"
    return None


def _problem_of_make(arguments: list[str]) -> str | None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    unknown = [word for word in arguments if not re.match(r"-|\w+=", word) and word not in targets]
    return f"the Makefile has no target {', '.join(unknown)}" if unknown else None


def _problem_of_script(path: Path, arguments: list[str]) -> str | None:
    """Scripts are not run: their file exists, and the options are among the words of its own code."""
    if not (ROOT / path).is_file():
        if (ROOT / path.with_suffix("")).is_dir():  # a package, such as the tests
            return None
        return f"there is no {path}"
    said = {node.value for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Constant)}
    unknown = [word for word in arguments if word.startswith("--") and word.partition("=")[0] not in said]
    return f"{path} has no option {', '.join(unknown)}" if unknown else None
