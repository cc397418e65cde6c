"""`tintype inspect`: what a file says about how it was made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from tintype import errors, settings
from tintype.cli.terminal import say_plainly
from tintype.media.provenance import inspect as files
from tintype.media.provenance.inspect import Inspection

STATES = {
    "absent": "none",
    "trusted": "intact, signed by someone trusted",
    "untrusted": "intact, but nobody vouches for the signer",
    "invalid": "INVALID: the file was changed, or the signature does not count",
    "unreadable": "there is one, but it cannot be read",
    "unread": "not looked at",
}


class FileUnreadableError(errors.TintypeError):
    """The file cannot be read."""

    code = "file_unreadable"


def inspect(
    file: Annotated[Path, typer.Argument(help="A picture or video: PNG, JPEG, WebP, AVIF, GIF or MP4.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say how a picture or video was made, by its manifest (C2PA), its labels, its mark and the settings in it."""
    found = files.inspect(_read(file), files.trust(settings.home(), settings.load(settings.Provenance)))
    for line in [found.model_dump_json()] if as_json else _lines(found):
        say_plainly(line)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > files.MOST_VIDEO_BYTES:
            most = f"at most {files.MOST_VIDEO_BYTES:,} are looked at"
            raise FileUnreadableError(f"{path} has {size:,} bytes; {most}")
        return path.read_bytes()
    except OSError as error:
        raise FileUnreadableError(f"{path} cannot be read: {error.strerror}") from error


def _lines(found: Inspection) -> Iterator[str]:
    yield f"file:      {found.content_type or 'no picture or video'}, {found.size_bytes:,} bytes"
    verdict = "made or edited by a machine, it says" if found.is_labelled else "not labelled (which proves nothing)"
    yield f"verdict:   {verdict}"
    yield f"manifest:  {STATES[found.manifest.state]}"
    for name in ("issuer", "signed_at", "generator", "model"):
        if value := getattr(found.manifest, name):
            yield f"           {name.replace('_', ' ')}: {_plain(value)}"
    if found.manifest.actions:
        yield f"           actions: {_plain(', '.join(found.manifest.actions))}"
    for reason in found.manifest.reasons:
        yield f"           {_plain(reason.code)}: {_plain(reason.explanation)}"
    for part in found.manifest.parts:
        wrong = "; ".join(_plain(failure.code) for failure in part.failures)
        carried = "with a manifest of its own" if part.has_manifest else "without a manifest"
        yield f"           {_plain(part.title or '?')} ({_plain(part.relation)}): {carried}{wrong and f', {wrong}'}"
    said = found.xmp
    yield f"label:     {_plain(said.source_type.rpartition('/')[2]) if said else 'none'}"
    score = "" if found.mark.score is None else f" (score {found.mark.score})"
    reason = f": {found.mark.reason}" if found.mark.reason else ""
    yield f"mark:      {found.mark.state.replace('_', ' ')}{score}{reason}"
    yield from _settings_lines(found)


def _settings_lines(found: Inspection) -> Iterator[str]:
    written = found.settings.settings
    if written is None:
        yield f"settings:  {_plain(found.settings.reason or 'none')}"
        return
    yield f"settings:  as {_plain(found.settings.source or '?')} writes them"
    for name, value in written.model_dump(exclude_defaults=True, exclude={"graph"}).items():
        yield f"           {name.replace('_', ' ')}: {_plain(str(value))}"
    if written.graph is not None:
        yield f"           workflow: {len(written.graph)} nodes; `tintype comfy add` makes a model of this file"


def _plain(text: str) -> str:
    """A stranger's text without what could steer a terminal, on one line."""
    return "".join(char if char.isprintable() else " " for char in text)[:2000]
