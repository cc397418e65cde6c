"""The PostgreSQL that comes with Tintype: started, adopted, supervised and stopped.

Two locks on files in the data folder say who does what; the system drops them when their holder dies:

- `server.lock` is held by whoever makes, starts or serves the cluster. The server inherits it, so it is free
  exactly when no process of a server is left, whatever a pid file says.
- `supervisor.lock` is held by the one `EmbeddedPostgres` that stops the server.

A server that outlived its supervisor is adopted by the next start, which then supervises it. A server that
somebody supervises is only used: stopping it is up to its supervisor. POSIX systems only.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg

from tintype import errors, logs
from tintype.db import cluster, orphans, privileges

PORT_ATTEMPTS = 5
QUIT_TIMEOUT_S = 10.0

log = logs.get("postgres")


def _never() -> bool:
    return False


class StartError(errors.SetupError):
    """The embedded PostgreSQL did not start."""

    code = "postgres_start_failed"


class ServedElsewhereError(errors.SetupError):
    """Another process holds the database's folder, and it does not answer here."""

    code = "postgres_served_elsewhere"


class EmbeddedPostgres:
    """The server of one data folder (`<TINTYPE_HOME>/postgres`); for one thread at a time.

    Every call blocks. `process` is the server where we started it, None where it was adopted or does not run.
    """

    def __init__(self, data: Path, *, refuge: Path = privileges.REFUGE) -> None:
        self.data = data.expanduser().resolve()
        self.log_path = self.data / "postgres.log"
        self.process: subprocess.Popen[str] | None = None
        self._refuge = refuge
        self._supervision: int | None = None  # descriptor of supervisor.lock while we hold it

    @property
    def owned(self) -> bool:
        """Whether `stop()` stops the server: we started it or adopted it as an orphan."""
        return self._supervision is not None

    def start(self, timeout_s: float = 60) -> str:
        """Start the server, made on first use, or adopt the one that runs; its URL once queries work.

        Safe to call from several processes at once: one starts, the others adopt.

        Raises:
            SetupError: a named fact of this module, `cluster` or `privileges` that says what to do.
        """
        deadline = time.monotonic() + timeout_s
        with privileges.unusable(self.data):
            self._make_data_folder()
            while True:
                lock = _take(self.data / "server.lock")
                if lock is not None:
                    try:
                        return self._launch(lock, timeout_s)
                    finally:
                        os.close(lock)  # the server has its own
                if url := self._adopt():
                    return url
                if time.monotonic() > deadline:
                    raise ServedElsewhereError(
                        f"a process holds {self.data / 'server.lock'}, nothing answered in {timeout_s:g} s: "
                        "stop the other Tintype on this folder (perhaps in a container), then start again"
                    )
                time.sleep(0.02)

    def stop(self, timeout_s: float = 20, *, is_urgent: Callable[[], bool] = _never) -> None:
        """Stop the server if it is ours to stop: clients are disconnected, what was committed is kept.

        After `timeout_s`, or as soon as `is_urgent`, it is made to quit at once; the next start then replays its log.
        Does nothing twice.
        """
        self._halt(timeout_s, is_urgent)
        if self._supervision is not None:
            os.close(self._supervision)
            self._supervision = None

    def restart(self, timeout_s: float = 60) -> str:
        """Stop the server if it is ours, and start it again on the same port; its URL."""
        self._halt(timeout_s)
        return self.start(timeout_s)

    def poll(self) -> int | None:
        """None while the server runs, else its exit status (-1 where not our child); also bounds its log."""
        if self.owned:
            cluster.rotate(self.log_path)
        if self.process is not None:
            return self.process.poll()
        return -1 if _running(self.data) is None else None

    def _make_data_folder(self) -> None:
        if self.data.is_dir():
            return
        if privileges.account_for() is not None:
            privileges.open_folder(self.data)
        else:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _launch(self, lock: int, timeout_s: float) -> str:
        """Start the server, with a cluster made for it if there is none; we hold the server's lock."""
        connection, folder = self._cluster(lock)
        if cluster.postmaster(folder) and (url := self._adopt()):  # where locks do not work, as on some NFS
            return url
        account = privileges.account_for(folder)
        if not privileges.can_write(account, folder):
            raise privileges.UnusableFolderError(
                f"PostgreSQL runs as {account.name if account else 'you'} and does not reach {folder}: "
                "let it traverse the folders above (`chmod o+x`), or start Tintype as the user who owns them"
            )
        orphans.note(folder, self.data)
        cluster.forget_foreign_pid(folder)
        program = privileges.binaries(account, self._refuge) / "bin" / "postgres"
        for attempt in range(PORT_ATTEMPTS):
            connection = cluster.with_free_port(connection, other=attempt > 0)
            cluster.write(self.data, connection)
            is_ready = False
            try:
                offset = self._spawn(account, program, folder, connection.port, lock)
                is_ready = self._await_ready(connection, folder, time.monotonic() + timeout_s)
            finally:  # also when we are interrupted
                if not is_ready:
                    self._quit()
            if is_ready:
                self._supervise()
                return connection.url
            said = cluster.tail(self.log_path, offset)
            if "could not bind" not in said:
                raise self._failure(said)
        raise StartError(f"every port tried on {cluster.HOST} was taken the next moment: start again")

    def _cluster(self, lock: int) -> tuple[cluster.Connection, Path]:
        """The connection and the files of the cluster, which is made if it never served."""
        connection = cluster.read(self.data)
        if connection is None or (connection.port == 0 and not (self.data / connection.folder).exists()):
            connection = cluster.initialise(self.data, self._refuge, lock)
        folder = self.data / connection.folder
        if not (folder / "PG_VERSION").exists():
            raise cluster.ClusterMissingError(
                f"the database of {self.data} was kept in {folder}, which is gone or incomplete: "
                f"restore it from a backup, or remove {self.data} to begin with an empty database"
            )
        return connection, folder

    def _spawn(self, account: privileges.Account | None, program: Path, folder: Path, port: int, lock: int) -> int:
        """Start the server, apart from the terminal's Ctrl-C; where in the log its lines begin."""
        cluster.rotate(self.log_path)
        parameters = cluster.PARAMETERS | {"port": str(port)}
        argv = [program, "-D", folder, *(f"--{name}={value}" for name, value in parameters.items())]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with open(os.open(self.log_path, flags, 0o600), "ab") as output:
            privileges.own_like_folder(self.log_path)
            offset = self.log_path.stat().st_size
            self.process = privileges.spawn(
                account,
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
                start_new_session=True,
            )
        return offset

    def _await_ready(self, connection: cluster.Connection, folder: Path, deadline: float) -> bool:
        """Whether the server came to answer queries before it ended or the deadline passed."""
        while self._runs() and time.monotonic() < deadline:
            time.sleep(0.01)
            running = cluster.postmaster(folder)
            if running is not None and running.is_ready:
                with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    cluster.prepare(connection)
                    return True
        return False

    def _runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _failure(self, said: str) -> errors.SetupError:
        if privileges.says_disk_full(said):
            return privileges.disk_full(self.data)
        return StartError(
            f"PostgreSQL did not start; mend what it says, {privileges.OWN_SERVER}. The end of {self.log_path}:\n{said}"
        )

    def _adopt(self) -> str | None:
        """Use the server that runs, and supervise it if nobody does; its URL, None if none answers."""
        connection = cluster.read(self.data)
        if connection is None:
            return None
        folder = self.data / connection.folder
        running = cluster.postmaster(folder)
        if running is None or not running.is_ready or not cluster.answers(connection, folder):
            return None
        if self.process is not None and self.process.pid != running.pid:
            self.process.poll()
            self.process = None
        self._supervise()
        return connection.url

    def _supervise(self) -> None:
        if self._supervision is None:
            self._supervision = _take(self.data / "supervisor.lock")

    def _halt(self, timeout_s: float, is_urgent: Callable[[], bool] = _never) -> None:
        """Stop a server that is ours, gently, then less so; returns when its last process is gone."""
        if not self.owned:
            return
        if self.process is not None:
            pid = self.process.pid
        elif (running := _running(self.data)) is not None:
            pid = running.pid
        else:
            return
        for order, patience_s, is_out in (
            (signal.SIGINT, timeout_s, is_urgent),  # fast: disconnect clients, write a checkpoint
            (signal.SIGQUIT, QUIT_TIMEOUT_S, _never),  # immediate: the next start replays the log
            (signal.SIGKILL, QUIT_TIMEOUT_S, _never),
        ):
            if not self._is_alive(pid):
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, order)
            if order is not signal.SIGINT:
                log.warning("PostgreSQL was told to quit at once", pid=pid, signal=order.name)
            _wait(lambda: not self._is_alive(pid), patience_s, is_out)
        _wait(lambda: _is_free(self.data / "server.lock"), QUIT_TIMEOUT_S)
        self.process = None

    def _is_alive(self, pid: int) -> bool:
        if self.process is not None and self.process.pid == pid:
            return self.process.poll() is None
        running = _running(self.data)
        return running is not None and running.pid == pid

    def _quit(self) -> None:
        """End a child that did not become ready."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(QUIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


def url(data: Path) -> str:
    """The URL of the data folder's server, whether it runs or not; it changes only when its port gets taken.

    Raises:
        NotInitialisedError: it was never started.
    """
    with privileges.unusable(data):
        connection = cluster.read(data)
    if connection is None or connection.port == 0:
        raise cluster.NotInitialisedError(
            f"there is no database in {data} yet: start Tintype with `tintype up`, or set DATABASE_URL"
        )
    return connection.url


def is_running(data: Path) -> bool:
    """Whether the data folder's server answers queries."""
    data = data.expanduser().resolve()
    with privileges.unusable(data):
        running = _running(data)
        connection = cluster.read(data)
    return running is not None and connection is not None and cluster.answers(connection, data / connection.folder)


def obstacle(refuge: Path = privileges.REFUGE) -> str | None:
    """What keeps the embedded PostgreSQL from running here and how to mend it; None if nothing does."""
    try:
        account = privileges.account_for()
        installed = privileges.installed_tree()
        if privileges.can_execute(account, installed):
            return None
        if account is None or not privileges.can_execute(None, installed):
            return f"{installed}/bin/postgres does not run on this machine"
        shelter = next(folder for folder in (refuge, *refuge.parents) if folder.exists())
        if privileges.run(account, ["/bin/sh", "-c", 'test -x "$0/."', shelter])[0] != 0:
            return f"{account.name}, who runs PostgreSQL, reaches neither {installed} nor {shelter}"
    except (errors.SetupError, OSError) as error:
        return str(error)
    return None


def _running(data: Path) -> cluster.Postmaster | None:
    connection = cluster.read(data)
    return None if connection is None else cluster.postmaster(data / connection.folder)


def _take(path: Path) -> int | None:
    """Lock a file without waiting; its descriptor, None if somebody holds it. Closing it unlocks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        privileges.own_like_folder(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_free(path: Path) -> bool:
    if not path.exists():  # somebody removed the data folder
        return True
    descriptor = _take(path)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def _wait(is_done: Callable[[], bool], timeout_s: float, is_out: Callable[[], bool] = _never) -> None:
    """Wait for it; for `timeout_s` at most, and only as long as patience is not out."""
    deadline = time.monotonic() + timeout_s
    while not is_done() and time.monotonic() < deadline and not is_out():
        time.sleep(0.01)
