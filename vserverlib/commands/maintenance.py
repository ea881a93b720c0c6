"""The commands that keep a database: backup, restore, upgrade, import, export.

Each parses, asks where that is due, calls one function, and tells what it did; vserver.py puts them into the program.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from vserverlib import Error, addresses, printable, signals
from vserverlib.commands import completers, printing
from vserverlib.commands.options import OUTPUT, YES, Target, command, require_yes
from vserverlib.messages import notify

if TYPE_CHECKING:
    from pathlib import Path

    from vserverlib.databases.backups import Backup


@command()
@click.argument("file", metavar="[FILE|-]", required=False, shell_complete=completers.files)
@click.option("--force", is_flag=True, help="Replace FILE, if it is there.")
@click.pass_obj
def backup(target: Target, file: str | None, force: bool) -> None:
    """Make a backup of the database, also while others write to it.

    It is one file, checked when it was made, and readable by you alone. FILE may be a folder, or - for stdout. Without
    it the backup is made beside the database, and named by the time.

    Of a PostgreSQL database it is made by pg_dump, in the folder that you are in; where pg_dump is not on PATH, or is
    older than the server, it is an export in JSON, which lacks the journal.
    """
    from vserverlib.databases import backups, storage

    if file == "-" and sys.stdout.isatty():
        raise Error("a backup is not for the eye: name a file, or send it on with | or >")
    place = None if file is None or file == "-" else storage.as_path(file)
    if target.is_url:
        _back_up_server(target, file, place, force)
    elif file == "-":
        backups.stream(target.file, sys.stdout.buffer)
    else:
        made = backups.make(target.file, place, force=force)
        message = f"made {made.path}, {made.size:,} bytes, and checked it"
        notify(f"{message}; put it back with: {target.command('restore', str(made.path))}")


def _back_up_server(target: Target, file: str | None, place: Path | None, force: bool) -> None:
    """Back up a database on a server: by pg_dump, or where that cannot be, by our own export."""
    from vserverlib.databases.postgresql import dumps

    found = dumps.about(target.path)
    if (why := found.lack()) is not None:
        _back_up_as_json(target, None if file == "-" else dumps.place_of(found.name, place, ".json"), force)
        message = f"{why}, so this is an export in JSON, with the hashes of passwords and keys, but without the journal"
        notify(f"{message}; put it back with: vserver -d NEW import FILE, or import --replace FILE", "yellow")
    elif file == "-":
        dumps.stream(target.path, sys.stdout.buffer)
    else:
        made = dumps.make(target.path, place, force=force)
        named = ", a dump by pg_dump in spite of its name" if made.path.suffix.lower() == ".json" else ""
        put_back = target.command("restore", str(made.path))
        notify(f"made {made.path}{named}, {made.size:,} bytes; put it back with: {put_back}")


def _back_up_as_json(target: Target, place: Path | None, force: bool) -> None:
    """Export a database with its hashes to a place, or else to stdout."""
    try:
        _write_json(target, place, True, force)
        sys.stdout.flush()
    except BrokenPipeError:
        raise Error("the backup was not read to its end: what was read is no backup") from None
    if place is not None:
        named = ", JSON in spite of its name" if place.suffix.lower() == ".dump" else ""
        notify(f"made {place}{named}, {place.stat().st_size:,} bytes")


@command()
@click.argument("file", shell_complete=completers.files)
@YES
@click.pass_obj
def restore(target: Target, file: str, yes: bool) -> None:
    """Put a backup in the place of what the database holds.

    FILE is checked first. What it replaces is kept, as a backup of its own. Others that have the database open go on
    in what was restored.

    Into a PostgreSQL database a dump by pg_dump is restored, which pg_restore reads: what vserver has there is
    replaced, and what it held is kept in the folder that you are in. Tables of other programs are left alone.
    """
    from vserverlib.databases import backups, storage

    if target.is_url:
        return _restore_on_server(target, file, yes)
    with signals.finishing():
        with backups.verified(storage.as_path(file), target.file) as draft:
            if os.path.lexists(target.file):
                require_yes(f"Replace all that is in {printable(target.file, 200)} by {printable(file, 200)}?", yes)
            kept = backups.restore(target.file, draft)
        notify(f"{target.file} holds what is in {file}")
        if kept is not None:
            _tell_kept(target, kept)
    return None


def _tell_kept(target: Target, kept: Backup) -> None:
    """Tell where a restored database has what it held before, and what can be done with that."""
    if kept.is_sound:
        back = target.command("restore", str(kept.path))
        notify(f"what it held is kept in {kept.path}; go back with: {back}")
    else:
        notify(f"what it held is kept in {kept.path}, damaged as it was: restore would refuse it", "yellow")


def _restore_on_server(target: Target, file: str, yes: bool) -> None:
    from vserverlib.databases import storage
    from vserverlib.databases.postgresql import archives, restores
    from vserverlib.terminal import live_display

    dump = archives.opened(storage.as_path(file), target.name)
    if restores.replaces(target.path):
        require_yes(f"Replace all that vserver has in {target.name} by {printable(file, 200)}?", yes)
    with signals.finishing():
        with live_display.progress_bar("rows", dump.rows) as advance:
            done = restores.restore(target.path, dump, advance)
        older = ", upgraded to the schema of this release" if done.upgraded else ""
        notify(f"{target.name} holds what is in {file}{older}")
        if done.made_anew:
            notify("its tables were made anew: grant other roles their rights on them again, if they had any", "yellow")
        if done.kept is not None:
            _tell_kept(target, done.kept)


@command()
@click.option("--dry-run", is_flag=True, help="Only tell what it would do: it is tried on a private copy.")
@click.option("--no-backup", is_flag=True, help="Make no backup first: you have made one by your own means.")
@click.pass_obj
def upgrade(target: Target, dry_run: bool, no_backup: bool) -> None:
    """Upgrade the database to what this release of vserver works with.

    What opens it to write does that, too. A backup is made and checked first; of a PostgreSQL database by pg_dump, in
    the folder that you are in, and --dry-run is a transaction there that is taken back. A damaged database is not
    upgraded without --no-backup: its backup could not be restored.
    """
    from vserverlib.databases import upgrades

    schema, due = upgrades.due(target.path)
    if not due:
        notify(f"{target.name} has schema {schema}, the newest: nothing is due")
    elif dry_run:
        trial = upgrades.trial(target.path, backup=not no_backup)
        click.echo("\n".join(f"{step.name}  {step.message}".rstrip() for step in trial.steps))
        notify(trial.summary())
    else:
        with signals.finishing():
            if done := upgrades.upgrade(target.path, backup=not no_backup):
                notify(done.summary())


@command("import")
@click.argument("source", shell_complete=completers.files)
@click.option("--dry-run", is_flag=True, help="Import nothing: only tell what would become of it.")
@click.option("--merge", is_flag=True, help="Add what is new to what is there, and change what is other, after asking.")
@click.option("--replace", is_flag=True, help="Take out all that is there first, after asking. A backup is kept.")
@click.option("--strict", is_flag=True, help="Import nothing where a row cannot be kept, or breaks a rule: name all.")
@click.option("--secrets", metavar="FILE", help="Write passwords and API keys that are made to FILE, for you alone.")
@YES
@OUTPUT
@click.pass_obj
def import_command(
    target: Target, /, source: str, output: str, secrets: str | None, yes: bool, **options: bool
) -> None:
    """Import what a vantage6 server left behind, or a fixture file that it would import.

    SOURCE is the SQLite file of a server of any release from 1 to 5, or its postgresql:// URL, the YAML file, a
    database of vserver, or what vserver export wrote; or - for any of these on stdin. It is only read. The database is
    made where there is none; one that has entities is refused without --merge or --replace.

    What is printed is, for each table, how many rows were read, kept, and left out; of a merge, for each entity, how
    many are new, changed, the same, and refused.

    Passwords and API keys that a fixture file does not give are made, and shown this once, on stderr; or else written
    to a new FILE, as JSON where its name ends in .json, else as YAML.
    """
    from vserverlib.terminal import live_display
    from vserverlib.transfer import detection

    if source == detection.STDIN and sys.stdin.isatty():
        raise click.UsageError("stdin is a terminal: send a source to it with | or <, or name a file")
    if options["merge"] and options["replace"]:
        raise click.UsageError("--merge and --replace exclude each other: choose one")
    if yes and not (options["merge"] or options["replace"]):
        raise click.UsageError("--yes goes with --merge and --replace")
    with signals.finishing() as block:
        with (
            _telling_of_an_end(block),
            detection.opened(source, live_display.progress_bar) as found,
            _handing_out(found, secrets, options["dry_run"]),
        ):
            notify(found.summary())
            done = _imported(target, found, yes, **options)
        for line in done.summary():
            notify(line, "yellow")
        _tell_imported(target, done, source, options["dry_run"])  # first: what it prints may have no room
    if output == "table":
        printing.counts([row._asdict() for row in done.plan or done.tables], output)
    else:
        printing.document(done.document(), output)


@contextlib.contextmanager
def _telling_of_an_end(block: signals.finishing) -> Iterator[None]:
    """Have who ends an import by Ctrl-C, or a signal, be told that nothing is left of it."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        if block.is_done:  # it is committed, but could not be reported
            raise
        if not signals.is_ending():
            click.echo(err=True)  # behind the ^C of the terminal
        notify("nothing was imported")
        signals.end_interrupted()
        raise click.exceptions.Exit(signals.INTERRUPTED) from None


def _imported(target: Target, found: Any, yes: bool, *, dry_run: bool, merge: bool, replace: bool, strict: bool) -> Any:
    """Import a source as the options say, and return what became of it. What was refused is told in full."""
    from vserverlib.terminal import live_display
    from vserverlib.transfer import import_report, importer

    place, strict = target.path if target.is_url else target.file, strict or target.strict
    if replace and not dry_run and (target.is_url or os.path.lexists(target.file)):
        require_yes(f"Replace all that is in {printable(target.name, 200)} by {found.about}?", yes)
    try:
        with live_display.progress_bar("rows", importer.total(found)) as advance:
            if merge:
                confirm = None if yes else partial(_confirm, target)
                return importer.merge(found, place, advance, strict=strict, dry=dry_run, confirm=confirm)
            act = importer.dry_run if dry_run else importer.run
            return act(found, place, advance, replace=replace, strict=strict)
    except import_report.Refused as refused:
        for line in refused.outcome.summary(everything=True):
            notify(line, "yellow")
        raise


def _confirm(target: Target, planned: Any) -> None:
    from vserverlib.terminal import views

    def show() -> None:
        views.console(sys.stderr).print(views.figures([row._asdict() for row in planned.plan]))
        for line in planned.told_of_plan():
            notify(line, "yellow")

    require_yes(f"Merge this into {printable(target.name, 200)}?", yes=False, show=show)


def _tell_imported(target: Target, done: Any, source: str, dry_run: bool) -> None:
    """Tell what was done, where to look, and what takes it back."""
    if done.breaches and not dry_run:
        notify(f"see what breaks rules with: {target.command('check')}")
    elif done.breaches:
        notify(f"see what breaks rules with: {_look_again(target, done, source)}")
    if dry_run:
        notify("this was a dry run: nothing was imported")
    elif done.plan and not done.has_news:
        notify(f"all of it is in {target.name} already: nothing was changed")
    else:
        new = "the new " if done.made and not target.is_url else ""
        notify(f"imported into {new}{target.name}; look at it with: {target.command('overview')}")
        if message := _take_back(target, done):
            notify(message)


def _look_again(target: Target, done: Any, source: str) -> str:
    """Return what is typed to see what rows break rules that were not imported: in the source itself, if it can be."""
    from vserverlib.transfer import detection

    shown = addresses.shown(source) if addresses.is_url(source) else source
    if not done.plan and detection.is_database(source):
        return addresses.command(shown, "check")
    return target.command("import", shown, "--dry-run", "--strict", *(["--merge"] if done.plan else []))


def _take_back(target: Target, done: Any) -> str:
    """Return what takes an import back; "" for one into a database on a server that was empty."""
    if target.is_url and done.backup is None and done.change is None:
        return ""
    if done.made:
        return f"to take it back, remove {target.file}"
    if done.backup is None:
        return target.take_back(done.change)
    return f"what it held is kept in {done.backup}; go back with: {target.command('restore', str(done.backup))}"


@contextlib.contextmanager
def _handing_out(source: Any, secrets: str | None, dry_run: bool) -> Iterator[None]:
    """Have the secrets that are made for a source be shown, or written to a file."""
    from vserverlib.databases import storage
    from vserverlib.transfer import generated_credentials, sources

    _refuse_stdout(secrets)
    if dry_run or not isinstance(source, sources.NeedsCredentials):
        if secrets is not None:
            why = "a dry run makes none" if dry_run else "this source brings its own"
            raise click.UsageError(f"--secrets is for passwords and API keys that are made: {why}")
        yield
    elif secrets is None:
        source.handing_out = printing.handouts
        yield
    else:
        with generated_credentials.written_to(storage.as_path(secrets)) as source.handing_out:
            yield


def _refuse_stdout(secrets: str | None) -> None:
    if secrets == "-":
        raise click.UsageError("--secrets takes the name of a new file, which then you alone can read, not -")


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
        message = f'"{printable(file, 200)}" does not say what it is to be'
        raise click.UsageError(f"{message}: --format fixture, or --format json")
    return kind


def _refuse_place(target: Target, place: Path, force: bool) -> None:
    """Raise an Error where a file is there already, or is the database itself."""
    from vserverlib import files

    files.refuse_place(place, None if target.is_url else target.file, force=force)


def _export_json(target: Target, file: str, with_hashes: bool, force: bool) -> None:
    from vserverlib.databases import storage

    place = None if file == "-" else storage.as_path(file)
    _write_json(target, place, with_hashes, force)
    if place is not None:
        kept = "with the hashes of passwords and keys" if with_hashes else "without passwords and keys"
        notify(f"made {place}, which you alone can read, {kept}; put it into an empty database with: vserver import")


def _write_json(target: Target, place: Path | None, with_hashes: bool, force: bool) -> None:
    """Write what a database holds as JSON, to a place, or else to stdout."""
    from vserverlib.terminal import live_display
    from vserverlib.transfer import exchange, importer, vantage6_snapshots, vserver_source

    with target.open(read_only=True) as database, vserver_source.reading(database, with_hashes=with_hashes) as source:
        if with_hashes:
            vantage6_snapshots.refuse_look(database, target.name)
        if place is None:
            sys.stdout.writelines(exchange.lines(source, with_hashes=with_hashes))
            return
        _refuse_place(target, place, force)
        with live_display.progress_bar("rows", importer.total(source)) as advance:
            exchange.export(source, place, with_hashes=with_hashes, force=force, advance=advance)


def _export_fixture(target: Target, file: str, release: int, secrets: str | None, force: bool) -> None:
    from vserverlib.databases import storage
    from vserverlib.transfer import exporting

    _refuse_stdout(secrets)
    if file == "-":
        raise Error("a fixture file holds passwords and API keys: name a file, which then you alone can read")
    place, listed = storage.as_path(file), storage.as_path(secrets) if secrets is not None else None
    _refuse_place(target, place, force)
    if listed is not None and listed.absolute() == place.absolute():
        raise Error(f"{printable(file, 200)} is named twice: one file cannot be both, name another one for the secrets")
    with signals.finishing():
        with target.open(read_only=True) as database, database.reading():
            made = exporting.export(place, release, secrets=listed, force=force)
        for line in made.message:
            notify(line, "yellow")
        found = "which you alone can read: it holds new passwords and API keys"
        notify(f"made {place} for a server of release {release}, {found}")
        if listed is not None and made.handouts:
            notify(f"whose they are is in {listed}, which you alone can read: hand them out, and remove it")


@command("copy")
@click.argument("source", metavar="FROM", shell_complete=completers.files)
@click.argument("to", metavar="TO", shell_complete=completers.files)
@OUTPUT
@click.pass_context
def copy_command(ctx: click.Context, source: str, to: str, output: str) -> None:
    """Copy a whole database: from a file to a PostgreSQL server, or back.

    FROM and TO are each a file, or a URL as -d takes it. All goes along: ids, hashes, journal. FROM is only read, as it
    is at one moment. Of TO, a file must not be there, and a database on a server must be empty.
    """
    parent = ctx.parent or ctx
    if parent.get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("copy names both databases itself, FROM and TO: leave -d out", ctx)
    from vserverlib.terminal import live_display
    from vserverlib.transfer import copying

    with copying.source(source) as database:
        with live_display.progress_bar("rows", copying.total(database)) as advance:
            done = copying.copy(database, to, advance)
        printing.counts([table._asdict() for table in done], output)
        named = addresses.shown(to) if addresses.is_url(to) else to
        notify(f"copied {database.title} to {named}; look at it with: {addresses.command(named, 'overview')}")


COMMANDS = (backup, restore, upgrade, import_command, export, copy_command)
