"""Talking to the person at the terminal."""

from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
err = Console(highlight=False, soft_wrap=True, stderr=True)


def say(text: str) -> None:
    """One line on standard output."""
    out.print(text)


def say_plainly(text: str) -> None:
    """One line as it is, whatever is in it."""
    out.print(text, markup=False)


def say_error(text: str) -> None:
    """What went wrong and what to do, on standard error."""
    err.print("[bold red]error:[/]", end=" ")
    err.print(text, markup=False)
