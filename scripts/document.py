"""Write the reference pages that follow from the code: `docs/settings.md` and `docs/commands.md`."""

from collections.abc import Iterator
from pathlib import Path

import click
import typer.main
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from tintype import settings
from tintype.cli.app import app

DOCS = Path(__file__).parents[1] / "docs"


def settings_page() -> str:
    """Every setting: its variable, its place in `tintype.toml`, default and meaning."""
    lines = [
        "# Settings",
        "",
        "Each is read from the environment first, then from `tintype.toml` in the working folder or the data",
        "folder, else the default holds. All data lies under `TINTYPE_HOME` (default `~/.local/share/tintype`; as root",
        "`/var/lib/tintype`; on a pod `/workspace`).",
    ]
    for group in settings.GROUPS:
        purpose = (group.__doc__ or "").strip().splitlines()[0]
        rows = [_setting(group, name, field) for name, field in group.model_fields.items()]
        header = ["| variable | in the file | default | meaning |", "| --- | --- | --- | --- |"]
        lines += ["", f"## `[{group.table}]`", "", purpose, "", *header, *rows]
    return "\n".join(lines) + "\n"


def _setting(group: type[settings.Group], name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    prefix = str(group.model_config.get("env_prefix", ""))
    names = [str(choice) for choice in alias.choices if choice != name] if isinstance(alias, AliasChoices) else []
    variables = " or ".join(f"`{variable}`" for variable in names or [f"{prefix}{name.upper()}"])
    default = "" if field.default is None else f"`{field.default}`"
    return f"| {variables} | `{name}` | {default} | {field.description} |"


def commands_page() -> str:
    """Every command with its arguments and options."""
    root = typer.main.get_command(app)
    lines = ["# Commands", "", *_command("tintype", root)]
    return "\n".join(lines).rstrip() + "\n"


def _command(path: str, command: click.Command) -> Iterator[str]:
    yield from (f"## `{path}`", "", (command.help or "").strip(), "")
    shown = [parameter for parameter in command.params if parameter.name not in ("help", *HIDDEN)]
    if shown:
        yield from ("| argument | meaning |", "| --- | --- |")
        for parameter in shown:
            names = ", ".join(f"`{name}`" for name in parameter.opts)
            yield f"| {names} | {getattr(parameter, 'help', None) or ''} |"
        yield ""
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from _command(f"{path} {name}", child)


HIDDEN = ("install_completion", "show_completion")

PAGES = {"settings.md": settings_page, "commands.md": commands_page}

if __name__ == "__main__":
    for file_name, page in PAGES.items():
        (DOCS / file_name).write_text(page())
