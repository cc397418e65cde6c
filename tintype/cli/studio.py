"""A studio on this machine: database, API and one worker, started in order, watched, stopped in order."""

import asyncio
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from tintype import errors, logs, settings, storage
from tintype.api.serve import check_address
from tintype.cli import places
from tintype.cli.stopping import Stopping
from tintype.db import migrate
from tintype.db.embedded import EmbeddedPostgres

READY_S = 90.0
STOP_S = 10.0
DRAIN_S = 5.0
"""How long a worker may finish what it holds when its studio stops, unless the settings say otherwise."""

HASTE_S = 3.0
"""How long a part may take when it shall stop at once: a worker gives back what it holds between two steps."""

RESTART_DELAYS_S = (0.2, 1.0, 3.0, 10.0)
STEADY_S = 60.0
LOG_LIMIT_BYTES = 10 << 20
PORTS_TRIED = 20

log = logs.get("studio")


class AlreadyRunningError(errors.SetupError):
    """A studio already runs on this data folder."""

    code = "already_running"


class PortTakenError(errors.SetupError):
    """The port is taken by another program."""

    code = "port_taken"


class NotReadyError(errors.SetupError):
    """A part of the studio did not become ready."""

    code = "not_ready"


@dataclass
class Part:
    """A supervised process: restarted with growing delays when it ends by itself."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log_path: Path
    stop_s: float = STOP_S
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started_at: float = 0.0
    restart_at: float = 0.0
    _log: IO[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start it; its standard input closes when this process ends, however it ends."""
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_LIMIT_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        self._log = self.log_path.open("ab")
        self.process = subprocess.Popen(  # noqa: S603  our own command
            self.command,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env=self.environment,
            start_new_session=True,
        )
        self.started_at = time.monotonic()

    def watch(self) -> None:
        """Start it again if it has ended."""
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if self.restart_at == 0.0:
            self.failures = 0 if now - self.started_at > STEADY_S else self.failures + 1
            delay_s = RESTART_DELAYS_S[min(self.failures, len(RESTART_DELAYS_S) - 1)]
            self.restart_at = now + delay_s
            log.warning(
                "part ended, starting it again",
                part_name=self.name,
                code=self.process.returncode,
                in_s=delay_s,
            )
        elif now >= self.restart_at:
            self.restart_at = 0.0
            self.close_pipes()
            self.start()

    def stop(self, stopping: Stopping) -> None:
        """End it: politely, then by force after `stop_s`; when it is urgent, less politely and soon."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self._await_end(self.stop_s, or_when=lambda: stopping.is_urgent)
            deadline = time.monotonic() + HASTE_S
            while stopping.is_urgent and self.process.poll() is None and time.monotonic() < deadline:
                self.process.send_signal(signal.SIGTERM)  # again: do not finish first what you hold
                self._await_end(0.2)
            if self.process.poll() is None:
                log.warning("part did not stop in time", part_name=self.name)
                self.process.kill()
                self.process.wait()
        self.close_pipes()

    def _await_end(self, timeout_s: float, *, or_when: Callable[[], bool] = lambda: False) -> None:
        deadline = time.monotonic() + timeout_s
        while self.process is not None and self.process.poll() is None and time.monotonic() < deadline:
            if or_when():
                return
            time.sleep(0.01)

    def close_pipes(self) -> None:
        """Close our ends of its standard input and log."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
        if self._log is not None:
            self._log.close()


class Studio:
    """Use: `with studio.running(tell):`, and `watch()` now and then."""

    def __init__(self, home: Path, stopping: Stopping) -> None:
        self.home = home
        self.stopping = stopping
        self.drain_s = DRAIN_S
        self.address = ""
        self._postgres: EmbeddedPostgres | None = None
        self._parts: list[Part] = []
        self._lock: IO[str] | None = None
        self.is_announced = False

    @property
    def has_own_database(self) -> bool:
        """Whether the database ends with the studio."""
        return self._postgres is not None

    @contextmanager
    def running(self, tell: Callable[[str], None]) -> Generator[None]:
        """Started for the block, which begins when pictures can be made; stopped after it, also by a signal.

        Raises:
            errors.SetupError: a part cannot start; the message says why and what to do.
        """
        with self.stopping.closing(lambda: self._stop(tell)):
            self._start(tell)
            yield

    def _start(self, tell: Callable[[str], None]) -> None:
        """Start every part in order."""
        for group in settings.GROUPS:
            settings.load(group)
        api = settings.load(settings.Api)
        check_address(api.host)
        self._take_lock()
        storage.open(settings.load(settings.Storage), self.home)
        logs_folder = self.home / "logs"
        logs_folder.mkdir(mode=0o700, exist_ok=True)
        configured = settings.load(settings.Database).url
        if configured is not None:
            url = configured.get_secret_value()
        else:
            tell("starting the database")
            self._postgres = EmbeddedPostgres(self.home / "postgres")
            url = self._postgres.start()
        asyncio.run(migrate.upgrade(url))
        port = self._free_port(api)
        host = f"[{api.host}]" if ":" in api.host else api.host
        self.address = f"http://{host}:{port}"
        worker = settings.load(settings.Worker)
        if "drain_s" in worker.model_fields_set:
            self.drain_s = worker.drain_s
        environment = {
            **os.environ,
            "TINTYPE_WORKER_DRAIN_S": str(self.drain_s),
            "DATABASE_URL": url,
            "TINTYPE_HOME": str(self.home),
            "TINTYPE_API_PORT": str(port),
            settings.SUPERVISED: "1",
        }
        tell("starting the API and a worker")
        for name in ("api", "worker"):
            command = [sys.executable, "-m", "tintype.cli", name]
            part = Part(
                name=name,
                command=command,
                environment=environment,
                log_path=logs_folder / f"{name}.log",
                stop_s=STOP_S + (self.drain_s if name == "worker" else 0),
            )
            self._parts.append(part)
            part.start()
        self._wait_ready()
        places.running_file(self.home).write_text(json.dumps({"address": self.address, "pid": os.getpid()}))
        self.is_announced = True

    def watch(self) -> None:
        """Restart what has ended by itself."""
        if self._postgres is not None and self._postgres.owned and self._postgres.poll() is not None:
            log.warning("database ended, starting it again")
            self._postgres.restart()
        for part in self._parts:
            part.watch()

    def problems(self) -> tuple[str, ...]:
        """Which providers cannot work, and why; empty as well while the API does not answer."""
        try:
            answer = httpx.get(f"{self.address}/health/detailed", timeout=5)
        except httpx.HTTPError:
            return ()
        providers = answer.json().get("providers", {}) if answer.status_code == 200 else {}
        return tuple(f"provider {name}: {part['detail']}" for name, part in providers.items())

    def _stop(self, tell: Callable[[str], None]) -> None:
        try:
            if self.stopping.signal is not None:
                tell(f"stopping; what is being drawn has {self.drain_s:g} s to finish, Ctrl-C again stops at once")
        finally:  # the terminal may be gone
            self._stop_parts()

    def _stop_parts(self) -> None:
        """Stop every part, the database last."""
        if self.is_announced:
            places.running_file(self.home).unlink(missing_ok=True)
        for part in reversed(self._parts):
            part.stop(self.stopping)
        if self._postgres is not None:
            self._postgres.stop(is_urgent=lambda: self.stopping.is_urgent)
        if self._lock is not None:
            self._lock.close()

    def _take_lock(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            self._lock = (self.home / "studio.lock").open("w")
        except OSError as error:
            raise errors.SetupError(
                f"{self.home} cannot be written ({error.strerror}); set TINTYPE_HOME to a folder of yours"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            there = places.running(self.home)
            where = f" at {there.address}" if there else ""
            raise AlreadyRunningError(f"a studio already runs on {self.home}{where}") from error

    def _free_port(self, api: settings.Api) -> int:
        chosen = "port" in api.model_fields_set
        for port in range(api.port, api.port + (1 if chosen else PORTS_TRIED)):
            with socket.socket(socket.AF_INET6 if ":" in api.host else socket.AF_INET) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    trial.bind((api.host, port))
                except OSError:
                    continue
                return trial.getsockname()[1]
        raise PortTakenError(f"port {api.port} is taken; choose another with TINTYPE_API_PORT")

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        with httpx.Client(timeout=2) as client:
            while time.monotonic() < deadline:
                for part in self._parts:
                    if part.process is not None and part.process.poll() is not None:
                        raise NotReadyError(_last_words(part))
                if _is_healthy(client, self.address):
                    return
                time.sleep(0.05)
        raise NotReadyError(f"the studio was not ready in {READY_S:.0f} s; its logs are in {self.home / 'logs'}")


def _is_healthy(client: httpx.Client, address: str) -> bool:
    try:
        answer = client.get(f"{address}/health")
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and answer.json()["status"] == "ok"


def _last_words(part: Part) -> str:
    lines = part.log_path.read_text(errors="replace").strip().splitlines()[-8:]
    return f"the {part.name} ended while starting; the end of {part.log_path}:\n" + "\n".join(lines)
