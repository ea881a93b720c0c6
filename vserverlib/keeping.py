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
@JSON_OUTPUT
@click.pass_obj
def import_command(target: Target, source: str, dry_run: bool, output: str) -> None:
    """Import the database of a vantage6 server, or of ours, into an empty one.

    SOURCE is the SQLite file of a server of any release from 1 to 4, a database of vserver, or what vserver export
    wrote. It is only read. The database is made where there is none. What is printed is, for each table, how many rows
    were read, kept, and left out.
    """
    from vserverlib import importer, screens, sources

    with sources.opened(source) as found:
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


@command()
@click.argument("file", metavar="FILE|-", shell_complete=completers.files)
@click.option(
    "--format", "kind", type=click.Choice(["fixture", "json"]), help="What FILE is to be, where its name does not say."
)
@click.option("--for", "release", type=click.Choice("1234"), help="For a server of this release.  [default: 4]")
@click.option("--secrets", metavar="FILE", shell_complete=completers.files, help="A new file for what is to hand out.")
@click.option("--with-hashes", is_flag=True, help="In JSON, keep the hashes of passwords and API keys.")
@click.option("--force", is_flag=True, help="Replace FILE, if it is there.")
@click.pass_obj
def export(
    target: Target,
    file: str,
    kind: str | None,
    release: str | None,
    secrets: str | None,
    with_hashes: bool,
    force: bool,
) -> None:
    """Write what the database holds to a file, for vserver or for a real server.

    \b
      FILE.json   all of it; vserver import makes an equal database of that
      FILE.yaml   a fixture file, which a vantage6 server imports, with new passwords and API keys

    It is made whole or not at all, and readable by you alone. What a fixture file cannot hold is told. JSON may go to
    stdout, which is called - here.
    """  # noqa: D301  # the \b is click's, for lines that stay as they are
    if (kind or _kind(file)) == "fixture":
        if with_hashes:
            raise click.UsageError("--with-hashes goes with JSON: a fixture file cannot hold a hash")
        _export_fixture(target, file, int(release or 4), secrets, force)
    else:
        if release or secrets:
            raise click.UsageError("--for and --secrets go with a fixture file, not with JSON")
        _export_json(target, file, with_hashes, force)


def _kind(file: str) -> str:
    kinds = {".json": "json", ".yaml": "fixture", ".yml": "fixture"}
    kind = "json" if file == "-" else kinds.get(os.path.splitext(file)[1].lower())
    if kind is None:
        raise click.UsageError(f"{inert(file, 200)} does not say what it is to be: --format fixture, or --format json")
    return kind


def _export_json(target: Target, file: str, with_hashes: bool, force: bool) -> None:
    from vserverlib import exchange, files, importer, ours, screens, storage

    with target.open(read_only=True) as database, ours.reading(database, with_hashes=with_hashes) as source:
        if file == "-":
            sys.stdout.writelines(exchange.lines(source, with_hashes=with_hashes))
            return
        place = storage.as_path(file)
        files.refuse_place(place, target.file, force=force)
        with screens.progress_bar("rows", importer.total(source)) as advance:
            exchange.export(source, place, with_hashes=with_hashes, force=force, advance=advance)
    kept = "with the hashes of passwords and keys" if with_hashes else "without passwords and keys"
    tell(f"made {place}, which you alone can read, {kept}; put it into an empty database with: vserver import")


def _export_fixture(target: Target, file: str, release: int, secrets: str | None, force: bool) -> None:
    from vserverlib import exporting, files, storage

    if file == "-":
        raise Error("a fixture file holds passwords and API keys: name a file, which then you alone can read")
    place, listed = storage.as_path(file), storage.as_path(secrets) if secrets is not None else None
    files.refuse_place(place, target.file, force=force)
    if listed is not None and listed.absolute() == place.absolute():
        raise Error(f"{inert(file, 200)} is named twice: one file cannot be both, name another one for the secrets")
    with target.open(read_only=True) as database, database.atomic():
        made = exporting.export(place, release, secrets=listed, force=force)
    for line in made.told:
        tell(line, "yellow")
    tell(
        f"made {place} for a server of release {release}, which you alone can read: it holds new passwords and API keys"
    )
    if listed is not None and made.handouts:
        tell(f"whose they are is in {listed}, which you alone can read: hand them out, and remove it")


COMMANDS = (backup, restore, upgrade, import_command, export)
