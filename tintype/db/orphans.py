"""Databases that outlived the data folder they belong to.

As root, a database that its account cannot reach in the data folder is kept below `privileges.REFUGE`, and stays there
when somebody removes the data folder. Beside each lies a note (`<name>.home`) with the path of its data folder, written
anew at every start, so that it also follows a folder that was moved.
"""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tintype.db import cluster, privileges


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A database of a data folder that is gone, or has another database by now; `pid` of the server that runs on it."""

    folder: Path
    data: Path
    pid: int | None

    @property
    def removal(self) -> str:
        """The commands that remove it; what is in it is lost."""
        stop = f"kill -INT {self.pid}; sleep 5; " if self.pid is not None else ""
        return f"{stop}rm -r {shlex.quote(str(self.folder))} {shlex.quote(str(_note(self.folder)))}"


def note(folder: Path, data: Path) -> None:
    """Write down which data folder the database in `folder` belongs to, where it is kept apart from it."""
    if folder.is_relative_to(data) or os.geteuid() != 0:
        return
    privileges.open_folder(_note(folder).parent)
    _note(folder).write_bytes(os.fsencode(data))


def find(refuge: Path = privileges.REFUGE) -> Iterator[Orphan]:
    """The databases kept apart whose data folder is gone; none for those who may not look there.

    A data folder that cannot be read just now counts as there.
    """
    for path in sorted((refuge / "homes").glob("*")):
        folder, data = refuge / "clusters" / path.name, Path(os.fsdecode(path.read_bytes()))
        if folder.exists() and not _is_home_to(data, folder):
            running = cluster.postmaster(folder)
            yield Orphan(folder=folder, data=data, pid=None if running is None else running.pid)


def _is_home_to(data: Path, folder: Path) -> bool:
    try:
        connection = cluster.read(data)
    except (cluster.ConnectionFileError, OSError):
        return True
    return connection is not None and data / connection.folder == folder


def _note(folder: Path) -> Path:
    return folder.parents[1] / "homes" / folder.name
