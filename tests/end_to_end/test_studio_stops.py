"""How studios end: Ctrl-C once and twice, signals, and a studio that others still draw on."""

import asyncio
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from tests.end_to_end.commands import COMMAND, READY, descendants, ended, environment, heard, interrupt, start, up
from tintype.db import embedded

LONG = {"prompt": "a ring", "num_images": 8, "num_inference_steps": 100, "width": 256, "height": 256}
DRAWING = "drawing"


def ask(address: str, **wanted: object) -> str:
    """Ask for pictures as another client; the generation's id."""
    answer = httpx.post(f"{address}/api/generate/image", json=wanted, timeout=30)
    return answer.raise_for_status().json()["id"]


def read(address: str, generation_id: str) -> dict[str, object]:
    return httpx.get(f"{address}/api/generate/{generation_id}", timeout=30).json()


def own_request(address: str) -> str:
    """The id of what the command itself asked for: whatever is asked for from now on waits behind it."""
    while not (asked := httpx.get(f"{address}/api/generate").json()["items"]):
        time.sleep(0.05)
    return asked[0]["id"]


def wait_until_drawn_on(address: str, generation_id: str) -> dict[str, object]:
    deadline = time.monotonic() + 60
    while (found := read(address, generation_id))["progress"] is None:
        assert found["status"] in ("queued", "processing")
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def address_of(home: Path) -> str:
    """Where the studio on this data folder is, once it is ready."""
    deadline = time.monotonic() + 90
    while not (home / "studio.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return httpx.Response(200, content=(home / "studio.json").read_bytes()).json()["address"]


def test_children_end_when_the_supervisor_is_killed(used_home: Path):
    process, _ = up(used_home)
    parts = [child for child in psutil.Process(process.pid).children() if "tintype.cli" in child.cmdline()]
    assert len(parts) == 2
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    _, alive = psutil.wait_procs(parts, timeout=20)
    assert alive == []
    again, _ = up(used_home)  # the database that was left behind is taken over
    interrupt(again)


def runs_and_failures(home: Path, generation_id: str) -> tuple[int, int]:
    """How often a generation was begun, and how many of its workers died, as the database of a running studio says."""

    async def look() -> tuple[int, int]:
        connection = await asyncpg.connect(embedded.url(home / "postgres"))
        try:
            row = await connection.fetchrow("SELECT attempt, failures FROM generations WHERE id = $1", generation_id)
            return row["attempt"], row["failures"]
        finally:
            await connection.close()

    return asyncio.run(look())


@pytest.mark.parametrize(("drain_s", "presses"), [("0.5", 1), ("120", 2)], ids=["once", "twice"])
def test_ctrl_c_gives_a_long_picture_back_and_counts_no_failure(used_home: Path, drain_s: str, presses: int):
    process, said = up(used_home, TINTYPE_WORKER_DRAIN_S=drain_s)
    asked = ask(READY.search(said)[1], **LONG)
    wait_until_drawn_on(READY.search(said)[1], asked)
    if presses == 1:
        interrupt(process)
    else:
        begun = descendants(process)
        process.send_signal(signal.SIGINT)
        heard(process, "what is being drawn has 120 s to finish, Ctrl-C again stops at once")
        time.sleep(0.5)
        assert process.poll() is None
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        ended(process, begun)
        assert process.returncode == 130
        assert time.monotonic() - pressed < 10

    process, said = up(used_home, TINTYPE_WORKER_DRAIN_S="0.5")
    wait_until_drawn_on(READY.search(said)[1], asked)
    assert runs_and_failures(used_home, asked) == (2, 0)
    interrupt(process)


def test_generate_starts_a_studio_when_none_runs_and_leaves_none(home: Path, tmp_path: Path):
    command = [*COMMAND, "generate", "a ring", "-o", str(tmp_path)]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    written = Path(done.stdout.strip().splitlines()[-1])
    assert written.name.startswith("a-ring-")
    left = [p for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or [])]
    assert left == []


def test_a_studio_that_generate_started_stays_until_others_have_their_pictures(used_home: Path, tmp_path: Path):
    process = start(used_home, "generate", "a ring", "-o", str(tmp_path / "ring.png"))
    address = address_of(used_home)
    begun = descendants(process)
    own_request(address)
    theirs = [ask(address, prompt="a red circle", num_images=4, num_inference_steps=40) for _ in range(2)]
    heard(process, "other generations are still running; Ctrl-C to stop anyway")
    assert (tmp_path / "ring.png").exists()
    while any(read(address, one)["status"] in ("queued", "processing") for one in theirs):
        time.sleep(0.2)
    found = [read(address, one) for one in theirs]
    assert [one["status"] for one in found] == ["completed", "completed"]
    assert all(httpx.get(address + path).status_code == 200 for one in found for path in one["output_paths"])
    said = ended(process, begun)
    assert process.returncode == 0, said


def test_a_studio_that_generate_started_stays_when_its_own_picture_fails(used_home: Path):
    process, said = up(used_home, TINTYPE_WORKER_DRAIN_S="0")
    theirs = ask(READY.search(said)[1], prompt="a red circle", num_images=4, num_inference_steps=50)
    interrupt(process)
    process = start(used_home, "generate", "x" * 5000)
    address = address_of(used_home)
    begun = descendants(process)
    said = heard(process, "other generations are still running")
    assert "reads at most 1000" in said
    while read(address, theirs)["status"] != "completed":
        time.sleep(0.2)
    said = ended(process, begun)
    assert process.returncode == 1, said
    assert "reads at most 1000" not in said


def test_ctrl_c_ends_the_wait_for_others_and_what_they_want_is_drawn_next_time(used_home: Path, tmp_path: Path):
    process = start(used_home, "generate", "a ring", "-o", str(tmp_path / "ring.png"), TINTYPE_WORKER_DRAIN_S="0.5")
    address = address_of(used_home)
    begun = descendants(process)
    own_request(address)
    theirs = ask(address, **LONG)
    heard(process, "other generations are still running")
    process.send_signal(signal.SIGINT)
    said = ended(process, begun)
    assert process.returncode == 0, said
    process, said = up(used_home)
    address = READY.search(said)[1]
    assert read(address, theirs)["status"] in ("queued", "processing")
    interrupt(process)


@pytest.mark.parametrize(
    ("number", "until"),
    [
        (signal.SIGTERM, "starting the database"),
        (signal.SIGHUP, "starting the API"),
        (signal.SIGTERM, DRAWING),
        (signal.SIGINT, DRAWING),
    ],
)
def test_generate_that_is_told_to_end_stops_the_studio_it_started(used_home: Path, number: signal.Signals, until: str):
    process = start(used_home, "generate", "a ring", "-n", "8", "--steps", "100", "--width", "256", "--height", "256")
    if until == DRAWING:
        address = address_of(used_home)
        asked = own_request(address)
        wait_until_drawn_on(address, asked)
    else:
        heard(process, until)
        time.sleep(0.3)
    begun = descendants(process)
    process.send_signal(number)
    said = ended(process, begun)
    assert process.returncode == 128 + number, said
    assert said.rstrip().endswith("stopped")
    assert "Traceback" not in said
    assert [p for p in psutil.process_iter(["cmdline"]) if str(used_home) in " ".join(p.info["cmdline"] or [])] == []
    if until == DRAWING:
        process, said = up(used_home)
        assert read(READY.search(said)[1], asked)["status"] == "cancelled"
        interrupt(process)


def test_generate_leaves_nothing_when_its_terminal_is_closed(used_home: Path, tmp_path: Path):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(COMMAND[0], [*COMMAND, "generate", "a ring", "--steps", "100"], environment(used_home))
    address_of(used_home)
    begun = psutil.Process(pid).children(recursive=True)
    assert len(begun) > 3
    os.close(terminal)
    os.waitpid(pid, 0)
    _, alive = psutil.wait_procs(begun, timeout=20)
    assert alive == []


@pytest.mark.parametrize("module", ["typer", "pydantic", "httpx", "sqlalchemy", "fastapi"])
def test_ctrl_c_while_python_still_imports_is_one_line(home: Path, module: str):
    process = subprocess.Popen(
        [COMMAND[0], "-X", "importtime", *COMMAND[1:], "up"],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.split("|")[-1].strip().startswith(module):
            break
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said == ""
    assert [line for line in complained.splitlines() if not line.startswith("import time:")] == ["stopped"]
    assert not home.exists()
