"""`tintype comfy up`: a ComfyUI installation in this terminal, kept running until Ctrl-C."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tintype import settings
from tintype.cli.stopping import Stopping
from tintype.cli.terminal import say, say_plainly
from tintype.comfy import supervising
from tintype.comfy.supervising import Supervisor


def up(
    folder: Annotated[Path, typer.Argument(help="The folder ComfyUI was cloned or unpacked into.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="After `--`: more for ComfyUI's own main.py.")] = None,
    python: Annotated[
        str | None, typer.Option(help="The Python that runs it; default: the environment inside or beside the folder.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: the first free from 8188 on.")] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Compute on the processor, without a graphics card.")] = False,
) -> None:
    """Start a ComfyUI installation on loopback and keep it running until Ctrl-C; say why when it will not start."""
    stopping = Stopping()
    stopping.listen()
    installation = supervising.find(folder, python)
    supervisor = Supervisor(
        installation,
        port=supervising.free_port(port),
        arguments=[*_own_models(), *(["--cpu"] if cpu else []), *(arguments or ())],
        tell=say_plainly,
        pass_on=_pass_on,
    )
    try:
        with stopping.closing(supervisor.stop):
            say(f"starting ComfyUI in {installation.folder} with {installation.python}")
            _tell_ready(supervisor, supervisor.start())
            supervisor.keep()
    except KeyboardInterrupt:
        sys.exit(0)


def _own_models() -> list[str]:
    home = settings.home()
    models = settings.load(settings.Comfy).models or home / "models"
    return supervising.show_models(models, home / "comfy" / "model_paths.yaml") if models.is_dir() else []


def _tell_ready(supervisor: Supervisor, stats: dict[str, Any]) -> None:
    version = stats.get("system", {}).get("comfyui_version", "of unknown version")
    devices = ", ".join(str(device.get("name")) for device in stats.get("devices", []))
    say(f"ComfyUI {version} is ready: [bold]{supervisor.address}[/]   ({devices or 'no device'}; Ctrl-C stops it)")
    say(f"Tintype uses it when started with COMFYUI_URL={supervisor.address}")


def _pass_on(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
