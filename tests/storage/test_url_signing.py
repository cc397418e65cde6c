"""Signed links: bound to path and time, and a key that only its owner reads."""

import os
import stat
import subprocess
import sys
import time
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.errors import SetupError
from tintype.storage import signing

SECRET = bytes(range(32))
PATH = "/api/media/0193-abc/content"
NOW = 1_800_000_000


def parts(query: str) -> tuple[str, str]:
    assert query.startswith("?")
    values = parse_qs(query[1:], strict_parsing=True)
    return values["expires"][0], values["signature"][0]


def test_a_link_is_accepted_until_its_second_comes():
    expires, signature = parts(signing.sign_path(SECRET, PATH, NOW + 60))
    signing.verify(SECRET, PATH, expires, signature, now_s=NOW)
    signing.verify(SECRET, PATH, expires, signature, now_s=NOW + 59.9)
    with pytest.raises(signing.SignatureExpiredError) as caught:
        signing.verify(SECRET, PATH, expires, signature, now_s=NOW + 60)
    assert (caught.value.status, caught.value.code) == (403, "link_expired")


def test_without_a_given_time_the_clock_decides():
    signing.verify(SECRET, PATH, *parts(signing.sign_path(SECRET, PATH, int(time.time()) + 60)))
    with pytest.raises(signing.SignatureExpiredError):
        signing.verify(SECRET, PATH, *parts(signing.sign_path(SECRET, PATH, int(time.time()) - 1)))


def test_a_link_opens_no_other_path_and_cannot_be_prolonged():
    expires, signature = parts(signing.sign_path(SECRET, PATH, NOW + 60))
    for secret, path, until in [
        (SECRET, PATH + "/", expires),
        (SECRET, PATH.upper(), expires),
        (SECRET, PATH, str(NOW + 61)),
        (SECRET, PATH, expires + "0"),
        (SECRET, PATH, f"0{expires}"),
        (bytes(32), PATH, expires),
    ]:
        with pytest.raises(signing.SignatureInvalidError) as caught:
            signing.verify(secret, path, until, signature, now_s=NOW)
        assert (caught.value.status, caught.value.code) == (403, "link_invalid")


def test_a_forged_link_is_invalid_even_when_it_is_also_too_old():
    with pytest.raises(signing.SignatureInvalidError):
        signing.verify(SECRET, PATH, "1", "A" * 43, now_s=NOW)


@given(expires=st.text(), signature=st.text(), path=st.text())
def test_whatever_arrives_in_a_query_is_refused_with_the_named_fact(expires, signature, path):
    with pytest.raises(signing.SignatureInvalidError):
        signing.verify(SECRET, path, expires, signature, now_s=NOW)


def test_a_newline_moves_nothing_between_path_and_time():
    _, signature = parts(signing.sign_path(SECRET, "/a\n5", 6))
    with pytest.raises(signing.SignatureInvalidError):
        signing.verify(SECRET, "/a", "5\n6", signature, now_s=0)


@pytest.mark.parametrize("change", range(43))
def test_every_character_of_a_signature_matters(change):
    expires, signature = parts(signing.sign_path(SECRET, PATH, NOW + 60))
    assert len(signature) == 43
    other = "A" if signature[change] != "A" else "B"
    with pytest.raises(signing.SignatureInvalidError):
        signing.verify(SECRET, PATH, expires, signature[:change] + other + signature[change + 1 :], now_s=NOW)


def test_the_key_is_made_once_for_its_owner_only(tmp_path):
    secret = signing.load_secret(tmp_path)
    file = tmp_path / "secrets" / "url-signing.key"
    assert len(secret) == 32
    assert signing.load_secret(tmp_path) == secret == file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert os.listdir(file.parent) == ["url-signing.key"]
    assert signing.load_secret(tmp_path / "another") != secret


def test_processes_that_start_at_once_agree_on_one_key(tmp_path):
    """Each child waits for the same moment, so that they truly race."""
    code = (
        "import sys, time, pathlib; from tintype.storage import signing\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(signing.load_secret(pathlib.Path(sys.argv[1])).hex())"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    answers = {child.communicate(timeout=30)[0] for child in children}
    assert len(answers) == 1
    assert len(answers.pop().strip()) == 64


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path, mode):
    signing.load_secret(tmp_path)
    file = tmp_path / "secrets" / "url-signing.key"
    file.chmod(mode)
    with pytest.raises(SetupError, match=f"chmod 600 {file}"):
        signing.load_secret(tmp_path)


def test_a_folder_where_others_can_replace_the_key_is_refused(tmp_path):
    signing.load_secret(tmp_path)
    (tmp_path / "secrets").chmod(0o777)
    with pytest.raises(SetupError, match="chmod 700"):
        signing.load_secret(tmp_path)


def test_a_damaged_key_and_a_link_in_its_place_are_refused(tmp_path):
    signing.load_secret(tmp_path)
    file = tmp_path / "secrets" / "url-signing.key"
    file.write_bytes(b"short")
    with pytest.raises(SetupError, match="damaged"):
        signing.load_secret(tmp_path)
    target = tmp_path / "elsewhere"
    target.write_bytes(bytes(32))
    file.unlink()
    file.symlink_to(target)
    with pytest.raises(SetupError, match="cannot be used"):
        signing.load_secret(tmp_path)
