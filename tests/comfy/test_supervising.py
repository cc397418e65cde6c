"""`tintype comfy up`: an installation that works is kept running on loopback, and one that does not says why."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import httpx
import psutil
import pytest

from tests.end_to_end.commands import COMMAND, descendants, ended, environment, heard, start
from tests.processes import free_port
from tintype.comfy import obstacles, supervising
from tintype.comfy.obstacles import Place
from tintype.comfy.supervising import Supervisor

READY = r"is ready: http"

SERVER = """
    import argparse, http.server, json, os, sys
    parser = argparse.ArgumentParser(prog="main.py")
    parser.add_argument("--listen"), parser.add_argument("--port", type=int)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--extra-model-paths-config"), parser.add_argument("--output-directory")
    parser.add_argument("--preview-method")
    given = parser.parse_args()

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen = {"environment": dict(os.environ), "arguments": sys.argv, "pid": os.getpid()}
            stats = {"system": {"comfyui_version": "9.9", **seen}, "devices": [{"name": "pretended"}]}
            body = json.dumps(stats).encode()
            self.send_response(200), self.end_headers(), self.wfile.write(body)

        def log_message(self, *words):
            pass

    print("a line of its own", flush=True)
    http.server.HTTPServer((given.listen, given.port), Answers).serve_forever()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pretended installation: `comfy/`, an environment with this Python, and a `main.py` that serves."""
    made = tmp_path / "ComfyUI"
    (made / "comfy").mkdir(parents=True)
    (made / "venv" / "bin").mkdir(parents=True)
    (made / "venv" / "bin" / "python").symlink_to(sys.executable)
    write_main(made, SERVER)
    return made


def write_main(folder: Path, code: str) -> None:
    (folder / "main.py").write_text(textwrap.dedent(code))


def comfy_up(folder: Path, *arguments: str, **more: str) -> "subprocess.Popen[str]":
    return start(folder.parent / "home", "comfy", "up", str(folder), *arguments, **more)


def refused(folder: Path, *arguments: str) -> str:
    """What `tintype comfy up` says when it gives up."""
    done = subprocess.run(
        [*COMMAND, "comfy", "up", str(folder), *arguments],
        env=environment(folder.parent / "home"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def stats(port: int) -> dict:
    return httpx.get(f"http://127.0.0.1:{port}/system_stats", timeout=5).json()["system"]


def test_it_serves_on_loopback_says_where_and_passes_on_what_comfyui_says(folder: Path):
    port = free_port()
    process = comfy_up(folder, "--port", str(port), "--cpu")
    said = heard(process, "COMFYUI_URL")
    assert "a line of its own" in said
    assert f"ComfyUI 9.9 is ready: http://127.0.0.1:{port}" in said
    assert f"COMFYUI_URL=http://127.0.0.1:{port}" in said
    arguments = stats(port)["arguments"]
    assert arguments[arguments.index("--listen") + 1] == "127.0.0.1"
    assert "--cpu" in arguments
    assert arguments[arguments.index("--output-directory") + 1] == str(folder / "output")
    assert arguments[arguments.index("--preview-method") + 1] == "auto"
    begun = descendants(process)
    process.send_signal(signal.SIGINT)
    ended(process, begun)
    assert process.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_command_ends_comfyui_too(folder: Path, how: int):
    port = free_port()
    process = comfy_up(folder, "--port", str(port))
    heard(process, READY)
    begun = descendants(process)
    process.send_signal(how)
    process.communicate(timeout=20)
    _, alive = psutil.wait_procs(begun, timeout=10)
    assert alive == []


def test_one_that_died_is_started_again(folder: Path):
    port = free_port()
    process = comfy_up(folder, "--port", str(port))
    heard(process, READY)
    first = stats(port)["pid"]
    os.kill(first, signal.SIGKILL)
    said = heard(process, "ready again")
    assert "SIGKILL ended it, most often because memory ran out" in said
    assert "started again in 1 s" in said
    assert stats(port)["pid"] != first
    begun = descendants(process)
    process.terminate()
    ended(process, begun)


def test_one_that_dies_again_and_again_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch):
    count = folder / "starts"
    write_main(
        folder,
        f"""
    with open({str(count)!r}, "a") as file: file.write(".")
    import pathlib
    if len(pathlib.Path({str(count)!r}).read_text()) > 1: raise MemoryError
    """
        + SERVER.replace("serve_forever()", "handle_request()"),
    )
    monkeypatch.setattr(supervising, "RESTART_DELAYS_S", (0.01,))
    told: list[str] = []
    supervisor = Supervisor(supervising.find(folder), port=free_port(), tell=told.append, pass_on=lambda data: None)
    try:
        supervisor.start()
        with pytest.raises(supervising.ComfyNotStartedError, match="ended 6 times, each time soon: memory ran out"):
            supervisor.keep()
    finally:
        supervisor.stop()
    assert len(count.read_text()) == 6
    assert len(told) == 5


def test_secrets_of_the_studio_stay_with_it(folder: Path):
    port = free_port()
    secrets = {"DATABASE_URL": "postgresql://u:p@h/n", "AWS_SECRET_ACCESS_KEY": "s", "PYTHONSAFEPATH": "1"}
    process = comfy_up(folder, "--port", str(port), HF_TOKEN="for its nodes", **secrets)
    heard(process, READY)
    seen = stats(port)["environment"]
    assert not {*secrets, "TINTYPE_HOME"} & set(seen)
    assert seen["HF_TOKEN"] == "for its nodes"
    begun = descendants(process)
    process.terminate()
    ended(process, begun)


def test_the_models_under_the_data_folder_are_shown_to_it(folder: Path):
    (folder.parent / "home" / "models" / "checkpoints").mkdir(parents=True)
    port = free_port()
    process = comfy_up(folder, "--port", str(port))
    heard(process, READY)
    arguments = stats(port)["arguments"]
    paths = Path(arguments[arguments.index("--extra-model-paths-config") + 1]).read_text()
    assert f'"base_path": "{folder.parent}/home/models"' in paths
    assert '"checkpoints": "checkpoints"' in paths
    begun = descendants(process)
    process.terminate()
    ended(process, begun)


def test_without_a_chosen_port_the_next_free_one_is_taken():
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", supervising.PORT))
            taken.listen()
        except OSError:
            pass  # another program has it, which is as good
        assert supervising.PORT < supervising.free_port() < supervising.PORT + supervising.PORTS_TRIED


def test_a_taken_port_is_said(folder: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is taken by another program; choose another with --port" in refused(
            folder, "--port", str(port)
        )


def test_a_folder_that_is_none_is_said_with_the_one_that_may_be_meant(folder: Path, tmp_path: Path):
    assert f"has no main.py: did you mean {folder}?" in refused(tmp_path).replace("\n", " ")
    (folder / "main.py").unlink()
    assert "has no main.py: give the folder that ComfyUI was cloned" in refused(folder).replace("\n", " ")


def test_without_an_environment_it_asks_for_a_python(folder: Path):
    (folder / "venv" / "bin" / "python").unlink()
    assert "say with --python which Python" in refused(folder).replace("\n", " ")
    assert "no program that can be run" in refused(folder, "--python", "no-such-python")


@pytest.mark.parametrize("argument", ["--listen", "--listen=0.0.0.0", "--port", "--enable-cors-header"])
def test_it_cannot_be_opened_to_the_network(folder: Path, argument: str):
    assert "it listens on loopback only" in refused(folder, "--", argument).replace("\n", " ")


INSTALL = "run `{folder}/venv/bin/python -m pip install -r {folder}/requirements.txt`"
NO_CUDA = "no CUDA device that its PyTorch can use: start it with --cpu"
ENDINGS = {
    "import aiohttp_that_is_missing": f"the Python package 'aiohttp_that_is_missing' is missing: {INSTALL}",
    "raise AssertionError('Torch not compiled with CUDA enabled')": NO_CUDA,
    "raise RuntimeError('Found no NVIDIA driver on your system.')": NO_CUDA,
    "raise OSError(28, 'No space left on device')": "the disk is full (",
    "raise OSError(98, 'error while attempting to bind on address')": "was taken by another program meanwhile",
    "raise MemoryError": "memory ran out",
    "raise PermissionError(13, 'Permission denied', 'models')": "it may not use 'models'",
    "print('its last words'); raise SystemExit(3)": "it ended with status 3; the end of what it said:\nits last words",
    "import os; os.kill(os.getpid(), 9)": "SIGKILL ended it, most often because memory ran out",
    "import argparse; argparse.ArgumentParser(prog='main.py').parse_args()": "does not take that: unrecognized",
}


@pytest.mark.parametrize(("code", "says"), ENDINGS.items())
def test_one_that_will_not_start_says_why(folder: Path, code: str, says: str):
    write_main(folder, code)
    heard_of_it = bytearray()
    supervisor = Supervisor(
        supervising.find(folder), port=free_port(), tell=lambda text: None, pass_on=heard_of_it.extend
    )
    try:
        with pytest.raises(supervising.ComfyNotStartedError) as refusal:
            supervisor.start()
    finally:
        supervisor.stop()
    assert says.format(folder=folder) in refusal.value.detail
    assert not code.startswith("print") or b"its last words" in heard_of_it


def test_the_command_says_why_it_does_not_start(folder: Path):
    write_main(folder, "import aiohttp_that_is_missing")
    assert INSTALL.format(folder=folder) in refused(folder).replace("\n", " ")


def test_a_traceback_that_it_survived_is_not_the_reason():
    said = (
        f"{obstacles.TRACEBACK}\n  ...\nModuleNotFoundError: No module named 'of_a_custom_node'\nCannot import it\n"
        f"{obstacles.TRACEBACK}\n  ...\nRuntimeError: Found no NVIDIA driver on your system.\n"
    )
    place = Place(folder=Path("/"), python=Path("/bin/python"), port=1)
    assert "--cpu" in obstacles.explain(said, 1, place)


def test_a_python_that_cannot_be_run_is_said(folder: Path):
    python = folder / "venv" / "bin" / "python"
    python.unlink()
    python.write_text("\0")
    python.chmod(0o755)
    assert "cannot be run" in refused(folder)


def test_a_stop_while_it_still_starts_leaves_nothing(folder: Path):
    write_main(folder, "import time; print('starting for long', flush=True); time.sleep(60)")
    process = comfy_up(folder)
    heard(process, "starting for long")
    begun = descendants(process)
    at = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended(process, begun)
    assert time.monotonic() - at < supervising.STOP_S
