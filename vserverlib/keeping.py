"""The commands that keep a database: backup, restore, upgrade, import.

Each parses, asks where that is due, calls one function, and tells what it did; vserver.py puts them into the program.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

import click

from vserverlib import Error, completers, inert, printing
from vserverlib.messages import tell
from vserverlib.options import OUTPUT, YES, Target, command, require_yes


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
@click.option("--dry-run", is_flag=True, help="Only print what is due.")
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
        click.echo("\n".join(due))
    elif done := upgrades.upgrade(target.file):
        tell(done.told())


@command("import")
@click.argument("source", shell_complete=completers.files)
@click.option("--dry-run", is_flag=True, help="Import nothing: only tell what would become of it.")
@click.option("--merge", is_flag=True, help="Add what is new to what is there, and change what is other, after asking.")
@click.option("--replace", is_flag=True, help="Take out all that is there first, after asking. A backup is kept.")
@click.option("--strict", is_flag=True, help="Import nothing where a row cannot be kept, or breaks a rule: name all.")
@YES
@OUTPUT
@click.pass_obj
def import_command(target: Target, /, source: str, output: str, yes: bool, **options: bool) -> None:
    """Import what a vantage6 server left behind.

    SOURCE is the SQLite file of a server of any release from 1 to 4. It is only read. The database is made where there
    is none; one that has entities is refused without --merge or --replace.

    What is printed is, for each table, how many rows were read, kept, and left out; of a merge, for each entity, how
    many are new, changed, the same, and refused.
    """
    from vserverlib import sources

    if options["merge"] and options["replace"]:
        raise click.UsageError("--merge and --replace exclude each other: choose one")
    if yes and not (options["merge"] or options["replace"]):
        raise click.UsageError("--yes goes with --merge and --replace")
    with sources.opened(source) as found:
        tell(found.told())
        done = _imported(target, found, yes, **options)
    for line in done.told():
        tell(line, "yellow")
    if output == "table":
        printing.counts([row._asdict() for row in done.plan or done.tables], output)
    else:
        printing.document(done.document(), output)
    _tell_imported(target, done, options["dry_run"])


def _imported(target: Target, found: Any, yes: bool, *, dry_run: bool, merge: bool, replace: bool, strict: bool) -> Any:
    """Import a source as the options say, and return what became of it. What was refused is told in full."""
    from vserverlib import importer, outcomes, screens

    if replace and not dry_run and os.path.lexists(target.file):
        require_yes(f"Replace all that is in {inert(target.file, 200)} by {found.about}?", yes)
    strict = strict or target.strict
    try:
        with screens.progress_bar("rows", importer.total(found)) as advance:
            if merge:
                confirm = None if yes else partial(_confirm, target)
                return importer.merge(found, target.file, advance, strict=strict, dry=dry_run, confirm=confirm)
            act = importer.dry_run if dry_run else importer.run
            return act(found, target.file, advance, replace=replace, strict=strict)
    except outcomes.Refused as refused:
        for line in refused.outcome.told(everything=True):
            tell(line, "yellow")
        raise


def _confirm(target: Target, plan: list[Any]) -> None:
    from vserverlib import views

    rows = [row._asdict() for row in plan]
    show = partial(views.console(sys.stderr).print, views.figures(rows))
    require_yes(f"Merge this into {inert(target.file, 200)}?", yes=False, show=show)


def _tell_imported(target: Target, done: Any, dry_run: bool) -> None:
    """Tell what was done, where to look, and what takes it back."""
    if done.breaches:
        tell(f"see what breaks rules with: {target.command('check')}")
    if dry_run:
        tell("this was a dry run: nothing was imported")
    elif done.plan and not done.has_news:
        tell(f"all of it is in {target.file} already: nothing was changed")
    else:
        new = "the new " if done.made else ""
        tell(f"imported into {new}{target.file}; look at it with: {target.command('overview')}")
        tell(_take_back(target, done))


def _take_back(target: Target, done: Any) -> str:
    if done.made:
        return f"to take it back, remove {target.file}"
    if done.backup is None:
        return f"take it back with: {target.command('undo', '--change', str(done.change))}"
    return f"what it held is kept in {done.backup}; go back with: {target.command('restore', str(done.backup))}"


COMMANDS = (backup, restore, upgrade, import_command)
