"""What happens when a storage fails: full, gone, slow, or at the end of a process."""

import asyncio
import http.server
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tintype import settings, storage


def a_key() -> str:
    return f"2026/11/{uuid4()}.png"


async def test_a_bucket_that_does_not_exist_is_unavailable_and_not_a_missing_file(s3_server, tmp_path):
    store = storage.open(s3_server.settings(f"s3://never-made-{uuid4()}"), tmp_path)
    for ask in (
        storage.put(store, a_key(), b"x", "image/png"),
        storage.get(store, a_key()),
        storage.delete(store, [a_key()]),
        storage.check(store),
    ):
        with pytest.raises(storage.StorageUnavailableError) as caught:
            await ask
        assert (caught.value.status, caught.value.code) == (503, "storage_unavailable")
        assert caught.value.retryable


async def test_a_server_that_is_not_there_is_unavailable_soon(s3_server, tmp_path, unused_endpoint):
    store = storage.open(s3_server.settings("s3://bucket", endpoint=unused_endpoint), tmp_path)
    async with asyncio.timeout(20):
        with pytest.raises(storage.StorageUnavailableError) as caught:
            await storage.put(store, a_key(), b"x", "image/png")
    assert "127.0.0.1" in caught.value.reason
    assert "127.0.0.1" not in caught.value.detail


@pytest.fixture
def unused_endpoint() -> str:
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        return f"http://127.0.0.1:{server.server_port}"


class FullServer(http.server.BaseHTTPRequestHandler):
    """Answers every write as a MinIO whose disks are full does."""

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<Error><Code>XMinioStorageFull</Code><Message>no free drives</Message></Error>"
        self.send_response(507)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


async def test_a_full_s3_server_is_storage_full(s3_server, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FullServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        store = storage.open(s3_server.settings("s3://bucket", endpoint=endpoint), tmp_path)
        with pytest.raises(storage.StorageFullError) as caught:
            await storage.put(store, a_key(), b"x", "image/png")
        server.shutdown()
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (507, "storage_full", True)


class SlowServer(FullServer):
    """Takes its time over every write, then answers that its disks are full."""

    def do_PUT(self):
        time.sleep(0.3)
        super().do_PUT()


async def test_a_slow_server_does_not_stop_the_event_loop(s3_server, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        store = storage.open(s3_server.settings("s3://bucket", endpoint=endpoint), tmp_path)
        writing = asyncio.create_task(storage.put(store, a_key(), b"x", "image/png"))
        ticks = 0
        while not writing.done():
            await asyncio.sleep(0.01)
            ticks += 1
        with pytest.raises(storage.StorageFullError):
            await writing
        server.shutdown()
    assert ticks > 20


def test_short_processes_that_used_storage_end_in_good_order(tmp_path):
    """obstore's coroutines abort one in seven such processes on a busy machine: `tintype.storage.store` says why."""
    code = (
        "import asyncio, pathlib, sys\n"
        "from tintype import settings, storage\n"
        "async def main():\n"
        "    store = storage.open(settings.Storage(), pathlib.Path(sys.argv[1]))\n"
        "    await storage.check(store)\n"
        "asyncio.run(main())"
    )
    for _ in range(2):
        running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(6)]
        assert [process.wait(60) for process in running] == [0] * 6


FILL = """
import asyncio, pathlib, resource, sys
from tintype import settings, storage

async def main(home, limit):
    store = storage.open(settings.Storage(), pathlib.Path(home))
    await storage.put(store, "small.png", b"x" * 1000, "image/png")
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        await storage.put(store, "big.png", b"x" * 2_000_000, "image/png")
    except storage.StorageFullError as fact:
        print(fact.code, [path.name for path in store.folder.iterdir()])

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def fill(home: Path, limit: int, *launcher: str) -> str:
    command = [*launcher, sys.executable, "-c", FILL, str(home), str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_a_file_size_limit_is_storage_full_and_leaves_no_half_file(tmp_path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    assert fill(tmp_path, 1_000_000) == "storage_full ['small.png']"
    assert os.listdir(tmp_path / "media") == ["small.png"]


def test_a_full_disk_is_storage_full_and_leaves_no_half_file(tmp_path):
    """A tmpfs of 256 KiB in a mount namespace of its own; where that is forbidden, a file size limit."""
    mount = f'mount -t tmpfs -o size=256k tmpfs "{tmp_path}" && exec "$@"'
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    launcher = ["unshare", "--mount", *as_root, "sh", "-c", mount, "sh"]
    allowed = subprocess.run([*launcher, "true"], capture_output=True, check=False).returncode == 0
    said = fill(tmp_path, 0, *launcher) if allowed else fill(tmp_path, 1_000_000)
    assert said == "storage_full ['small.png']"


async def test_a_completed_put_was_synced_with_every_folder_above_it(tmp_path):
    """strace is not everywhere; the audit hook of Python sees the folders being opened for the sync."""
    opened: list[str] = []
    listening = True

    def hear(event: str, arguments: tuple) -> None:
        if listening and event == "open" and str(arguments[0]).startswith(str(tmp_path)):
            opened.append(str(arguments[0]))

    sys.addaudithook(hear)
    store = storage.open(settings.Storage(), tmp_path)
    await storage.put(store, "a/b/c.png", b"x", "image/png")
    listening = False
    media = tmp_path / "media"
    assert opened == [str(media / "a/b/c.png"), str(media / "a/b"), str(media / "a"), str(media)]


async def test_what_a_crash_left_half_written_is_no_file(tmp_path):
    store = storage.open(settings.Storage(), tmp_path)
    await storage.put(store, "a/b.png", b"x", "image/png")
    (tmp_path / "media" / "a" / "c.png#1").write_bytes(b"half")
    with pytest.raises(storage.ObjectNotFoundError):
        await storage.get(store, "a/c.png")
    with pytest.raises(storage.InvalidKeyError):
        await storage.get(store, "a/c.png#1")
