"""Backups of a PostgreSQL database: by pg_dump, the server's own program.

It owns how that is run, and whether it can be: a password is in its environment, never among its arguments, which
everybody can read. A dump is of the schema that our tables are in, so that what other programs keep elsewhere in the
database is neither read nor needs a right. pg_dump sets much for its session, which a pooler in front of the server
would hand on to others: so it is not run through one. Reading a dump is archives.py's; backups of SQLite files are
backups.py's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from vserverlib import Error, addresses, files, printable, signals
from vserverlib.databases import connection
from vserverlib.databases.backups import Backup
from vserverlib.databases.postgresql import servers
from vserverlib.files import shown

PROGRAM = "pg_dump"
INSTALL = "install PostgreSQL's client programs, of the server's release or a newer one"
PASS_BY = "name the server itself in the URL, by its own host and port"
POOLED = f"{PROGRAM} needs a session of the server to itself, which a pooler (PgBouncer) does not give"


def make(url: str, target: Path | None = None, *, force: bool = False, kept: list[Backup] | None = None) -> Backup:
    """Make a dump of a database, readable by its owner alone, and return it. Complete, or not there at all.

    target: a file, or a folder to make it in; without one it is made in the current folder. Raises an Error where there
    is a file already, unless `force` replaces it. kept: a list that it is put into as soon as it is there.
    """
    found, kept = about(url), [] if kept is None else kept
    found.refuse_lack()
    place = place_of(found.name, target)
    files.refuse_place(place, None, force=force)
    with files.as_error(f"{shown(place)} cannot be made"), files.unfinished(place) as draft:
        _run(url, found.schema, f"--file={draft.absolute()}")  # to stdout it could not note where each table begins
        signals.check()
        with signals.held():
            files.put(draft, place, replace=force)
            kept.append(Backup(place, place.stat().st_size))
    return kept[-1]


def make_of_server(url: str, place: Path) -> None:
    """Make a dump of the database of a vantage6 server, readable by its owner alone: complete, or not there at all."""
    found = about_server(url)
    found.refuse_lack()
    with files.unfinished(place) as draft:
        _run(url, found.schema, f"--file={draft.absolute()}")
        signals.check()
        files.put(draft, place)


def stream(url: str, out: BinaryIO) -> None:
    """Write a dump of a database to a stream."""
    found = about(url)
    found.refuse_lack()
    _run(url, found.schema, stdout=out)
    out.flush()


# Whether it can be made


class About(NamedTuple):
    """What pg_dump has to know: what the server calls the database, the schema that our tables are in, its release.

    is_pooled: whether the URL names a pooler in front of the server.
    """

    name: str
    schema: str
    release: int
    is_pooled: bool

    @property
    def remedy(self) -> str:
        """Return what can be done where pg_dump cannot make a backup."""
        return PASS_BY if self.is_pooled else INSTALL

    def lack(self) -> str | None:
        """Return why pg_dump cannot make a backup: a pooler, or it is not there, or too old. None where it can."""
        if self.is_pooled:
            return POOLED
        program = shutil.which(PROGRAM)
        if program is None:
            return f"{PROGRAM} is not on PATH"
        own = _release(program)
        return f"{PROGRAM} is of PostgreSQL {own}, the server of {self.release}" if own < self.release else None

    def refuse_lack(self) -> None:
        """Raise an Error where pg_dump cannot make a backup."""
        if (why := self.lack()) is not None:
            raise Error(f"{why}, so it makes no backup of the database {printable(self.name)}: {self.remedy}")


ABOUT = """
SELECT current_database(), nspname, current_setting('server_version_num')::int / 10000
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = %s::regclass
"""
OURS = "setting"  # a table of every database of ours


def about(url: str) -> About:
    """Return what there is to know of a database; an Error where it cannot be reached, or is none of ours."""
    database = servers.opened(url, read_only=True, of_any_release=True)
    try:
        return _about(database, OURS)
    finally:
        database.close()


def about_server(url: str) -> About:
    """Return what there is to know of the database of a vantage6 server."""
    with servers.at_one_moment(url) as database:
        return _about(database, servers.VANTAGE6)


def _about(database: Any, table: str) -> About:
    """Return what there is to know of an open database that has this table."""
    name, schema, release = database.execute_sql(ABOUT, [table]).fetchone()
    return About(name, schema, release, database.is_pooled)


def _release(program: str) -> int:
    """Return the major release of pg_dump, 0 where it does not tell."""
    done = subprocess.run([program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = re.search(rb"\d+", done.stdout)
    return int(found[0]) if found else 0


# Making it


def place_of(name: str, target: Path | None = None, ending: str = ".dump") -> Path:
    """Return where the backup of a database of this name is to be: in the current folder, or in a target that is one.

    A name that is made here is not taken.
    """
    if target is not None and not target.is_dir():
        return target
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).lstrip(".")
    return files.dated(target or Path(), plain, ending)


def _run(url: str, schema: str, *options: str, stdout: Any = subprocess.DEVNULL) -> None:
    """Run pg_dump; an Error with the last line of what it says where it fails."""
    password = servers.password_of(url)
    secret = {} if password is None else {"PGPASSWORD": password}
    command = [PROGRAM, "--format=custom", "--no-password", "--encoding=UTF8", f"--schema={connection.quoted(schema)}"]
    command += [f"--lock-wait-timeout={connection.LOCK_WAIT:.0f}s", f"--dbname={addresses.plain(url)}"]
    command += options
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, **secret}, check=False)
    if done.returncode:
        raise Error(f"{PROGRAM} has failed ({said(PROGRAM, done.stderr)}): nothing was made")


def said(program: str, stderr: bytes) -> str:
    """Return what a program of PostgreSQL's said of a failure, in a line."""
    lines = stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
    message = "; ".join(line.removeprefix(f"{program}: ").removeprefix("error: ") for line in lines[:2])
    return printable(message, 300)
