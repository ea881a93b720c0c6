"""The commands that keep a database: backup, restore, upgrade, import.

Each parses, asks where that is due, calls one function, and tells what it did; vserver.py puts them into the program.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from vserverlib import Error, completers, inert, printing
from vserverlib.messages import tell
from vserverlib.options import JSON_OUTPUT, YES, Target, command, require_yes

if TYPE_CHECKING:
    from pathlib import Path


@command()
@click.argument("file", metavar="[FILE|-]", required=False, shell_complete=completers.files)
@click.option("--force", is_flag=True, help="Replace FILE, if it is there.")
@click.pass_obj
def backup(target: Target, file: str | None, force: bool) -> None:
    """Make a backup of the database, also while others write to it.

    It is one file, checked when it was made, and readable by you alone. FILE may be a folder, or - for stdout. Without
    it the backup is made beside the database, and named by the time.

    Of a PostgreSQL database it is made by pg_dump, in the folder that you are in.
    """
    from vserverlib import backups, storage

    if file == "-" and sys.stdout.isatty():
        raise Error("a backup is not for the eye: name a file, or send it on with | or >")
    place = None if file is None or file == "-" else storage.as_path(file)
    if target.is_url:
        _dump(target, None if file == "-" else (place, force))
    elif file == "-":
        backups.stream(target.file, sys.stdout.buffer)
    else:
        made = backups.make(target.file, place, force=force)
        told = f"made {made.path}, {made.size:,} bytes, and checked it"
        tell(f"{told}; put it back with: {target.command('restore', str(made.path))}")


def _dump(target: Target, place: tuple[Path | None, bool] | None) -> None:
    """Back up a database on a server: to a place, which may be replaced, or else to stdout."""
    from vserverlib import dumps

    if place is None:
        return dumps.stream(target.path, sys.stdout.buffer)
    made = dumps.make(target.path, place[0], force=place[1])
    return tell(f"made {made.path}, {made.size:,} bytes; put it back with: {_put_back(target, str(made.path))}")


def _put_back(target: Target, file: str) -> str:
    """Return what is typed to put a dump back in a database on a server."""
    return shlex.join(["pg_restore", "--clean", "--if-exists", "--single-transaction", "-d", target.name, file])


@command()
@click.argument("file", shell_complete=completers.files)
@YES
@click.pass_obj
def restore(target: Target, file: str, yes: bool) -> None:
    """Put a backup in the place of what the database holds.

    FILE is checked first. What it replaces is kept, as a backup of its own. Others that have the database open go on
    in what was restored.
    """
    from vserverlib import backups, storage

    if target.is_url:
        raise Error(f"{target.name} is no file; its dumps are put back with: {_put_back(target, file)}")
    with backups.verified(storage.as_path(file), target.file) as draft:
        if os.path.lexists(target.file):
            require_yes(f"Replace all that is in {inert(target.file, 200)} by {inert(file, 200)}?", yes)
        kept = backups.restore(target.file, draft)
    tell(f"{target.file} holds what is in {file}")
    if kept is not None:
        damaged = "" if kept.is_sound else ", damaged as it was"
        tell(f"what it held is kept in {kept.path}{damaged}; go back with: {target.command('restore', str(kept.path))}")


@command()
@click.option("--dry-run", is_flag=True, help="Only print what is due.")
@click.pass_obj
def upgrade(target: Target, dry_run: bool) -> None:
    """Upgrade the database to what this release of vserver works with.

    What opens it to write does that, too. A backup is made first.
    """
    from vserverlib import upgrades

    schema, due = upgrades.due(target.path)
    if not due:
        tell(f"{target.name} has schema {schema}, the newest: nothing is due")
    elif dry_run:
        click.echo("\n".join(due))
    elif done := upgrades.upgrade(target.file):
        tell(done.told())


@command("import")
@click.argument("source", shell_complete=completers.files)
@click.option("--dry-run", is_flag=True, help="Import nothing: only tell what would become of it.")
@JSON_OUTPUT
@click.pass_obj
def import_command(target: Target, source: str, dry_run: bool, output: str) -> None:
    """Import the database of a vantage6 server into an empty one of ours.

    SOURCE is the SQLite file of a server of any release from 1 to 4. It is only read. The database is made where there
    is none. What is printed is, for each table, how many rows were read, kept, and left out.
    """
    from vserverlib import importer, screens, vantage6

    if target.is_url:
        raise Error(f"{target.name} is no file, into which import writes: name one with -d")
    with vantage6.opened(source) as found:
        tell(found.told())
        with screens.progress_bar("rows", importer.total(found)) as advance:
            done = (importer.dry_run if dry_run else importer.run)(found, target.file, advance)
    for line in done.told():
        tell(line, "yellow")
    printing.counts([count._asdict() for count in done.tables], output)
    if dry_run:
        tell("this was a dry run: nothing was imported")
        return
    new = "the new " if done.made else ""
    tell(f"imported into {new}{target.file}; look at it with: {target.command('overview')}")


COMMANDS = (backup, restore, upgrade, import_command)
