"""Backups of a PostgreSQL database with pg_dump, the server's own program.

It owns running pg_dump, and whether that is possible. A password is in pg_dump's environment, not in its arguments,
which everybody can read. Only the schema of our tables is dumped, so other schemas need no privileges. pg_dump changes
many settings of its session, which a pooler would pass on to other clients: so it does not run through one. archives.py
reads dumps; backups.py makes backups of SQLite files.
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
BYPASS = "name the server itself in the URL, with its own host and port"
POOLED = f"{PROGRAM} needs its own session on the server, which a pooler (PgBouncer) does not provide"


def make(url: str, target: Path | None = None, *, force: bool = False, kept: list[Backup] | None = None) -> Backup:
    """Dump a database to a file for its owner only, and return it. It is complete or does not exist.

    target: a file, or a folder; by default the current folder. Raises an Error if the file exists, unless `force`
    replaces it. kept: a list that gets the backup as soon as it exists.
    """
    found, kept = about(url), [] if kept is None else kept
    found.refuse_lack()
    place = place_of(found.name, target)
    files.refuse_place(place, None, force=force)
    with files.as_error(f"{shown(place)} cannot be created"), files.draft_for(place) as draft:
        _run(url, found.schema, f"--file={draft.absolute()}")  # only a file gets the positions of the tables
        signals.check()
        with signals.held():
            files.move_into_place(draft, place, replace=force)
            kept.append(Backup(place, place.stat().st_size))
    return kept[-1]


def make_of_server(url: str, place: Path) -> None:
    """Make a dump of the database of a vantage6 server, readable by its owner alone: complete, or not there at all."""
    found = about_server(url)
    found.refuse_lack()
    with files.draft_for(place) as draft:
        _run(url, found.schema, f"--file={draft.absolute()}")
        signals.check()
        files.move_into_place(draft, place)


def stream(url: str, out: BinaryIO) -> None:
    """Write a dump of a database to a stream."""
    found = about(url)
    found.refuse_lack()
    _run(url, found.schema, stdout=out)
    out.flush()


# Whether it is possible


class About(NamedTuple):
    """What pg_dump needs to know: the server's name of the database, the schema of our tables, the server's release.

    is_pooled: the URL is a pooler's.
    """

    name: str
    schema: str
    release: int
    is_pooled: bool

    @property
    def remedy(self) -> str:
        """Return what to do if pg_dump cannot make a backup."""
        return BYPASS if self.is_pooled else INSTALL

    def lack(self) -> str | None:
        """Return why pg_dump cannot make a backup (a pooler, not installed, too old), None if it can."""
        if self.is_pooled:
            return POOLED
        program = shutil.which(PROGRAM)
        if program is None:
            return f"{PROGRAM} is not on PATH"
        own = _release(program)
        return f"{PROGRAM} is of PostgreSQL {own}, the server of {self.release}" if own < self.release else None

    def refuse_lack(self) -> None:
        """Raise an Error if pg_dump cannot make a backup."""
        if (why := self.lack()) is not None:
            raise Error(f"{why}, so it cannot back up the database {printable(self.name)}: {self.remedy}")


ABOUT = """
SELECT current_database(), nspname, current_setting('server_version_num')::int / 10000
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = %s::regclass
"""
OURS = "setting"  # a table of every database of ours


def about(url: str) -> About:
    """Return what pg_dump needs to know of a database; raise an Error if it cannot be reached or is not ours."""
    database = servers.opened(url, read_only=True, of_any_release=True)
    try:
        return _about(database, OURS)
    finally:
        database.close()


def about_server(url: str) -> About:
    """Return what there is to know of the database of a vantage6 server."""
    with servers.open_snapshot(url) as database:
        return _about(database, servers.VANTAGE6)


def _about(database: Any, table: str) -> About:
    """Return what there is to know of an open database that has this table."""
    name, schema, release = database.execute_sql(ABOUT, [table]).fetchone()
    return About(name, schema, release, database.is_pooled)


def _release(program: str) -> int:
    """Return the major release of pg_dump, 0 if unknown."""
    done = subprocess.run([program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = re.search(rb"\d+", done.stdout)
    return int(found[0]) if found else 0


# Running pg_dump


def place_of(name: str, target: Path | None = None, ending: str = ".dump") -> Path:
    """Return the path for a backup of a database of this name.

    target: a file, or a folder for an unused name; by default the current folder.
    """
    if target is not None and not target.is_dir():
        return target
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).lstrip(".")
    return files.dated_name(target or Path(), plain, ending)


def _run(url: str, schema: str, *options: str, stdout: Any = subprocess.DEVNULL) -> None:
    """Run pg_dump; raise an Error with its message if it fails."""
    password = servers.password_of(url)
    secret = {} if password is None else {"PGPASSWORD": password}
    command = [PROGRAM, "--format=custom", "--no-password", "--encoding=UTF8", f"--schema={connection.quoted(schema)}"]
    command += [f"--lock-wait-timeout={connection.LOCK_TIMEOUT:.0f}s", f"--dbname={addresses.without_password(url)}"]
    command += options
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, **secret}, check=False)
    if done.returncode:
        raise Error(f"{PROGRAM} failed ({failure_text(PROGRAM, done.stderr)}): nothing was created")


def failure_text(program: str, stderr: bytes) -> str:
    """Return the message of one of PostgreSQL's programs, in one line."""
    lines = stderr.decode(errors="replace").strip().splitlines() or ["without a message"]
    message = "; ".join(line.removeprefix(f"{program}: ").removeprefix("error: ") for line in lines[:2])
    return printable(message, 300)
