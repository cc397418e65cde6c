"""The embedded PostgreSQL, with real servers: started, shared, adopted, restarted and stopped."""

import shutil
import signal
import socket
import time

import psutil
import pytest

from tests.db.servers import ask, bare_initdb_s, end, servers_of, spawn_starter, started
from tintype.db import embedded


def test_the_first_start_takes_less_than_four_seconds(make, folder):
    before = time.monotonic()
    url = make().start()
    took_s = time.monotonic() - before
    assert url == embedded.url(folder / "postgres")
    assert embedded.is_running(folder / "postgres")
    assert took_s < max(4, 4 * bare_initdb_s(folder))


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


def test_a_moved_data_folder_still_works(make, disposable, folder):
    ask(disposable.start(), "DROP TABLE IF EXISTS kept", "CREATE TABLE kept AS SELECT 9 AS n", "SELECT 1")
    disposable.stop()
    (folder / "postgres").rename(folder / "elsewhere")
    assert ask(make(folder / "elsewhere").start(), "SELECT n FROM kept") == 9
