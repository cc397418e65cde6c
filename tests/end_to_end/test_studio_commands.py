"""The command line as a person uses it: `up`, `generate`, and what is said when something is wrong."""

import re
import subprocess
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from tests.end_to_end.commands import COMMAND, READY, environment, interrupt, up


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


def test_what_ends_by_itself_is_started_again(used_home: Path):
    process, said = up(used_home)
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


def test_a_second_studio_on_the_same_data_says_where_the_first_is(used_home: Path):
    process, said = up(used_home)
    address = READY.search(said)[1]
    second = subprocess.run(
        [*COMMAND, "up"], env=environment(used_home), capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 1
    assert address in second.stderr
    assert "Traceback" not in second.stderr
    interrupt(process)


def test_a_failed_second_start_leaves_the_first_findable(used_home: Path, tmp_path: Path):
    process, _ = up(used_home)
    refused = subprocess.run([*COMMAND, "up"], env=environment(used_home), capture_output=True, timeout=60, check=False)
    assert refused.returncode == 1
    command = [*COMMAND, "generate", "a ring", "-o", str(tmp_path / "ring.webp")]
    done = subprocess.run(command, env=environment(used_home), capture_output=True, text=True, timeout=60, check=False)
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
        (["models", "list"], {"TINTYPE_HOEM": "/srv/pictures"}, "did you mean TINTYPE_HOME?"),
        (["up"], {"TINTYPE_WORKER_DRIAN_S": "1"}, "did you mean TINTYPE_WORKER_DRAIN_S?"),
        (["generate", "a"], {"TINTYPE_API_PROT": "1"}, "did you mean TINTYPE_API_PORT?"),
        (["worker"], {"TINTYPE_API_PROT": "1"}, "did you mean TINTYPE_API_PORT?"),
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


def test_a_first_picture_that_fails_does_not_end_the_studio(used_home: Path):
    process, said = up(used_home, "--prompt", "x" * 5000)
    assert "reads at most 1000" in said
    interrupt(process)


def test_generate_uses_the_running_studio_and_writes_the_file(used_home: Path, tmp_path: Path):
    process, _ = up(used_home)
    target = tmp_path / "out.png"
    command = [*COMMAND, "generate", "a ring", "--seed", "4", "-o", str(target)]
    done = subprocess.run(command, env=environment(used_home), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(target)
    assert target.read_bytes().startswith(b"\x89PNG")
    refused = subprocess.run(
        [*COMMAND, "generate", "a ring", "--width", "100"],
        env=environment(used_home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 1
    assert "96" in refused.stderr
    assert "Traceback" not in refused.stderr
    interrupt(process)


def test_another_server_than_a_studio_is_named_as_such(home: Path, tmp_path: Path):
    page = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), page) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{other.server_port}"
        command = [*COMMAND, "generate", "a", "--server", address, "-o", str(tmp_path / "a.png")]
        done = subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=60, check=False)
        other.shutdown()
    assert done.returncode == 1
    assert f"what answers at {address} is no studio (status 501); correct --server" in " ".join(done.stderr.split())
