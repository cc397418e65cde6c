"""`tintype generate`: one picture from the command line, from a running studio or one started for it."""

import os
import re
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tintype import errors, logs, settings
from tintype.cli import places
from tintype.cli.client import RECONNECT_FOR_S, Client
from tintype.cli.stopping import Stopping
from tintype.cli.studio import READY_S, AlreadyRunningError, Studio
from tintype.cli.terminal import err, say_error, say_plainly

LOOK_S = 1.0
FETCH_S = 3.0
"""How long after its end a picture may still be on its way to whoever asked for it."""

ENDINGS = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


class OutputUnusableError(errors.TintypeError):
    """The picture cannot be written there."""

    code = "output_unusable"


class GenerationFailedError(errors.TintypeError):
    """The picture was not made."""

    code = "generation_failed"


def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File or folder to write to.")] = None,
    model: Annotated[str | None, typer.Option(help="A model of `tintype models list`.")] = None,
    style: Annotated[str | None, typer.Option(help="realism, lux, anime or chatgpt.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What to avoid.")] = "",
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    num_images: Annotated[int, typer.Option("--num-images", "-n", min=1, max=8)] = 1,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same picture.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="How closely to follow the words.")] = None,
    server: Annotated[str | None, typer.Option(help="Address of a studio; default: the one on this machine.")] = None,
) -> None:
    """Draw a picture from words and write it to a file."""
    wanted = {
        "prompt": prompt,
        "model": model,
        "style": style,
        "negative_prompt": negative_prompt,
        "width": width,
        "height": height,
        "num_images": num_images,
        "seed": seed,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
    }
    body = {name: value for name, value in wanted.items() if value not in (None, "")}
    if output is not None:
        body |= _format_for(output)
    logs.configure(settings.load(settings.Logs), process="generate")
    stopping = Stopping()
    stopping.listen()
    try:
        with _client(server, stopping) as client:
            finished = show_progress(client, client.generate(body))
            for path in save(client, finished, output or Path()):
                say_plainly(str(path))
    except KeyboardInterrupt:
        sys.exit(stopping.status)


@contextmanager
def _client(server: str | None, stopping: Stopping) -> Generator[Client]:
    """A client of the given studio, of the one that runs here, or of one started for this command.

    The last is stopped afterwards, once nobody else draws on it.
    """
    home = settings.home()
    there = places.running(home)
    if server is not None or there is not None:
        yield Client(server or there.address)  # pyright: ignore[reportOptionalMemberAccess]  one of them is set
        return
    studio = Studio(home, stopping)
    try:
        with studio.running(lambda text: err.print(f"[dim]{text}[/]")):
            client = Client(studio.address)
            try:
                yield client
            except errors.TintypeError as error:
                say_error(error.detail)  # now, not when all others are done
                _until_unused(studio, client)
                sys.exit(1)
            _until_unused(studio, client)
    except AlreadyRunningError:
        stopping.listen()
        yield Client(_wait_for_the_other(home).address)


def _until_unused(studio: Studio, client: Client) -> None:
    """Keep the studio running while somebody else draws on it; a Ctrl-C ends the wait."""
    answered_at = time.monotonic()
    is_told = False
    try:
        while time.monotonic() < answered_at + RECONNECT_FOR_S:
            with suppress(errors.TintypeError):  # the API may be away for a moment: `watch` starts it again
                if not _is_used(studio, client):
                    return
                answered_at = time.monotonic()
            if not is_told:
                err.print("other generations are still running; Ctrl-C to stop anyway")
                is_told = True
            studio.watch()
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        return


def _is_used(studio: Studio, client: Client) -> bool:
    """Whether the studio's end would take a picture from somebody.

    That is who waits for one, or had one drawn so lately that they may not have fetched it. What no living worker can
    draw is not waited for; nor is anything where further workers on the same database go on with it.
    """
    workers = client.workers()
    if len(workers) > 1 and not studio.has_own_database:
        return False
    models = {model for worker in workers for model in worker["models"]}
    waiting = client.page(status="queued", limit=200)
    if client.page(status="processing", limit=1) or any(not models or one["model"] in models for one in waiting):
        return True
    lately = datetime.now(UTC) - timedelta(seconds=FETCH_S)
    ended = [one["completed_at"] for one in client.page(limit=50) if one["id"] not in client.asked]
    return any(at is not None and datetime.fromisoformat(at) > lately for at in ended)


def _wait_for_the_other(home: Path) -> places.Running:
    """The studio that holds the data folder: it may be starting, or its API may be away for a moment."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if (there := places.running(home)) is not None:
            return there
        time.sleep(0.2)
    raise AlreadyRunningError(f"a studio holds {home} and does not answer; its logs are in {home / 'logs'}")


def show_progress(client: Client, generation: dict[str, Any]) -> dict[str, Any]:
    """Follow a generation with a progress bar until it ends; Ctrl-C cancels it. The finished generation.

    Raises:
        GenerationFailedError: it failed or was cancelled; the message says why.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=err) as bars:
        bar = bars.add_task("waiting", total=None)
        try:
            for event in client.follow(generation["id"]):
                data = event["data"]
                match event["type"]:
                    case "queued" if data["position"] > 1:
                        bars.update(bar, description=f"waiting, number {data['position']} in line")
                    case "started":
                        bars.update(bar, description="drawing")
                    case "progress":
                        bars.update(bar, description="drawing", completed=data["step"], total=data["steps"])
                    case "completed":
                        bars.update(bar, description="done", completed=1, total=1)
                    case _:
                        continue
        except KeyboardInterrupt:
            client.cancel(generation["id"])
            raise
    finished = client.read(generation["id"])
    for warning in finished["warnings"]:
        err.print(f"note: {warning['message']}", markup=False)
    if finished["status"] != "completed":
        reason = (finished["error"] or {}).get("message", f"it was {finished['status']}")
        raise GenerationFailedError(f"no picture: {reason}")
    return finished


def save(client: Client, generation: dict[str, Any], target: Path) -> list[Path]:
    """Write the pictures to `target`, a file (numbered when there are several) or a folder, and give the paths."""
    pictures = generation["media"]
    written: list[Path] = []
    for number, picture in enumerate(pictures):
        ending = ENDINGS[picture["content_type"]]
        if target.suffix and not target.is_dir():
            path = target if len(pictures) == 1 else target.with_stem(f"{target.stem}-{number + 1}")
        else:
            path = target / f"{_file_stem(generation['prompt'])}-{picture['seed']}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.fetch(picture["url"]))
        written.append(path.resolve())
    return written


def _format_for(output: Path) -> dict[str, str]:
    """The output format a file name asks for; a name without an ending is a folder.

    Raises:
        OutputUnusableError: the ending is none of ours, or nothing can be written there.
    """
    folder = output if output.is_dir() or not output.suffix else output.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnusableError(f"{folder} cannot be made: {error.strerror}; choose another with -o") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputUnusableError(f"{folder} cannot be written to; choose another with -o")
    if folder == output:
        return {}
    if output.suffix.lower() not in FORMATS:
        raise OutputUnusableError(f"{output.name}: a picture ends in {', '.join(FORMATS)}")
    return {"output_format": FORMATS[output.suffix.lower()]}


def _file_stem(prompt: str) -> str:
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")
    return words[:60].strip("-") or "picture"
