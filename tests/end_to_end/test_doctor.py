"""`tintype doctor`, and what only root meets: a home nobody else may enter, and databases left behind by one."""

import asyncio
import datetime as dt
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import certificates
from tests.db.servers import as_root
from tests.end_to_end.commands import COMMAND, environment, interrupt, up
from tests.processes import PLUGINS, free_port
from tests.standins.comfyui import server
from tintype.db import privileges
from tintype.media.provenance import credentials, own_certificate


def doctor(home: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*COMMAND, "doctor"],
        env=environment(home, **more),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def test_doctor_finds_nothing_wrong_and_says_what_is_when_something_is(home: Path):
    well = doctor(home)
    assert well.returncode == 0, well.stdout
    assert "signing certificate: none yet" in well.stdout
    assert "note   safety detectors: none installed: only the built-in model `sketch` is drawn" in well.stdout
    assert "ok     provider comfyui: no server is set up; COMFYUI_URL names one" in well.stdout
    ill = doctor(home, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none", PYTHONPATH=str(PLUGINS))
    assert ill.returncode == 1
    assert "correct DATABASE_URL" in ill.stdout
    assert "provider broken" in ill.stdout
    assert "ok     safety detectors: colours scores person, sexual" in ill.stdout
    assert not (home / "provenance").exists()  # looking makes nothing


def test_doctor_says_once_what_is_wrong_with_the_settings_and_looks_at_the_rest(home: Path):
    home.mkdir()
    (home / "tintype.toml").write_text("api = 7\n\n[engine]\ndevise = 'cpu'\n\n[logs]\nlevel = 'loud'\n")
    ill = doctor(home, TINTYPE_WROKER_DRAIN_S="1")
    assert ill.returncode == 1
    for once in ("did you mean TINTYPE_WORKER_DRAIN_S?", "did you mean device?", "write [api]"):
        assert ill.stdout.count(once) == 1, ill.stdout
    assert "files verified" in ill.stdout


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"TINTYPE_API_HOST": "0.0.0.0"}, "it listens on 127.0.0.1 only"),
        ({"TINTYPE_PROVENANCE_LABEL_TEXT": "日本"}, "the visible label cannot show 日 本"),
    ],
    ids=["an address for everybody", "words that cannot be drawn"],
)
def test_doctor_names_a_setting_that_no_start_would_accept(home: Path, wrong: dict[str, str], says: str):
    ill = doctor(home, COLUMNS="2000", **wrong)
    assert (ill.returncode, says in ill.stdout) == (1, True), ill.stdout


def test_doctor_names_the_detector_and_the_certificate_that_do_not_work_and_the_way_out(home: Path):
    (home / "provenance").mkdir(parents=True)
    own_certificate.make(home / credentials.FOLDER)
    key = home / credentials.FOLDER / own_certificate.KEY
    key.chmod(0o644)
    (home / "models" / "odd").mkdir(parents=True)
    (home / "models" / "odd" / "manifest.json").write_text('{"kind": "detector", "id": "odd"}')
    ill = doctor(home, COLUMNS="2000")
    assert ill.returncode == 1
    assert f"wrong  signing certificate: its own, in {key.parent}: others can read {key}" in ill.stdout
    assert "it makes a new one" in ill.stdout
    assert "wrong  safety detectors: installed: DetectorBrokenError: the detector odd cannot be used" in ill.stdout
    assert "until then only models that ship with Tintype are drawn" in ill.stdout


def test_doctor_says_until_when_the_operators_certificate_is_valid_and_notes_when_that_is_soon(home: Path):
    home.mkdir()
    root = certificates.authority()
    for days, mark in ((400, "ok  "), (5, "note")):
        chain, key = certificates.write(home, [certificates.signer(root, days=(-1, days)), root])
        settings = {"TINTYPE_PROVENANCE_CERTIFICATE_CHAIN": str(chain), "TINTYPE_PROVENANCE_PRIVATE_KEY": str(key)}
        found = doctor(home, COLUMNS="2000", **settings)
        assert found.returncode == 0, found.stdout
        day = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        assert f"{mark}   signing certificate: yours, {chain}; valid until {day:%Y-%m-}" in found.stdout
    assert "before that day, set another certificate_chain and private_key" in found.stdout


def test_looking_for_detectors_imports_no_torch_where_none_is_installed(home: Path):
    code = (
        "import sys; from tintype.cli import doctor; list(doctor._safety_detectors()); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(home), timeout=60, check=True)


async def test_doctor_shows_comfyui_servers_what_they_lack_and_which_of_them_is_away(home: Path, tmp_path: Path):
    async with server.running(tmp_path) as comfyui:
        away = f"http://127.0.0.1:{free_port()}"
        found = await asyncio.to_thread(doctor, home, COMFYUI_URL=f"{comfyui.url},{away}", COLUMNS="2000")
    assert found.returncode == 1
    assert f" at {comfyui.url} (ComfyUI 0.3.64, " in found.stdout
    assert "GB free); any family" in found.stdout
    assert f"wrong  provider comfyui, {away}: ComfyUI at {away} cannot be reached" in found.stdout


@as_root
def test_up_works_as_root_under_a_home_nobody_else_may_enter(home: Path):
    home.parent.chmod(0o700)
    process, said = up(home, "--prompt", "a ring")
    assert "picture: " in said
    assert home.parent.stat().st_mode & 0o777 == 0o700
    interrupt(process)


@as_root
def test_doctor_lists_a_database_whose_home_is_gone_and_the_command_that_removes_it(home: Path):
    home.parent.chmod(0o700)
    process, _ = up(home)
    assert "orphan" not in doctor(home).stdout
    interrupt(process)
    shutil.rmtree(home)

    found = doctor(home.with_name("other"))
    assert found.returncode == 0, found.stdout
    about = next(line for line in found.stdout.split("note") if f"belongs to {home}/postgres, which is gone" in line)
    removal = re.search(r"remove it: (.+)", about)
    assert removal is not None
    kept = re.search(r"(\S+) belongs to", about)
    assert kept is not None
    assert Path(kept[1]).is_relative_to(privileges.REFUGE)
    assert Path(kept[1]).exists()  # looking removes nothing
    subprocess.run(["sh", "-c", removal[1]], check=True)
    assert not Path(kept[1]).exists()
    assert str(home) not in doctor(home.with_name("other")).stdout
