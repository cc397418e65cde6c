"""What the embedded PostgreSQL is while it serves: its parameters, its rights, what it shows and to whom."""

import contextlib
import json
import os
import stat

import asyncpg
import psutil
import pytest

from tests.db.servers import ask
from tintype.db import cluster, embedded


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


async def test_it_starts_from_inside_a_running_event_loop(server):
    client = await asyncpg.connect(server.start())
    assert await client.fetchval("SELECT 1") == 1
    await client.close()


def test_the_log_is_bounded(server):
    server.start()
    with server.log_path.open("a") as file:
        file.write("x" * (cluster.LOG_LIMIT_BYTES + 1))
    assert server.poll() is None
    assert server.log_path.stat().st_size == 0
    server.stop()
    assert "database system is shut down" in server.log_path.read_text()
