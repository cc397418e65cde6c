"""The embedded server's data on disk: how it is made, with which parameters it is served, who serves it now.

A data folder holds `connection.json` (what clients need, mode 600), `cluster/` (PostgreSQL's own files, where
`privileges` does not keep them apart), `postgres.log` and two lock files (see `embedded`).
"""

import asyncio
import concurrent.futures
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import psutil

from tintype import errors, logs
from tintype.db import privileges

HOST = "127.0.0.1"
ADMIN = "postgres"  # the superuser, used here only
ROLE = "tintype"  # what the product connects as; owns the database and nothing else
DATABASE = "tintype"

# Below the range that systems take outgoing connections from, so that a port stays free over a restart.
PORTS = range(20_000, 30_000)

PARAMETERS = {
    "listen_addresses": HOST,  # the bundled server has no TLS: it is never exposed to a network
    "unix_socket_directories": "",  # a socket's path may have 107 bytes at most, a data folder's more
    "cluster_name": "tintype",  # tells people who read `ps` whose server this is
    "fsync": "on",  # what is reported done survives a power cut
    "synchronous_commit": "on",  # the same for the last transaction
    "shared_buffers": "64MB",  # a studio's tables are small; memory is for pictures
    "max_connections": "100",  # API and a dozen workers with pools of ten, most of them never opened
    "jit": "off",  # compiling takes longer than our queries
    "io_method": "sync",  # three I/O processes less; what we read is in memory
    "max_parallel_workers_per_gather": "0",  # cores are for pictures, and /dev/shm of a container holds 64 MB
    "max_parallel_maintenance_workers": "0",  # the same
    "max_logical_replication_workers": "0",  # one process less; nothing subscribes
    "huge_pages": "off",  # trying for them ends in SIGBUS in some containers
    "max_wal_size": "512MB",  # bounds the disk taken and what is replayed after a crash
    "timezone": "UTC",  # times in SQL read as in the API
    "log_timezone": "UTC",  # and in the log
    "logging_collector": "off",  # standard error goes to `postgres.log`, which `rotate` bounds
    "log_checkpoints": "off",  # several lines every five minutes say nothing
    "log_min_error_statement": "panic",  # statements hold prompts and passwords: they stay out of the log
    "scram_iterations": "1",  # stretching protects short passwords; ours has 256 bits, and connects faster
}

LOG_LIMIT_BYTES = 4 << 20
PROBE_TIMEOUT_S = 5

T = TypeVar("T")
log = logs.get("postgres")


class NotInitialisedError(errors.SetupError):
    """The embedded database has not been started yet."""

    code = "postgres_not_initialised"


class InitialisationError(errors.SetupError):
    """PostgreSQL could not make a new database cluster."""

    code = "postgres_initialisation_failed"


class ClusterMissingError(errors.SetupError):
    """The database's files are gone from where they were kept."""

    code = "postgres_cluster_missing"


class ConnectionFileError(errors.SetupError):
    """`connection.json`, which holds the database's passwords, is missing or damaged."""

    code = "postgres_connection_file"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How to reach one cluster; what `connection.json` holds."""

    folder: str  # PostgreSQL's own files: relative to the data folder, absolute where they had to move
    port: int = 0  # 0 until served for the first time, so that nothing can be in it yet
    password: str = dataclasses.field(repr=False)
    admin_password: str = dataclasses.field(repr=False)

    @property
    def url(self) -> str:
        return f"postgresql://{ROLE}:{self.password}@{HOST}:{self.port}/{DATABASE}"


@dataclass(frozen=True, kw_only=True)
class Postmaster:
    """A server process that really serves a cluster."""

    pid: int
    is_ready: bool


def read(data: Path) -> Connection | None:
    """The connection of a data folder; None before anything was made there.

    Raises:
        ConnectionFileError: it is damaged, or lost while the cluster is there.
    """
    path = data / "connection.json"
    try:
        return Connection(**json.loads(path.read_text()))
    except FileNotFoundError:
        if not (data / "cluster").exists():
            return None
        raise ConnectionFileError(
            f"{path} is missing, and with it the password of the database in {data / 'cluster'}: "
            "restore it from a backup, or move that folder away to begin with an empty database"
        ) from None
    except (ValueError, TypeError) as error:
        raise ConnectionFileError(f"{path} is damaged ({error}): restore it from a backup") from error


def write(data: Path, connection: Connection) -> None:
    """Replace `connection.json` as a whole, with mode 600."""
    path = data / "connection.json"
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(dataclasses.asdict(connection), file)
        file.flush()
        os.fsync(file.fileno())
    privileges.own_like_folder(partial)
    partial.replace(path)


def initialise(data: Path, refuge: Path, lock: int) -> Connection:
    """Make a new, empty cluster: the whole of it or nothing.

    `lock` is inherited by `initdb`, so that it is held until that has ended even when we are killed.

    Raises:
        DiskFullError, InitialisationError, UnusableFolderError: nothing was made.
    """
    account = privileges.account_for()
    program = privileges.binaries(account, refuge) / "bin" / "initdb"
    folder, partial = _place(data, refuge, account)
    secret = partial.with_suffix(".password")
    made = Connection(
        folder=folder.name if folder.parent == data else str(folder),
        password=secrets.token_hex(32),
        admin_password=secrets.token_hex(32),
    )
    try:
        secret.unlink(missing_ok=True)
        with open(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made.admin_password)
        if account is not None:
            os.chown(secret, account.uid, account.gid, follow_symlinks=False)
        _initdb(account, program, partial, secret, lock)
        write(data, made)
        partial.rename(folder)
    finally:
        secret.unlink(missing_ok=True)
        # Where a signal cut initdb off, its children may still be at it: what stays now, the next start clears away.
        shutil.rmtree(partial, ignore_errors=True)
    return made


def _place(data: Path, refuge: Path, account: privileges.Account | None) -> tuple[Path, Path]:
    """Where a new cluster goes, and an empty folder beside it, the account's own, in which it is made."""
    folder = data / "cluster"
    partial = folder.with_suffix(".partial")
    if privileges.give_folder(partial, account):
        return folder, partial
    home = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    names = (home, *(f"{home}-{number}" for number in range(2, 1000)))
    folder = next(path for name in names if not (path := refuge / "clusters" / name).exists())
    partial = folder.with_suffix(".partial")
    privileges.open_folder(folder.parent)
    if account is None or not privileges.give_folder(partial, account):
        raise privileges.UnusableFolderError(
            f"PostgreSQL runs as {account.name if account else 'you'}, which can use neither {data} nor {refuge}: "
            f"choose a TINTYPE_HOME it reaches, such as /srv/tintype, {privileges.OWN_SERVER}"
        )
    log.warning(
        "PostgreSQL's account does not reach the data folder: its files are kept apart",
        account=account.name,
        data=str(data),
        kept=str(folder),
    )
    return folder, partial


def _initdb(account: privileges.Account | None, program: Path, folder: Path, secret: Path, lock: int) -> None:
    options = [
        f"--pgdata={folder}",
        f"--username={ADMIN}",
        f"--pwfile={secret}",
        "--auth-host=scram-sha-256",
        "--auth-local=reject",
        "--encoding=UTF8",
        # Sorting and case that come with PostgreSQL: no system locale needed, the same on every machine.
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        "--data-checksums",
        "--no-instructions",
    ]
    status, output = privileges.run(account, [program, *options], pass_fds=(lock,))
    if privileges.says_disk_full(output):
        raise privileges.disk_full(folder.parent)
    if status != 0:
        said = "\n".join(output.strip().splitlines()[-12:])
        raise InitialisationError(
            f"initdb failed with status {status}; mend what it says, {privileges.OWN_SERVER}:\n{said}"
        )


def with_free_port(connection: Connection, *, other: bool = False) -> Connection:
    """The connection with its port if nobody listens there and no `other` is asked for, else a free one."""
    port = 0 if other else connection.port
    while port == 0 or not _is_free(port):
        port = secrets.choice(PORTS)
    return dataclasses.replace(connection, port=port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def postmaster(folder: Path) -> Postmaster | None:
    """The server that serves this cluster now, if one does.

    A pid file alone proves nothing: after a crash or a reboot its number may live again as another process.
    Command lines can be read where a process's folder cannot (root in a container without CAP_SYS_PTRACE).
    """
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
        command = psutil.Process(pid).cmdline()
    except (FileNotFoundError, ValueError, IndexError, psutil.Error):
        return None
    if not command or Path(command[0]).name != "postgres" or str(folder) not in command:
        return None
    return Postmaster(pid=pid, is_ready=len(lines) > 7 and lines[7].strip() == "ready")


def forget_foreign_pid(folder: Path) -> None:
    """Remove a pid file whose number now belongs to a process that is no server of this cluster.

    PostgreSQL would take that process for a server and refuse to start. The caller holds the server's lock,
    which proves that nobody serves the cluster. The file of a dead process stays: PostgreSQL deals with that.
    """
    path = folder / "postmaster.pid"
    try:
        pid = int(path.read_text().split("\n", 1)[0])
    except FileNotFoundError:
        return
    except ValueError:
        pid = None
    if pid is None or psutil.pid_exists(pid):
        log.warning("removing a stale postmaster.pid", pid=pid)
        path.unlink(missing_ok=True)


def prepare(connection: Connection) -> None:
    """Prove that the server answers queries; make our role and our database where absent.

    Raises:
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError: it does not answer (yet).
    """
    _in_own_loop(_prepare(connection))


def answers(connection: Connection, folder: Path) -> bool:
    """Whether the product's own role can query this very cluster."""
    try:
        return os.path.samefile(_in_own_loop(_data_directory(connection)), folder)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


async def _prepare(connection: Connection) -> None:
    client = await _connect(connection, ADMIN, connection.admin_password, ADMIN)
    try:
        if not await client.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", ROLE):
            # Tests and tools make databases of their own; health checks read sizes and settings.
            rights = f"LOGIN CREATEDB PASSWORD '{connection.password}' IN ROLE pg_monitor"
            await client.execute(f"CREATE ROLE {ROLE} {rights}")
        if not await client.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
            await client.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    finally:
        await client.close(timeout=PROBE_TIMEOUT_S)


async def _data_directory(connection: Connection) -> str:
    client = await _connect(connection, ROLE, connection.password, DATABASE)
    try:
        return str(await client.fetchval("SELECT current_setting('data_directory')"))
    finally:
        await client.close(timeout=PROBE_TIMEOUT_S)


async def _connect(connection: Connection, user: str, password: str, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=HOST,
        port=connection.port,
        user=user,
        password=password,
        database=database,
        ssl=False,
        timeout=PROBE_TIMEOUT_S,
    )


def _in_own_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a thread of its own: the caller may sit in a running event loop."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def rotate(path: Path) -> None:
    """Bound the server's log, which it keeps open: beyond `LOG_LIMIT_BYTES` the lines move to `.1`."""
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        shutil.copy2(path, f"{path}.1")
        os.truncate(path, 0)


def tail(path: Path, offset: int) -> str:
    """The last lines of the log that were written after `offset` bytes."""
    with path.open("rb") as file:
        file.seek(max(offset, path.stat().st_size - 8192))
        return "\n".join(file.read().decode(errors="replace").strip().splitlines()[-12:])
