"""Backups of a PostgreSQL database: by pg_dump, the server's own program.

It owns how that is run: a password is in its environment, never among its arguments, which everybody can read. Backups
of SQLite files, and putting them back, are backups.py's; a dump is put back by pg_restore.
"""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, BinaryIO

from vserverlib import Error, files, inert, servers
from vserverlib.backups import Backup
from vserverlib.files import shown

PROGRAM = "pg_dump"
NAME = "{name}-{at:%Y%m%d-%H%M%S}.dump"  # the time is UTC


def make(url: str, target: Path | None = None, *, force: bool = False) -> Backup:
    """Make a dump of a database, readable by its owner alone, and return it. Complete, or not there at all.

    target: a file, or a folder to make it in; without one it is made in the current folder. Raises an Error where there
    is a file already, unless `force` replaces it.
    """
    name = _refuse_others(url)
    place = _place(name, target)
    if not force:
        files.refuse_taken(place)
    elif os.path.lexists(place) and not place.is_symlink() and not place.is_file():
        raise Error(f"{shown(place)} is no regular file: choose another name")
    with files.told(f"{shown(place)} cannot be made"), files.unfinished(place) as draft:
        with open(draft, "wb") as out:
            _run(url, out)
        size = draft.stat().st_size
        files.put(draft, place, replace=force)
    return Backup(place, size)


def stream(url: str, out: BinaryIO) -> None:
    """Write a dump of a database to a stream."""
    _refuse_others(url)
    _run(url, out)
    out.flush()


def _refuse_others(url: str) -> str:
    """Return what the server calls a database; an Error where it cannot be reached, or is none of ours."""
    database = servers.opened(url, read_only=True)
    try:
        (name,) = database.execute_sql("SELECT current_database()").fetchone()
    finally:
        database.close()
    return str(name)


def _place(name: str, target: Path | None) -> Path:
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    own = Path(NAME.format(name=plain.lstrip("."), at=datetime.datetime.now(datetime.UTC)))
    if target is None:
        return own
    return target / own if target.is_dir() else target


def _run(url: str, out: Any) -> None:
    """Run pg_dump; an Error with the last line of what it says where it fails."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise Error(
            f"{PROGRAM} makes the backup of a PostgreSQL database, and is not on PATH: install its client programs"
        )
    password = servers.password_of(url)
    secret = {} if password is None else {"PGPASSWORD": password}
    command = [program, "--format=custom", "--no-password", f"--dbname={servers.plain(url)}"]
    done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, env={**os.environ, **secret}, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
        told = "; ".join(line.removeprefix(f"{PROGRAM}: ") for line in said[:2])
        raise Error(f"{PROGRAM} has failed ({inert(told, 300)}): nothing was made")
