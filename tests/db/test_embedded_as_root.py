"""The embedded PostgreSQL started by root: who runs it, where its files lie, and what stays closed."""

import json
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.db.servers import as_root, ask, fork_as_nobody, start
from tintype.db import embedded, orphans, privileges


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


@as_root
def test_a_database_kept_apart_is_an_orphan_once_its_data_folder_is_gone(make, folder):
    refuge, data = folder / "refuge", folder / "home" / "postgres"
    data.parent.mkdir(mode=0o700)
    server = make(data)
    server.start()
    kept = Path(json.loads((data / "connection.json").read_text())["folder"])
    assert list(orphans.find(refuge)) == []
    data.parent.rename(folder / "moved")
    assert [orphan.data for orphan in orphans.find(refuge)] == [data]
    (folder / "moved").rename(data.parent)
    assert list(orphans.find(refuge)) == []

    shutil.rmtree(data)
    orphan = next(orphans.find(refuge))
    assert (orphan.folder, orphan.data, orphan.pid) == (kept, data, server.process.pid)
    subprocess.run(["sh", "-c", orphan.removal], check=True)
    assert list(orphans.find(refuge)) == []
    assert list(refuge.rglob(f"{kept.name}*")) == []


@as_root
def test_a_database_kept_apart_follows_its_data_folder_and_is_left_behind_by_a_new_one(make, folder):
    refuge, data = folder / "refuge", folder / "home" / "postgres"
    data.parent.mkdir(mode=0o700)
    server = make(data)
    server.start()
    server.stop()
    data.parent.rename(folder / "moved")
    moved = make(folder / "moved" / "postgres")
    moved.start()
    moved.stop()
    assert list(orphans.find(refuge)) == []

    shutil.rmtree(folder / "moved")
    (folder / "moved").mkdir(mode=0o700)
    make(folder / "moved" / "postgres").start()
    assert [(orphan.data, orphan.pid) for orphan in orphans.find(refuge)] == [(folder / "moved" / "postgres", None)]
    assert fork_as_nobody(lambda: str(list(orphans.find(refuge)))) == "[]"
