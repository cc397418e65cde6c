"""The embedded PostgreSQL after crashes, leftovers and losses: what it mends by itself, and what it says."""

import os
import shutil
import signal

import psutil
import pytest

from tests.db.servers import ask, servers_of
from tintype.db import cluster, embedded, privileges


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


def test_a_file_in_the_folders_place_is_named(make, folder):
    (folder / "file").write_text("")
    with pytest.raises(privileges.UnusableFolderError, match="TINTYPE_HOME"):
        make(folder / "file" / "postgres").start()


def test_nothing_keeps_postgresql_from_running_here(folder):
    assert embedded.obstacle(folder / "refuge") is None
    assert not (folder / "refuge").exists()
