"""Archives: plain files come out where they should, everything else is refused and leaves nothing."""

import gzip
import io
import os
import random
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from tintype.errors import TintypeError
from tintype.intake import archives
from tintype.intake.archives import Limits

LIMITS = Limits(max_files=20, max_file_bytes=1 << 20, max_total_bytes=2 << 20)


def a_zip(path: Path, entries: list[tuple[str, bytes]], *, kind: int = 0, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            entry.external_attr = kind << 16
            entry.compress_type = method
            archive.writestr(entry, content)
    return path


def a_tar(path: Path, entries: list[tuple[str, bytes]], mode: str = "w", **attributes: object) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for attribute, value in attributes.items():
                setattr(entry, attribute, value)
            archive.addfile(entry, io.BytesIO(content))
    return path


def refused(tmp_path: Path, archive: Path, limits: Limits = LIMITS) -> TintypeError:
    """Why it is refused, after seeing that nothing was left, inside or outside."""
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}
    with pytest.raises(TintypeError) as caught:
        archives.unpack(archive, tmp_path / "out", limits)
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before
    return caught.value


FILES = [("a.png", b"A"), ("deep/er/b.txt", b"B" * 70_000), ("größe/日本.jpg", b"")]
MAKERS = {
    "zip": a_zip,
    "stored": lambda path, entries: a_zip(path, entries, method=zipfile.ZIP_STORED),
    "tar": a_tar,
    "tar.gz": lambda path, entries: a_tar(path, entries, "w:gz"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_plain_files_come_out_where_they_should(tmp_path, kind):
    unpacked = archives.unpack(MAKERS[kind](tmp_path / "archive", FILES), tmp_path / "out", LIMITS)
    assert unpacked.size_bytes == 70_001
    assert [path.as_posix() for path in unpacked.files] == [name for name, _ in FILES]
    for name, content in FILES:
        assert (tmp_path / "out" / name).read_bytes() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "out"]


def test_what_common_tools_make_unpacks(tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    for name in ("1.png", "sub/2.png"):
        (source / name).write_bytes(os.urandom(100))
    for form, name in (("zip", "a"), ("tar", "b"), ("gztar", "c")):
        made = shutil.make_archive(str(tmp_path / name), form, source)
        assert len(archives.unpack(Path(made), tmp_path / f"out-{name}", LIMITS).files) == 2


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "a/../../up",
        "/etc/absolute",
        "a//b",
        "./a/./b",
        "C:\\x",
        "a\\..\\b",
        "..",
        "a\nb",
        "x\u202etxt",
        "a:b",
        "é" * 130,
        "/".join("a" * 20),
        "a. /b/..",
        "con\x07trol",
    ],
)
def test_a_name_that_leaves_or_deceives_is_refused(tmp_path, kind, name):
    error = refused(tmp_path, MAKERS[kind](tmp_path / "archive", [("fine.png", b"1"), (name, b"2")]))
    assert (error.status, error.code) == (422, "archive_invalid")


def test_a_name_with_a_nul_is_refused(tmp_path):
    assert "plain name" in refused(tmp_path, a_zip(tmp_path / "a", [("good.png\0.exe", b"1")])).detail


@pytest.mark.parametrize(
    "names", [("a", "a"), ("a.PNG", "A.png"), ("straße", "STRASSE"), ("a", "a/b"), ("a/b", "a"), ("D/x", "d/y")]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_fall_together_are_refused(tmp_path, kind, names):
    error = refused(tmp_path, MAKERS[kind](tmp_path / "archive", [(name, b"x") for name in names]))
    assert "rename one" in error.detail


def test_the_same_letter_spelt_in_two_ways_falls_together(tmp_path):
    error = refused(tmp_path, a_zip(tmp_path / "a", [("e\u0301.png", b"1"), ("\u00e9.png", b"2")]))
    assert "rename one" in error.detail


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_zip_with_a_link_or_a_device_is_refused(tmp_path, kind):
    error = refused(tmp_path, a_zip(tmp_path / "a", [("link", b"/etc/passwd")], kind=kind | 0o777))
    assert "is a link, a device or sparse" in error.detail


@pytest.mark.parametrize(
    "type_",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE],
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_with_a_link_or_a_device_is_refused(tmp_path, type_, mode):
    entries = [("link", b"")]
    error = refused(tmp_path, a_tar(tmp_path / "a", entries, mode, type=type_, linkname="/etc/passwd"))
    assert error.code == "archive_invalid"


def test_a_file_behind_a_link_is_not_written_through_it(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        entry = tarfile.TarInfo("way/in.txt")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"!"))
    refused(tmp_path, path)
    assert not list(outside.iterdir())


def test_an_encrypted_or_unusually_compressed_file_is_refused(tmp_path):
    path = a_zip(tmp_path / "a", [("x", b"x")], method=zipfile.ZIP_LZMA)
    assert "unusual way" in refused(tmp_path, path).detail
    whole = bytearray(a_zip(tmp_path / "b", [("x", b"x")]).read_bytes())
    whole[6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b").write_bytes(whole)
    assert "password" in refused(tmp_path, tmp_path / "b").detail


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_stopped_by_what_comes_out(tmp_path, kind):
    path = MAKERS[kind](tmp_path / "archive", [("zeros", bytes(64 << 20))])
    assert path.stat().st_size < 100_000
    error = refused(tmp_path, path)
    assert (error.status, error.code) == (413, "archive_too_large")


def test_a_bomb_that_lies_about_its_size_is_stopped_as_well(tmp_path):
    path = a_zip(tmp_path / "a", [("zeros", bytes(8 << 20))])
    whole = bytearray(path.read_bytes())
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = whole.index(magic) + at
        whole[place : place + 4] = (100).to_bytes(4, "little")
    path.write_bytes(whole)
    assert refused(tmp_path, path).code in ("archive_too_large", "archive_invalid")


def test_files_that_share_their_bytes_are_stopped_by_the_ratio_of_all(tmp_path):
    path = a_zip(tmp_path / "a", [(f"{number}", bytes(1 << 20)) for number in range(15)])
    error = refused(tmp_path, path, Limits(max_ratio=100))
    assert error.code == "archive_too_large"


def test_a_gzip_bomb_inside_the_headers_is_stopped(tmp_path):
    path = tmp_path / "a.tgz"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 4 << 30
    with gzip.open(path, "wb") as file:
        file.write(header.tobuf())
        for _ in range(64):
            file.write(bytes(1 << 20))
    assert refused(tmp_path, path).code == "archive_too_large"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_too_many_files_are_refused(tmp_path, kind):
    path = MAKERS[kind](tmp_path / "archive", [(f"{number}.png", b"x") for number in range(21)])
    assert refused(tmp_path, path).code == "archive_too_large"


def test_too_many_folders_are_refused(tmp_path):
    path = a_tar(tmp_path / "a", [(f"d{number}", b"") for number in range(50)], type=tarfile.DIRTYPE)
    assert refused(tmp_path, path).code == "archive_too_large"


def test_a_zip_that_lists_more_than_it_says_is_refused_before_its_directory_is_read(tmp_path):
    path = a_zip(tmp_path / "a", [(f"{number}" * 200, b"") for number in range(600)])
    whole = bytearray(path.read_bytes())
    end = whole.rindex(b"PK\x05\x06")
    whole[end + 8 : end + 12] = b"\1\0\1\0"
    path.write_bytes(whole)
    assert refused(tmp_path, path).code == "archive_too_large"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_inside_is_refused_whatever_it_is_called(tmp_path, kind):
    inner = a_zip(tmp_path / "inner", FILES).read_bytes()
    assert "inside the archive" in refused(tmp_path, MAKERS[kind](tmp_path / "a", [("b.png", inner)])).detail


def test_only_what_is_asked_for_may_be_inside(tmp_path):
    pictures = Limits(suffixes=frozenset({".png", ".txt"}))
    assert "leave it out" in refused(tmp_path, a_zip(tmp_path / "a", [("run.exe", b"x")]), pictures).detail
    assert archives.unpack(a_zip(tmp_path / "b", [("A.PNG", b"x")]), tmp_path / "out", pictures).files == (
        Path("A.PNG"),
    )


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    assert refused(tmp_path, a_zip(tmp_path / "a", FILES)).code == "folder_exists"


def test_mutated_archives_are_unpacked_or_named_facts_and_nothing_else(tmp_path):
    dice, counts = random.Random(5), {"unpacked": 0, "refused": 0}
    originals = [MAKERS[kind](tmp_path / kind, FILES).read_bytes() for kind in ("zip", "tar", "tar.gz")]
    for number in range(900):
        content = bytearray(originals[number % 3])
        for _ in range(dice.randint(1, 8)):
            content[dice.randrange(min(len(content), 3000))] = dice.randrange(256)
        if dice.random() < 0.2:
            del content[dice.randrange(len(content)) :]
        (tmp_path / "mutated").unlink(missing_ok=True)
        (tmp_path / "mutated").write_bytes(content)
        try:
            archives.unpack(tmp_path / "mutated", tmp_path / f"out{number}", LIMITS)
            counts["unpacked"] += 1
        except TintypeError:
            counts["refused"] += 1
            assert not (tmp_path / f"out{number}").exists()
    assert counts["refused"] > 200
    assert not list(tmp_path.glob(".unpacking-*"))
