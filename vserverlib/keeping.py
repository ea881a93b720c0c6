"""The commands that keep a database: backup, restore, upgrade, import.

Each parses, asks where that is due, calls one function, and tells what it did; vserver.py puts them into the program.
"""

from __future__ import annotations

import os
import sys

import click

from vserverlib import Error, completers, inert, printing
from vserverlib.messages import tell
from vserverlib.options import JSON_OUTPUT, YES, Target, command, require_yes


@command()
@click.argument("file", metavar="[FILE|-]", required=False, shell_complete=completers.files)
@click.option("--force", is_flag=True, help="Replace FILE, if it is there.")
@click.pass_obj
def backup(target: Target, file: str | None, force: bool) -> None:
    """Make a backup of the database, also while others write to it.

    It is one file, checked when it was made, and readable by you alone. FILE may be a folder, or - for stdout. Without
    it the backup is made beside the database, and named by the time.
    """
    from vserverlib import backups, storage

    if file == "-":
        if sys.stdout.isatty():
            raise Error("a backup is not for the eye: name a file, or send it on with | or >")
        backups.stream(target.file, sys.stdout.buffer)
        return
    made = backups.make(target.file, None if file is None else storage.as_path(file), force=force)
    told = f"made {made.path}, {made.size:,} bytes, and checked it"
    tell(f"{told}; put it back with: {target.command('restore', str(made.path))}")


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

    with backups.verified(storage.as_path(file), target.file) as draft:
        if os.path.lexists(target.file):
            require_yes(f"Replace all that is in {inert(target.file, 200)} by {inert(file, 200)}?", yes)
        kept = backups.restore(target.file, draft)
    tell(f"{target.file} holds what is in {file}")
    if kept is not None:
        damaged = "" if kept.is_sound else ", damaged as it was"
        tell(f"what it held is kept in {kept.path}{damaged}; go back with: {target.command('restore', str(kept.path))}")


@command()
@click.option("--dry-run", is_flag=True, help="Only tell what it would do: it is tried on a private copy.")
@click.pass_obj
def upgrade(target: Target, dry_run: bool) -> None:
    """Upgrade the database to what this release of vserver works with.

    What opens it to write does that, too. A backup is made first.
    """
    from vserverlib import upgrades

    schema, due = upgrades.due(target.file)
    if not due:
        tell(f"{target.file} has schema {schema}, the newest: nothing is due")
    elif dry_run:
        trial = upgrades.trial(target.file)
        click.echo("\n".join(f"{step.name}  {step.told}".rstrip() for step in trial.steps))
        tell(trial.told())
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
