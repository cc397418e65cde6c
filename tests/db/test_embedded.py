"""The embedded PostgreSQL, with real servers: started, adopted, crashed, starved and stopped."""

import asyncio
import concurrent.futures.thread  # noqa: F401  a process that dropped its privileges may not find it later
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from tintype.db import cluster, embedded, privileges

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

STARTER = """
import pathlib, sys
from tintype.db import embedded
server = embedded.EmbeddedPostgres(pathlib.Path(sys.argv[1]))
url = server.start()
print("STARTED", server.owned, url, flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account reaches (pytest's own is 0700)."""
    path = Path(tempfile.mkdtemp(prefix="tintype-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[..., embedded.EmbeddedPostgres]]:
    """Make servers that are stopped at the end of the test."""
    made: list[embedded.EmbeddedPostgres] = []

    def make(data: Path = folder / "postgres", refuge: Path = folder / "refuge") -> embedded.EmbeddedPostgres:
        made.append(embedded.EmbeddedPostgres(data, refuge=refuge))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """A data folder whose database was made, and stopped."""
    path = Path(tempfile.mkdtemp(prefix="tintype-"))
    path.chmod(0o711)
    server = embedded.EmbeddedPostgres(path / "postgres", refuge=path / "refuge")
    server.start()
    server.stop()
    yield path / "postgres"
    shutil.rmtree(path)


@pytest.fixture
def server(prepared: Path) -> Iterator[embedded.EmbeddedPostgres]:
    """A stopped server with an empty log; its database is shared with other tests, without the table `kept`."""
    server = embedded.EmbeddedPostgres(prepared)
    ask(server.start(), "DROP TABLE IF EXISTS kept", "SELECT 1")
    server.stop()
    server.log_path.unlink()
    yield server
    server.stop()


@pytest.fixture
def disposable(make, prepared: Path, folder: Path) -> embedded.EmbeddedPostgres:
    """A stopped server with a database of its own, to be damaged."""
    subprocess.run(["cp", "-a", prepared, folder / "postgres"], check=True)
    return make()


@pytest.fixture(scope="module")
def served() -> Iterator[embedded.EmbeddedPostgres]:
    """One running server for the tests that only look at it."""
    path = Path(tempfile.mkdtemp(prefix="tintype-"))
    path.chmod(0o711)
    server = embedded.EmbeddedPostgres(path / "postgres", refuge=path / "refuge")
    os.environ["HF_TOKEN"] = "hf_do_not_pass_me_on"
    try:
        server.start()
    finally:
        del os.environ["HF_TOKEN"]
    yield server
    server.stop()
    shutil.rmtree(path)


def ask(url: str, *statements: str) -> object:
    """The first value that the last statement gives."""

    async def run() -> object:
        client = await asyncpg.connect(url, timeout=5)
        try:
            for statement in statements[:-1]:
                await client.execute(statement)
            return await client.fetchval(statements[-1])
        finally:
            await client.close()

    return asyncio.run(run())


def servers_of(data: Path) -> list[psutil.Process]:
    """Every process that has to do with a folder by its command line."""
    found = [p for p in psutil.process_iter(["cmdline"]) if str(data) in " ".join(p.info["cmdline"] or ())]
    return [p for p in found if p.pid != os.getpid() and p.info["cmdline"][0].endswith("postgres")]


def bare_initdb_s(folder: Path) -> float:
    """How long `initdb` alone takes right now: the yardstick on a machine that is busy with something else."""
    account = privileges.account_for()
    assert privileges.give_folder(folder / "bare", account)
    before = time.monotonic()
    privileges.run(account, [privileges.binaries(account) / "bin" / "initdb", folder / "bare"])
    return time.monotonic() - before


def fork_as_nobody(work: Callable[[], str]) -> str:
    """What `work` says in a forked process that has become `nobody` for good."""
    nobody = pwd.getpwnam("nobody")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            os.environ["HOME"] = nobody.pw_dir
            said = work()
        except BaseException as error:  # noqa: BLE001  told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(pid, 0)
    return said


def spawn_starter(data: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def started(process: "subprocess.Popen[str]") -> tuple[bool, str]:
    """Whether a starter supervises, and the URL it got; read once it has started."""
    for line in process.stdout:
        if line.startswith("STARTED"):
            _, owned, url = line.split()
            return owned == "True", url
    raise AssertionError("the starter ended without starting")


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=30)


def test_the_first_start_takes_less_than_four_seconds(make, folder):
    before = time.monotonic()
    url = make().start()
    took_s = time.monotonic() - before
    assert url == embedded.url(folder / "postgres")
    assert embedded.is_running(folder / "postgres")
    assert took_s < max(4, 4 * bare_initdb_s(folder))


def test_every_parameter_is_in_force(served):
    url = embedded.url(served.data)
    expected = cluster.PARAMETERS | {
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "password_encryption": "scram-sha-256",
    }
    for name, value in expected.items():
        assert ask(url, f"SELECT current_setting('{name}')") == value, name
    assert ask(url, "SELECT upper('ä')") == "Ä"


def test_the_product_is_no_superuser_but_may_make_what_it_needs(served):
    url = embedded.url(served.data)
    assert ask(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    assert ask(url, "CREATE TABLE t (n int)", "INSERT INTO t VALUES (7)", "SELECT n FROM t") == 7
    ask(url, "CREATE DATABASE another", "SELECT 1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        ask(url, "COPY t TO PROGRAM 'true'", "SELECT 1")


def test_only_the_local_machine_reaches_the_server(served):
    port = int(embedded.url(served.data).rsplit(":", 1)[1].split("/")[0])
    found = [c for c in psutil.net_connections("inet") if c.laddr.port == port and c.status == psutil.CONN_LISTEN]
    assert [c.laddr.ip for c in found] == ["127.0.0.1"]
    assert not [c for c in psutil.net_connections("unix") if f".s.PGSQL.{port}" in str(c.laddr)]


def test_files_with_secrets_are_private_and_the_server_is_told_none(served):
    assert stat.S_IMODE((served.data / "connection.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(served.log_path.stat().st_mode) == 0o600
    assert stat.S_IMODE((served.data / "cluster").stat().st_mode) == 0o700
    kept = json.loads((served.data / "connection.json").read_text())
    process = psutil.Process(served.process.pid)
    told = [*process.cmdline(), served.log_path.read_text()]
    with contextlib.suppress(psutil.AccessDenied):  # root in a container may not look at its own children
        told += process.environ().values()
    for secret in (kept["password"], kept["admin_password"], "hf_do_not_pass_me_on"):
        assert secret not in " ".join(told)
    made = {"cluster", "connection.json", "postgres.log", "server.lock", "supervisor.lock"}
    assert {path.name for path in served.data.iterdir()} == made


def test_a_wrong_password_is_refused(served):
    url = embedded.url(served.data)
    password = url.split(":")[2].split("@")[0]
    for wrong in ("", "wrong"):
        with pytest.raises(asyncpg.PostgresError, match="password"):
            ask(url.replace(password, wrong), "SELECT 1")
    assert ask(url, "SELECT 1") == 1


def test_a_failing_statement_keeps_its_text_out_of_the_log(served):
    with pytest.raises(asyncpg.PostgresError):
        ask(embedded.url(served.data), "SELECT 'a prompt' FROM no_such_table")
    assert "no_such_table" in served.log_path.read_text()
    assert "a prompt" not in served.log_path.read_text()


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(served):
    assert os.getsid(served.process.pid) == served.process.pid


def test_starting_twice_changes_nothing(served):
    process = served.process
    assert served.start() == embedded.url(served.data)
    assert served.process is process
    assert served.owned


def test_a_later_start_takes_less_than_a_second_and_keeps_data_and_url(server, folder):
    url = server.start()
    ask(url, "CREATE TABLE kept AS SELECT 42 AS n", "SELECT 1")
    server.stop()
    times = []
    for _ in range(2):
        before = time.monotonic()
        assert server.start() == url
        times.append(time.monotonic() - before)
        assert ask(url, "SELECT n FROM kept") == 42
        server.stop()
    assert min(times) < max(1, 2 * bare_initdb_s(folder))


def test_a_stop_leaves_no_process_and_may_be_repeated(server):
    server.start()
    everyone = [
        psutil.Process(server.process.pid),
        *psutil.Process(server.process.pid).children(recursive=True),
    ]
    assert len(everyone) > 3
    server.stop()
    assert not [p for p in everyone if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    assert servers_of(server.data) == []
    assert not embedded.is_running(server.data)
    assert not server.owned
    server.stop()
    assert "database system is shut down" in server.log_path.read_text()


def test_a_server_whose_folder_was_removed_can_still_be_stopped(disposable, folder):
    disposable.start()
    process = psutil.Process(disposable.process.pid)
    shutil.rmtree(folder / "postgres")
    disposable.stop()
    assert not process.is_running()


def test_a_start_that_is_interrupted_leaves_no_server(server):
    def interrupt(*_: object) -> None:
        if server.process is not None:
            raise KeyboardInterrupt
        signal.setitimer(signal.ITIMER_REAL, 0.001)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            server.start()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert servers_of(server.data) == []
    assert ask(server.start(), "SELECT 1") == 1


def test_a_stop_that_is_held_up_by_a_stuck_client_still_ends_and_loses_nothing(server):
    url = server.start()
    ask(url, "CREATE TABLE kept AS SELECT 1 AS n", "SELECT 1")
    stuck = psutil.Process(server.process.pid).children()[0]
    stuck.suspend()
    server.stop(timeout_s=0.3)
    assert not stuck.is_running()
    assert ask(server.start(), "SELECT n FROM kept") == 1


def test_a_restart_keeps_the_url_and_the_data(server):
    url = server.start()
    first = server.process.pid
    ask(url, "CREATE TABLE kept AS SELECT 5 AS n", "SELECT 1")
    assert server.restart() == url
    assert server.process.pid != first
    assert server.owned
    assert ask(url, "SELECT n FROM kept") == 5


async def test_it_starts_from_inside_a_running_event_loop(server):
    client = await asyncpg.connect(server.start())
    assert await client.fetchval("SELECT 1") == 1
    await client.close()


def test_a_pid_file_whose_number_lives_again_as_another_process_does_not_keep_it_from_starting(server):
    url = server.start()
    ask(url, "CREATE TABLE kept AS SELECT 3 AS n", "SELECT 1")
    pid_file = server.data / "cluster" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.stop()
    account = privileges.account_for(server.data / "cluster")
    foreign = privileges.spawn(account, ["/bin/sleep", "60"])  # the same user: PostgreSQL itself would refuse
    try:
        pid_file.write_text("\n".join([str(foreign.pid), *lines[1:]]) + "\n")
        if account is not None:
            os.chown(pid_file, account.uid, account.gid)
        assert not embedded.is_running(server.data)
        assert ask(server.start(), "SELECT n FROM kept") == 3
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_after_kill_9_of_the_server_the_next_start_recovers_what_was_committed(server):
    url = server.start()
    ask(url, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n", "SELECT 1")
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert server.poll() == -signal.SIGKILL
    assert ask(server.start(), "SELECT count(*) FROM kept") == 1000
    assert server.owned
    assert "automatic recovery in progress" in server.log_path.read_text()


def test_no_second_server_starts_while_processes_of_a_killed_one_are_left(server):
    server.start()
    left = psutil.Process(server.process.pid).children()[0]
    left.suspend()
    server.process.kill()
    server.process.wait()
    with pytest.raises(embedded.ServedElsewhereError):
        server.start(timeout_s=0.5)
    left.resume()
    assert ask(server.start(), "SELECT 1") == 1


def test_five_processes_that_start_at_once_share_one_server(folder):
    data = folder / "postgres"
    starters = [spawn_starter(data) for _ in range(5)]
    results = [started(process) for process in starters]
    assert len({url for _, url in results}) == 1
    assert sorted(owned for owned, _ in results) == [False, False, False, False, True]
    assert len(servers_of(data)) == 1
    for process, (owned, _) in zip(starters, results, strict=True):
        if not owned:
            end(process)
    assert embedded.is_running(data)  # those who only used it left it alone
    end(starters[results.index((True, results[0][1]))])
    assert not embedded.is_running(data)
    assert (data / "postgres.log").read_text().count("starting PostgreSQL") == 1


def test_a_server_whose_supervisor_was_killed_is_adopted_and_then_stopped(make, folder):
    starter = spawn_starter(folder / "postgres")
    _, url = started(starter)
    starter.kill()
    end(starter)
    assert embedded.is_running(folder / "postgres")
    server = make()
    assert server.start() == url
    assert server.owned
    assert server.process is None
    assert server.poll() is None
    server.stop()
    assert servers_of(folder) == []
    assert server.poll() == -1


def test_an_adopted_server_can_be_restarted(make, folder):
    starter = spawn_starter(folder / "postgres")
    _, url = started(starter)
    starter.kill()
    end(starter)
    server = make()
    server.start()
    assert server.restart() == url
    assert server.process.poll() is None


def test_a_port_that_somebody_took_is_replaced(server):
    before = server.start()
    server.stop()
    port = int(before.rsplit(":", 1)[1].split("/")[0])
    with socket.create_server(("127.0.0.1", port)):
        after = server.start()
        assert after != before
        assert embedded.url(server.data) == after
        assert ask(after, "SELECT 1") == 1


def test_a_path_far_longer_than_a_socket_may_have_works(make, folder):
    data = folder.joinpath(*(f"{number:_<60}" for number in range(5))) / "with spaces and ümlauts" / "postgres"
    assert len(str(data)) > 300
    assert ask(make(data).start(), "SELECT 1") == 1


def test_what_an_interrupted_first_start_left_is_cleared_away(make, folder):
    partial = folder / "postgres" / "cluster.partial"
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18\n")
    (folder / "postgres" / "cluster.password").write_text("old")
    assert ask(make().start(), "SELECT 1") == 1
    assert not partial.exists()
    assert not (folder / "postgres" / "cluster.password").exists()


def test_a_server_that_fails_to_start_says_why(disposable, folder):
    disposable.start()
    disposable.stop()
    with (folder / "postgres" / "cluster" / "postgresql.conf").open("a") as file:
        file.write("no_such_parameter = 1\n")
    with pytest.raises(embedded.StartError, match="no_such_parameter"):
        disposable.start()
    assert servers_of(folder) == []


def test_a_database_that_is_gone_is_never_replaced_by_an_empty_one(disposable, folder):
    disposable.start()
    disposable.stop()
    shutil.rmtree(folder / "postgres" / "cluster")
    with pytest.raises(cluster.ClusterMissingError, match="restore it from a backup"):
        disposable.start()


def test_a_lost_password_file_is_a_fact_of_its_own(disposable, folder):
    disposable.start()
    disposable.stop()
    (folder / "postgres" / "connection.json").unlink()
    with pytest.raises(cluster.ConnectionFileError, match="restore it from a backup"):
        disposable.start()
    assert (folder / "postgres" / "cluster" / "PG_VERSION").exists()


def test_a_folder_that_was_never_started_has_no_url(folder):
    with pytest.raises(cluster.NotInitialisedError, match="tintype up"):
        embedded.url(folder / "postgres")
    assert not embedded.is_running(folder / "postgres")


def test_a_moved_data_folder_still_works(make, disposable, folder):
    ask(disposable.start(), "CREATE TABLE kept AS SELECT 9 AS n", "SELECT 1")
    disposable.stop()
    (folder / "postgres").rename(folder / "elsewhere")
    assert ask(make(folder / "elsewhere").start(), "SELECT n FROM kept") == 9


def test_a_file_in_the_folders_place_is_named(make, folder):
    (folder / "file").write_text("")
    with pytest.raises(privileges.UnusableFolderError, match="TINTYPE_HOME"):
        make(folder / "file" / "postgres").start()


def test_the_log_is_bounded(server):
    server.start()
    with server.log_path.open("a") as file:
        file.write("x" * (cluster.LOG_LIMIT_BYTES + 1))
    assert server.poll() is None
    assert server.log_path.stat().st_size == 0
    server.stop()
    assert "database system is shut down" in server.log_path.read_text()


def test_nothing_keeps_postgresql_from_running_here(folder):
    assert embedded.obstacle(folder / "refuge") is None
    assert not (folder / "refuge").exists()


@as_root
def test_root_hands_the_server_and_its_files_to_an_unprivileged_account(server):
    server.start()
    owner = (server.data / "cluster").stat().st_uid
    process = psutil.Process(server.process.pid)
    assert owner != 0
    assert set(process.uids()) == {owner}
    groups = Path(f"/proc/{process.pid}/status").read_text().split("Groups:")[1].splitlines()[0]
    assert groups.strip() == ""


@as_root
def test_below_a_private_home_binaries_and_data_move_and_no_folder_is_opened_up(make, folder, monkeypatch):
    home = folder / "root"
    site = home / ".venv" / "site-packages"
    package = privileges.installed_tree().parent
    shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("pginstall", "include"))
    shutil.copytree(package.with_name(f"{package.name}.libs"), site / f"{package.name}.libs")
    home.chmod(0o700)
    monkeypatch.syspath_prepend(site)
    data = home / ".tintype" / "postgres"
    data.parent.mkdir(mode=0o700)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (folder, home, site, data.parent)}

    server = make(data)
    ask(server.start(), "CREATE TABLE kept AS SELECT 4 AS n", "SELECT 1")

    assert privileges.installed_tree().is_relative_to(home)
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in modes} == modes
    running = psutil.Process(server.process.pid)
    program = Path(running.cmdline()[0])
    assert program.is_relative_to(folder / "refuge")
    kept = Path(json.loads((data / "connection.json").read_text())["folder"])
    assert kept.is_relative_to(folder / "refuge" / "clusters")
    assert not (data / "cluster").exists()
    assert str(kept) in running.cmdline()

    copied_at = program.stat().st_ctime_ns
    server.stop()
    again = make(data)
    assert ask(again.start(), "SELECT n FROM kept") == 4
    assert psutil.Process(again.process.pid).cmdline()[0] == str(program)
    assert program.stat().st_ctime_ns == copied_at
    assert embedded.is_running(data)
    assert sorted(p.name for p in kept.parent.iterdir()) == [kept.name]


@as_root
def test_a_second_private_home_shares_the_binaries_but_not_the_data(make, folder):
    for name in ("one", "two"):
        (folder / name).mkdir(mode=0o700)
    first, second = make(folder / "one" / "postgres"), make(folder / "two" / "postgres")
    assert first.start() != second.start()
    assert len(list((folder / "refuge" / "clusters").iterdir())) == 2


@as_root
def test_an_account_that_reaches_neither_place_is_told_so(make, folder):
    (folder / "home").mkdir(mode=0o700)
    with pytest.raises(privileges.UnusableFolderError, match="choose a TINTYPE_HOME it reaches"):
        make(folder / "home" / "postgres", refuge=folder / "home" / "refuge").start()


@as_root
def test_root_runs_the_server_of_an_ordinary_user_as_that_user(make, folder):
    data = folder / "theirs" / "postgres"
    data.parent.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(data.parent, nobody.pw_uid, nobody.pw_gid)

    def start_and_stop() -> str:
        server = embedded.EmbeddedPostgres(data)
        value = ask(server.start(), "CREATE TABLE kept AS SELECT 6 AS n", "SELECT n FROM kept")
        uid = psutil.Process(server.process.pid).uids().real
        server.stop()
        return f"{value} as {uid}"

    assert fork_as_nobody(start_and_stop) == f"6 as {nobody.pw_uid}"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    server = make(data)
    assert ask(server.start(), "SELECT n FROM kept") == 6
    assert psutil.Process(server.process.pid).uids().real == nobody.pw_uid
    server.stop()
    again = fork_as_nobody(lambda: str(ask(start(data), "SELECT n FROM kept")))
    assert again == "6"  # nothing that root made locks the user out
    make(data).start()  # adopts what the forked process left, so that it is stopped


def start(data: Path) -> str:
    return embedded.EmbeddedPostgres(data).start()


@as_root
def test_an_ordinary_user_is_told_about_a_folder_they_may_not_write(folder):
    said = fork_as_nobody(lambda: start(folder / "postgres"))
    assert said.startswith("UnusableFolderError")
    assert "Permission denied" in said
    assert "TINTYPE_HOME" in said


@as_root
def test_a_full_disk_is_named_and_the_next_start_after_making_room_works(make, folder):
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m,mode=755", "tmpfs", disk]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        server = make(disk / "postgres")
        with pytest.raises(privileges.DiskFullError, match="no space left"):
            server.start()
        assert not [path.name for path in (disk / "postgres").iterdir() if path.name.startswith("cluster")]
        subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
        assert ask(server.start(), "SELECT 1") == 1
        server.stop()
    finally:
        subprocess.run(["umount", disk], check=True)
