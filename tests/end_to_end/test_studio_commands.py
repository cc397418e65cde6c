"""The command line as a person uses it: `up` and Ctrl-C, `generate`, `doctor`, and a home only root can enter."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.processes import PLUGINS, free_port

COMMAND = [sys.executable, "-m", "tintype.cli"]
READY = re.compile(r"Tintype is ready: (http://\S+)")


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tintype-home-"))
    folder.chmod(0o755)
    yield folder / "data"
    shutil.rmtree(folder)


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TINTYPE_", "DATABASE_URL"))}
    return {**kept, "TINTYPE_HOME": str(home), "TINTYPE_API_PORT": str(free_port()), "COLUMNS": "200", **more}


def up(home: Path, *arguments: str, **more: str) -> tuple[subprocess.Popen[str], str]:
    """`tintype up`, and what it said up to being ready."""
    process = subprocess.Popen(
        [*COMMAND, "up", *arguments],
        env=environment(home, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if READY.search(line):
            return process, said
    raise AssertionError(said)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, and nothing may be left."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stdout is not None
    process.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


def test_up_draws_a_picture_serves_and_stops_without_a_trace(home: Path):
    process, said = up(home, "--prompt", "a red circle on a blue background")
    found = re.search(r"picture: (\S+\.png)", said)
    assert found, said
    assert Path(found[1]).read_bytes().startswith(b"\x89PNG")
    address = READY.search(said)[1]
    listed = httpx.get(f"{address}/api/generate").json()["items"]
    assert [item["prompt"] for item in listed] == ["a red circle on a blue background"]
    interrupt(process)

    begun = time.monotonic()
    process, said = up(home)
    assert time.monotonic() - begun < 30
    address = READY.search(said)[1]
    again = httpx.get(f"{address}/api/generate").json()["items"]
    assert [item["id"] for item in again] == [item["id"] for item in listed]
    content = httpx.get(f"{address}{again[0]['output_paths'][0]}").content
    assert content == Path(found[1]).read_bytes()
    interrupt(process)


def test_what_ends_by_itself_is_started_again(home: Path):
    process, said = up(home)
    address = READY.search(said)[1]
    workers = [child for child in psutil.Process(process.pid).children() if child.cmdline()[-1] == "worker"]
    workers[0].kill()
    asked = httpx.post(f"{address}/api/generate/image", json={"prompt": "a ring", "seed": 1}).json()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status = httpx.get(f"{address}/api/generate/{asked['id']}").json()["status"]
        if status == "completed":
            break
        time.sleep(0.2)
    assert status == "completed"
    interrupt(process)


def test_children_end_when_the_supervisor_is_killed(home: Path):
    process, _ = up(home)
    parts = [child for child in psutil.Process(process.pid).children() if "tintype.cli" in child.cmdline()]
    assert len(parts) == 2
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    _, alive = psutil.wait_procs(parts, timeout=20)
    assert alive == []
    again, _ = up(home)  # the database that was left behind is taken over
    interrupt(again)


def test_a_second_studio_on_the_same_data_says_where_the_first_is(home: Path):
    process, said = up(home)
    address = READY.search(said)[1]
    second = subprocess.run(
        [*COMMAND, "up"], env=environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 1
    assert address in second.stderr
    assert "Traceback" not in second.stderr
    interrupt(process)


def test_stops_give_a_long_picture_back_and_count_no_failure(home: Path):
    asked = ""
    for attempt in (1, 2, 3, 4):  # a worker that dies three times over a picture would not be followed by a fourth
        process, said = up(home, TINTYPE_WORKER_DRAIN_S="0.5")
        address = READY.search(said)[1]
        if not asked:
            wanted = {"prompt": "a ring", "num_images": 8, "num_inference_steps": 100, "width": 256, "height": 256}
            asked = httpx.post(f"{address}/api/generate/image", json=wanted).json()["id"]
        deadline = time.monotonic() + 60
        while (found := httpx.get(f"{address}/api/generate/{asked}").json())["progress"] is None:
            assert found["status"] in ("queued", "processing")
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert found["attempt"] == attempt
        interrupt(process)


def test_a_failed_second_start_leaves_the_first_findable(home: Path, tmp_path: Path):
    process, _ = up(home)
    refused = subprocess.run([*COMMAND, "up"], env=environment(home), capture_output=True, timeout=60, check=False)
    assert refused.returncode == 1
    command = [*COMMAND, "generate", "a ring", "-o", str(tmp_path / "ring.webp")]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ring.webp").read_bytes()[8:12] == b"WEBP"
    interrupt(process)


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["up"], {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}, "correct DATABASE_URL"),
        (["migrate"], {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}, "correct DATABASE_URL"),
        (["up"], {"DATABASE_URL": "mysql://a@b/c"}, "postgresql://user:password@host/name"),
        (["up"], {"TINTYPE_STORAGE_URL": "http://foo"}, "s3://bucket/prefix"),
        (["up"], {"TINTYPE_API_HOST": "0.0.0.0"}, "SSH tunnel"),
        (["up"], {"TINTYPE_WORKER_HEARTBEAT_S": "2"}, "three times heartbeat_s"),
        (["generate", "a", "--server", "127.0.0.1:1"], {}, "http://127.0.0.1:8000"),
        (["generate", "a", "--server", "http://127.0.0.1:1"], {}, "cannot be reached"),
        (["generate", "a", "-o", "/proc/x/a.png"], {}, "choose another with -o"),
        (["generate", "a", "-o", "a.gif"], {}, ".webp"),
        (["models", "show", "nope"], {}, "installed: sketch"),
    ],
)
def test_what_is_wrong_is_one_clear_line(home: Path, arguments: list[str], variables: dict[str, str], says: str):
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(home, **variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_words_that_look_like_markup_are_only_words(home: Path):
    process, said = up(home, "--prompt", "a red circle [/x] [bold]")
    assert "a red circle [/x] [bold]" in said
    assert "picture: " in said
    interrupt(process)


def test_a_first_picture_that_fails_does_not_end_the_studio(home: Path):
    process, said = up(home, "--prompt", "x" * 5000)
    assert "reads at most 1000" in said
    interrupt(process)


def test_generate_uses_the_running_studio_and_writes_the_file(home: Path, tmp_path: Path):
    process, _ = up(home)
    target = tmp_path / "out.png"
    command = [*COMMAND, "generate", "a ring", "--seed", "4", "-o", str(target)]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(target)
    assert target.read_bytes().startswith(b"\x89PNG")
    refused = subprocess.run(
        [*COMMAND, "generate", "a ring", "--width", "100"],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert "96" in refused.stderr
    assert "Traceback" not in refused.stderr
    interrupt(process)


def test_generate_starts_a_studio_when_none_runs_and_leaves_none(home: Path, tmp_path: Path):
    command = [*COMMAND, "generate", "a ring", "-o", str(tmp_path)]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    written = Path(done.stdout.strip().splitlines()[-1])
    assert written.name.startswith("a-ring-")
    left = [p for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or [])]
    assert left == []


@pytest.mark.skipif(os.geteuid() != 0, reason="what only root can do")
def test_up_works_as_root_under_a_home_nobody_else_may_enter(home: Path):
    home.parent.chmod(0o700)
    process, said = up(home, "--prompt", "a ring")
    assert "picture: " in said
    assert home.parent.stat().st_mode & 0o777 == 0o700
    interrupt(process)


def test_doctor_finds_nothing_wrong_and_says_what_is_when_something_is(home: Path):
    command = [*COMMAND, "doctor"]
    well = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=60, check=False)
    assert well.returncode == 0, well.stdout
    ill = subprocess.run(
        command,
        env=environment(home, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", PYTHONPATH=str(PLUGINS)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ill.returncode == 1
    assert "correct DATABASE_URL" in ill.stdout
    assert "provider broken" in ill.stdout
    assert "Traceback" not in ill.stdout + ill.stderr
