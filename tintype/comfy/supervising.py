"""A ComfyUI installation of this machine, started and kept running: on loopback only, with what it says passed on."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tintype import errors
from tintype.comfy import obstacles
from tintype.comfy.obstacles import Place

LOOPBACK = "127.0.0.1"
PORT = 8188
PORTS_TRIED = 20
READY_S = 600.0
"""How long a start may take: a cold disk reads PyTorch for minutes, and custom nodes install what they need."""

STOP_S = 10.0
RESTART_DELAYS_S = (1.0, 3.0, 10.0, 30.0)
STEADY_S = 60.0
"""What ran this long and then ended is started again without counting what was before."""

ENDS_AT_MOST = 5
TAIL_BYTES = 64 << 10
ENVIRONMENTS = ("venv", ".venv", "env")
OWN_ARGUMENTS = ("--listen", "--port", "--tls-keyfile", "--tls-certfile", "--enable-cors-header")
PRIVATE = ("TINTYPE_", "AWS_", "DATABASE_URL")
"""Variables that are not handed on: custom nodes are strangers' code."""

MISLEADING = ("PYTHONHOME", "PYTHONSAFEPATH", "VIRTUAL_ENV")
MODEL_FOLDERS = (
    "animatediff_models",
    "animatediff_motion_lora",
    "checkpoints",
    "clip_vision",
    "controlnet",
    "diffusion_models",
    "embeddings",
    "loras",
    "style_models",
    "text_encoders",
    "upscale_models",
    "vae",
)

# Ends ComfyUI when the pipe to this process breaks, that is when the supervisor is gone, however it went.
LEASH = 'cat >/dev/null; kill -INT "$1"; sleep 5; kill -KILL -- "-$1"'


class NotAnInstallationError(errors.SetupError):
    """There is no ComfyUI that could be started."""

    code = "comfy_not_found"


class ComfyPortTakenError(errors.SetupError):
    """The port for ComfyUI is taken by another program."""

    code = "comfy_port_taken"


class ComfyNotStartedError(errors.SetupError):
    """ComfyUI does not start."""

    code = "comfy_not_started"


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A folder with ComfyUI's `main.py`, and the Python that runs it."""

    folder: Path
    python: Path


def find(folder: Path, python: str | None = None) -> Installation:
    """The installation in `folder`; without `python` (a path or name) the environment inside or beside it is taken.

    Raises:
        NotAnInstallationError: there is none, or no Python for it; says what to give.
    """
    folder = folder.expanduser().absolute()
    if not (folder / "main.py").is_file() or not (folder / "comfy").is_dir():
        meant = next((path.parent for path in sorted(folder.glob("*/main.py"))), None)
        mend = f"did you mean {meant}?" if meant else "give the folder that ComfyUI was cloned or unpacked into"
        missing = "no `comfy` folder" if (folder / "main.py").is_file() else "no main.py"
        raise NotAnInstallationError(f"{folder} is no ComfyUI installation, it has {missing}: {mend}")
    if python is not None:
        if (found := shutil.which(python)) is None:
            raise NotAnInstallationError(f"{python} is no program that can be run: give another Python with --python")
        return Installation(folder=folder, python=Path(found).absolute())
    for place in (folder, folder.parent):
        for name in ENVIRONMENTS:
            if os.access(inside := place / name / "bin" / "python", os.X_OK):
                return Installation(folder=folder, python=inside)
    raise NotAnInstallationError(
        f"there is no Python environment ({', '.join(ENVIRONMENTS)}) in {folder} or beside it: say with --python which "
        "Python ComfyUI was installed for, e.g. --python python3"
    )


def free_port(chosen: int | None = None) -> int:
    """The port to use: the chosen one, else the first free from 8188 on.

    Raises:
        ComfyPortTakenError: there is none.
    """
    for port in range(PORT, PORT + PORTS_TRIED) if chosen is None else (chosen,):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                trial.bind((LOOPBACK, port))
                return trial.getsockname()[1]
    taken = f"port {chosen} is" if chosen is not None else f"ports {PORT} to {PORT + PORTS_TRIED - 1} are"
    raise ComfyPortTakenError(f"{taken} taken by another program; choose another with --port")


def show_models(models: Path, at: Path) -> list[str]:
    """The arguments that show ComfyUI the folder `models` beside its own; what says so is written to the file `at`."""
    paths = {name: name for name in MODEL_FOLDERS}
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(json.dumps({"tintype": {"base_path": str(models), **paths}}))  # JSON is YAML
    return ["--extra-model-paths-config", str(at)]


def check_arguments(arguments: Sequence[str]) -> None:
    """Let further arguments for `main.py` through, unless they would open it to the network.

    Raises:
        errors.SetupError: one of them would.
    """
    for argument in arguments:
        if argument.partition("=")[0] in OWN_ARGUMENTS:
            raise errors.SetupError(
                f"{argument} cannot be passed on: whoever reaches ComfyUI can run what they like on this machine, so "
                "it listens on loopback only; --port chooses the port"
            )


class Supervisor:
    """Use: `start()`, then `keep()`, and `stop()` whatever ended those two."""

    def __init__(
        self,
        installation: Installation,
        *,
        port: int,
        arguments: Sequence[str] = (),
        tell: Callable[[str], None],
        pass_on: Callable[[bytes], None],
    ) -> None:
        self.address = f"http://{LOOPBACK}:{port}"
        self._place = Place(folder=installation.folder, python=installation.python, port=port)
        check_arguments(arguments)
        self._arguments = arguments
        self._tell = tell
        self._pass_on = pass_on
        self._process: subprocess.Popen[bytes] | None = None
        self._leash: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._tail = b""

    def start(self) -> dict[str, Any]:
        """Start it and wait until it answers; what it says of itself (`/system_stats`).

        Raises:
            ComfyNotStartedError: it does not start; the message says why and what to do.
        """
        self._spawn()
        deadline = time.monotonic() + READY_S
        with httpx.Client(base_url=self.address, timeout=5, trust_env=False) as http:
            while time.monotonic() < deadline:
                if self._code() is not None:
                    raise ComfyNotStartedError(f"ComfyUI does not start: {self._why()}")
                with contextlib.suppress(httpx.HTTPError, ValueError):
                    return http.get("/system_stats").raise_for_status().json()
                time.sleep(0.1)
        raise ComfyNotStartedError(f"ComfyUI did not answer on {self.address} within {READY_S:.0f} s of its start")

    def keep(self) -> None:
        """Start it again, after growing pauses, each time it ends; for ever.

        Raises:
            ComfyNotStartedError: it ended too often, soon after each start; the message says why.
        """
        ends = 0
        started_at = time.monotonic()
        while True:
            if self._process is not None:
                self._process.wait()
            ends = 1 if time.monotonic() - started_at > STEADY_S else ends + 1
            if ends > ENDS_AT_MOST:
                raise ComfyNotStartedError(f"ComfyUI ended {ends} times, each time soon: {self._why()}")
            pause_s = RESTART_DELAYS_S[min(ends, len(RESTART_DELAYS_S)) - 1]
            self._tell(f"ComfyUI ended: {self._why()}\nIt is started again in {pause_s:g} s.")
            time.sleep(pause_s)
            self.stop()
            started_at = time.monotonic()
            with contextlib.suppress(ComfyNotStartedError):  # it ended again, and is counted so
                self.start()
                self._tell(f"ComfyUI is ready again: {self.address}")

    def stop(self) -> None:
        """End it, politely first, with everything that it started."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):  # what its nodes started is in its group
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._leash is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._leash.pid, signal.SIGKILL)
            self._leash.communicate()
        if self._reader is not None:
            self._reader.join(1)
        self._process = self._leash = self._reader = None

    def _defaults(self) -> dict[str, str]:
        """Said although it is no news for ComfyUI: where results go, so that Tintype can take them away there; and
        that previews are wanted, which older versions do not let each prompt say.
        """
        return {"--output-directory": str(self._place.folder / "output"), "--preview-method": "auto"}

    def _spawn(self) -> None:
        command = [str(self._place.python), "main.py", "--listen", LOOPBACK, "--port", str(self._place.port)]
        for name, value in self._defaults().items():
            if not any(argument.partition("=")[0] == name for argument in self._arguments):
                command += [name, value]
        self._tail = b""
        try:
            self._process = subprocess.Popen(  # noqa: S603  the installation that the person named
                [*command, *self._arguments],
                cwd=self._place.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ComfyNotStartedError(
                f"{self._place.python} cannot be run ({error.strerror}): choose another Python with --python"
            ) from error
        self._leash = subprocess.Popen(  # noqa: S603  ours
            ["/bin/sh", "-c", LEASH, "leash", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), name="comfy-output", daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as pipe:
            while data := os.read(pipe.fileno(), 1 << 16):
                self._tail = (self._tail + data)[-TAIL_BYTES:]
                with contextlib.suppress(OSError, ValueError):  # our own terminal may be gone; ComfyUI goes on
                    self._pass_on(data)

    def _code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def _why(self) -> str:
        if self._reader is not None:
            self._reader.join(1)
        return obstacles.explain(self._tail.decode("utf-8", "replace"), self._code() or 0, self._place)


def _environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(PRIVATE) and name not in MISLEADING
    }
    return {**kept, "PYTHONUNBUFFERED": "1"}
