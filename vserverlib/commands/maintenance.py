"""The commands for whole databases: backup, restore, upgrade, import, export, copy.

Each parses, asks for confirmation if needed, calls one function and reports the result. vserver.py adds them to the
program.
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
from vserverlib.commands.confirmation import require_yes
from vserverlib.commands.options import FORCE, OUTPUT, YES, Target, command
from vserverlib.messages import notify

if TYPE_CHECKING:
    from pathlib import Path

    from vserverlib.databases.backups import Backup


@command()
@click.argument("file", metavar="[FILE|-]", required=False, shell_complete=completers.files)
@FORCE
@click.pass_obj
def backup(target: Target, file: str | None, force: bool) -> None:
    """Back up the database, also while others write to it.

    Creates one file that only you can read, and checks it. FILE can be a folder, or - for stdout. Without FILE, the
    backup is beside the database, with the time in its name.

    Backs up a PostgreSQL database with pg_dump, into the current folder. If pg_dump is not on PATH or is older than the
    server, the backup is an export in JSON, without the journal.

    $ vserver backup
    $ vserver backup monday.db --force
    $ vserver backup - | gzip > vserver.db.gz
    """
    from vserverlib.databases import backups, storage

    if file == "-" and sys.stdout.isatty():
        raise Error("stdout is a terminal: name a file, or send the backup on with | or >")
    place = None if file is None or file == "-" else storage.as_path(file)
    if target.is_url:
        _back_up_server(target, file, place, force)
    elif file == "-":
        backups.stream(target.file, sys.stdout.buffer)
    else:
        made = backups.make(target.file, place, force=force)
        message = f"created and checked {made.path}, {made.size:,} bytes"
        notify(f"{message}; restore it with: {target.command('restore', str(made.path))}")


def _back_up_server(target: Target, file: str | None, place: Path | None, force: bool) -> None:
    """Back up a database on a server with pg_dump, or if that is not possible, with our own export."""
    from vserverlib.databases.postgresql import dumps

    found = dumps.about(target.path)
    if (why := found.lack()) is not None:
        _back_up_as_json(target, None if file == "-" else dumps.place_of(found.name, place, ".json"), force)
        message = f"{why}, so this is an export in JSON, with the hashes of passwords and keys, but without the journal"
        notify(f"{message}; restore it with: vserver -d NEW import FILE, or import --replace FILE", "yellow")
    elif file == "-":
        dumps.stream(target.path, sys.stdout.buffer)
    else:
        made = dumps.make(target.path, place, force=force)
        named = ", a dump by pg_dump despite its name" if made.path.suffix.lower() == ".json" else ""
        restore_it = target.command("restore", str(made.path))
        notify(f"created {made.path}{named}, {made.size:,} bytes; restore it with: {restore_it}")


def _back_up_as_json(target: Target, place: Path | None, force: bool) -> None:
    """Export a database with its hashes to a file, or to stdout."""
    try:
        _write_json(target, place, True, force)
        sys.stdout.flush()
    except BrokenPipeError:
        raise Error("stdout was closed before the end of the backup: it is incomplete") from None
    if place is not None:
        named = ", JSON despite its name" if place.suffix.lower() == ".dump" else ""
        notify(f"created {place}{named}, {place.stat().st_size:,} bytes")


@command()
@click.argument("file", shell_complete=completers.files)
@YES
@click.pass_obj
def restore(target: Target, file: str, yes: bool) -> None:
    """Restore a backup in place of the current data.

    Checks FILE first, and keeps a backup of the current data. Programs that have the database open continue with the
    restored data.

    Restores a dump by pg_dump into a PostgreSQL database, with pg_restore: replaces vserver's tables, leaves other
    tables alone, and keeps the backup in the current folder.

    $ vserver restore monday.db --yes
    $ vserver -d copy.db restore monday.db
    """
    from vserverlib.databases import backups, storage

    if target.is_url:
        return _restore_on_server(target, file, yes)
    with signals.finishing():
        with backups.verified(storage.as_path(file), target.file) as draft:
            if os.path.lexists(target.file):
                require_yes(f"Replace all data in {printable(target.file, 200)} with {printable(file, 200)}?", yes)
            kept = backups.restore(target.file, draft)
        notify(f"restored {target.file} from {file}")
        if kept is not None:
            _report_kept(target, kept)
    return None


def _report_kept(target: Target, kept: Backup) -> None:
    """Report where the previous data is, and how to restore it."""
    if kept.is_sound:
        notify(f"the previous data is in {kept.path}; go back with: {target.command('restore', str(kept.path))}")
    else:
        notify(f"the previous data is in {kept.path}, damaged as it was: restore would refuse it", "yellow")


def _restore_on_server(target: Target, file: str, yes: bool) -> None:
    from vserverlib.databases import storage
    from vserverlib.databases.postgresql import archives, restores
    from vserverlib.terminal import live_display

    dump = archives.opened(storage.as_path(file), target.name)
    if restores.replaces(target.path):
        require_yes(f"Replace all data of vserver in {target.name} with {printable(file, 200)}?", yes)
    with signals.finishing():
        with live_display.progress_bar("rows", dump.rows) as advance:
            done = restores.restore(target.path, dump, advance)
        older = ", upgraded to the schema of this release" if done.upgraded else ""
        notify(f"restored {target.name} from {file}{older}")
        if done.made_anew:
            notify("its tables were created anew: grant other roles their privileges again, if they had any", "yellow")
        if done.kept is not None:
            _report_kept(target, done.kept)


@command()
@click.option("--dry-run", is_flag=True, help="Only try the upgrade, on a private copy.")
@click.option("--no-backup", is_flag=True, help="Upgrade without a backup, if you have one of your own.")
@click.pass_obj
def upgrade(target: Target, dry_run: bool, no_backup: bool) -> None:
    """Upgrade the database to the schema of this release.

    Every command that writes does the same. Creates and checks a backup first; that of a PostgreSQL database is made by
    pg_dump, in the current folder, and --dry-run is a transaction there that is rolled back. Refuses to upgrade a
    damaged database without --no-backup, because its backup could not be restored.

    $ vserver upgrade --dry-run
    $ vserver upgrade
    """
    from vserverlib.databases import upgrades

    schema, due = upgrades.due(target.path)
    if not due:
        notify(f"{target.name} has schema {schema}, the newest: nothing to upgrade")
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
@click.option("--dry-run", is_flag=True, help="Only report the result; import nothing.")
@click.option("--merge", is_flag=True, help="Add new entities and update others, after a confirmation.")
@click.option("--replace", is_flag=True, help="Back up and delete the current data first, after a confirmation.")
@click.option("--strict", is_flag=True, help="Import nothing if a row is invalid or breaks a rule.")
@click.option(
    "--secrets",
    metavar="FILE",
    shell_complete=completers.files,
    help="Write generated passwords and API keys to this new file.",
)
@YES
@OUTPUT
@click.pass_obj
def import_command(
    target: Target, /, source: str, output: str, secrets: str | None, yes: bool, **options: bool
) -> None:
    """Import the database of a vantage6 server, a fixture file, or an export.

    SOURCE is the SQLite file or the postgresql:// URL of a server of release 1 to 5, a fixture file in YAML, a database
    of vserver, or an export; or - for one of these files on stdin. SOURCE is only read. Creates the database if it does
    not exist; refuses one with entities without --merge or --replace.

    Prints how many rows of each table were read, kept and left out; of a merge, how many entities are new, changed, the
    same, or refused.

    Generates the passwords and API keys that a fixture file lacks, and prints them once, to stderr. With --secrets,
    writes them to a file that only you can read: JSON if its name ends in .json, else YAML.

    $ vserver -d new.db import server.sqlite --dry-run
    $ vserver -d new.db import fixtures.yaml --secrets secrets.yaml
    $ vserver -d new.db import postgresql://reader@db.example.org/vantage6
    """
    from vserverlib.terminal import live_display
    from vserverlib.transfer import detection

    if source == detection.STDIN and sys.stdin.isatty():
        raise click.UsageError("stdin is a terminal: name a file, or send the source with | or <")
    if options["merge"] and options["replace"]:
        raise click.UsageError("--merge and --replace exclude each other: choose one")
    if yes and not (options["merge"] or options["replace"]):
        raise click.UsageError("--yes needs --merge or --replace")
    with contextlib.nullcontext() if target.write else signals.finishing() as block:  # a plan is not final yet
        with (
            _reporting_interruption(block),
            detection.opened(source, live_display.progress_bar) as found,
            _with_credentials(found, secrets, options["dry_run"] or target.dry_run),
        ):
            notify(found.summary())
            done = _imported(target, found, yes, **options)
        for line in done.summary():
            notify(line, "yellow")
        _report_import(
            target, done, source, options["dry_run"], found.server
        )  # before the output, which may fail on a full disk
    if output == "table":
        printing.counts([row._asdict() for row in done.plan or done.tables], output)
    else:
        printing.document(done.document(), output)


@contextlib.contextmanager
def _reporting_interruption(block: signals.finishing | None) -> Iterator[None]:
    """Report that nothing was imported, if Ctrl-C or a signal ends the import."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        if block is None or block.is_done:  # already committed, only the report is missing; or reported by the plan
            raise
        if not signals.is_ending():
            click.echo(err=True)  # after the terminal's ^C
        notify("nothing was imported")
        signals.end_interrupted()
        raise click.exceptions.Exit(signals.INTERRUPTED) from None


def _imported(target: Target, found: Any, yes: bool, *, dry_run: bool, merge: bool, replace: bool, strict: bool) -> Any:
    """Import a source with these options, and return the outcome. Reports every refused row."""
    from vserverlib.terminal import live_display
    from vserverlib.transfer import import_report, importer

    place, strict = target.path if target.is_url else target.file, strict or target.strict
    if target.write:  # a server's database
        with target.open() as database, live_display.progress_bar("rows", importer.total(found)) as advance:
            if getattr(found, "deliver_to", None) is printing.credentials:
                found.deliver_to = lambda new: target.once_written(database, partial(printing.credentials, new))
            return importer.merge_into(found, database, advance, strict=strict)
    if replace and not dry_run and (target.is_url or os.path.lexists(target.file)):
        require_yes(f"Replace all data in {printable(target.name, 200)} with {found.about}?", yes)
    try:
        with live_display.progress_bar("rows", importer.total(found)) as advance:
            if merge:
                confirm = None if yes else partial(_confirm, target)
                return importer.merge(found, place, advance, strict=strict, dry=dry_run, confirm=confirm)
            act = importer.dry_run if dry_run else importer.run
            return act(found, place, advance, replace=replace, strict=strict)
    except import_report.Refused as refused:
        for line in refused.report.summary(everything=True):
            notify(line, "yellow")
        raise


def _confirm(target: Target, planned: Any) -> None:
    from vserverlib.terminal import views

    def show() -> None:
        views.console(sys.stderr).print(views.figures([row._asdict() for row in planned.plan]))
        for line in planned.plan_summary():
            notify(line, "yellow")

    require_yes(f"Merge this into {printable(target.name, 200)}?", yes=False, show=show)


def _report_import(target: Target, done: Any, source: str, dry_run: bool, server: str | None) -> None:
    """Report what was imported, how to inspect it, how to undo it, and that its server is not changed."""
    from vserverlib.databases import server_origin

    if done.breaches and not dry_run:
        notify(f"see all broken rules with: {target.command('check')}")
    elif done.breaches:
        notify(f"see all broken rules with: {_inspect_command(target, done, source)}")
    if dry_run:
        notify("this was a dry run: nothing was imported")
    elif done.plan and not done.has_news:
        notify(f"{target.name} already has all of it: nothing was changed")
    else:
        new = "the new " if done.created and not target.is_url else ""
        notify(f"imported into {new}{target.name}; see it with: {target.command('overview')}")
        if message := _undo_hint(target, done):
            notify(message)
        if server is not None:
            notify(server_origin.message(server), "yellow")


def _inspect_command(target: Target, done: Any, source: str) -> str:
    """Return the command that lists the rows that break rules, in the source itself if possible."""
    from vserverlib.transfer import detection

    shown = addresses.shown(source) if addresses.is_url(source) else source
    if not done.plan and detection.is_database(source):
        return addresses.command(shown, "check")
    return target.command("import", shown, "--dry-run", "--strict", *(["--merge"] if done.plan else []))


def _undo_hint(target: Target, done: Any) -> str:
    """Return how to undo an import; "" after one into an empty database on a server."""
    if target.is_url and done.backup is None and done.change is None:
        return ""
    if done.created:
        return f"to undo it, delete {target.file}"
    if done.backup is None:
        return target.undo_hint(done.change)
    return f"the previous data is in {done.backup}; go back with: {target.command('restore', str(done.backup))}"


@contextlib.contextmanager
def _with_credentials(source: Any, secrets: str | None, dry_run: bool) -> Iterator[None]:
    """Print the credentials that are generated for a source, or write them to a file."""
    from vserverlib.databases import storage
    from vserverlib.transfer import generated_credentials, sources

    _refuse_stdout(secrets)
    if dry_run or not isinstance(source, sources.NeedsCredentials):
        if secrets is not None:
            why = "a dry run generates none" if dry_run else "this source has its own"
            raise click.UsageError(f"--secrets is for generated passwords and API keys: {why}")
        yield
    elif secrets is None:
        source.deliver_to = printing.credentials
        yield
    else:
        applied = click.exceptions.Exit  # ends a command whose plan was applied
        with generated_credentials.written_to(storage.as_path(secrets), kept_after=applied) as source.deliver_to:
            yield


def _refuse_stdout(secrets: str | None) -> None:
    if secrets == "-":
        raise click.UsageError("--secrets takes the name of a new file, not -")


@command()
@click.argument("file", metavar="FILE|-", shell_complete=completers.files)
@click.option(
    "--format", "kind", type=click.Choice(["fixture", "json"]), help="Format of FILE, if its name does not say."
)
@click.option("--for", "release", type=click.Choice("1234"), help="Release of the server.  [default: 4]")
@click.option(
    "--secrets", metavar="FILE", shell_complete=completers.files, help="Write the new credentials to this new file."
)
@click.option("--with-hashes", is_flag=True, help="Include the hashes of passwords and API keys in JSON.")
@FORCE
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
    """Export the database for vserver or for a vantage6 server.

    FILE.json holds everything; `vserver import` creates an equal database from it. FILE.yaml is a fixture file for a
    vantage6 server, with new passwords and API keys; a warning names data that it cannot hold. - is JSON on stdout.

    The file is complete, or it is not created. Only you can read it.

    $ vserver export all.json
    $ vserver export fixtures.yaml --secrets secrets.yaml
    $ vserver export - | gzip > all.json.gz
    """
    if (kind or _kind(file)) == "fixture":
        if with_hashes:
            raise click.UsageError("--with-hashes needs JSON: a fixture file cannot hold a hash")
        _export_fixture(target, file, int(release or 4), secrets, force)
    else:
        if release or secrets:
            raise click.UsageError("--for and --secrets need a fixture file, not JSON")
        _export_json(target, file, with_hashes, force)


def _kind(file: str) -> str:
    kinds = {".json": "json", ".yaml": "fixture", ".yml": "fixture"}
    kind = "json" if file == "-" else kinds.get(os.path.splitext(file)[1].lower())
    if kind is None:
        message = f'"{printable(file, 200)}" does not end in .json or .yaml'
        raise click.UsageError(f"{message}: add --format json or --format fixture")
    return kind


def _refuse_place(target: Target, place: Path, force: bool) -> None:
    """Raise an Error if the file exists, or is the database itself."""
    from vserverlib import files

    files.refuse_place(place, None if target.is_url else target.file, force=force)


def _export_json(target: Target, file: str, with_hashes: bool, force: bool) -> None:
    from vserverlib.databases import storage

    place = None if file == "-" else storage.as_path(file)
    _write_json(target, place, with_hashes, force)
    if place is not None:
        kept = "with the hashes of passwords and keys" if with_hashes else "without passwords and keys"
        notify(
            f"created {place}, which only you can read, {kept}; import it into an empty database with: vserver import"
        )


def _write_json(target: Target, place: Path | None, with_hashes: bool, force: bool) -> None:
    """Write a database as JSON, to a file or to stdout."""
    from vserverlib.terminal import live_display
    from vserverlib.transfer import exchange, importer, vantage6_snapshots, vserver_source

    with target.open(read_only=True) as database, vserver_source.reading(database, with_hashes=with_hashes) as source:
        if with_hashes:
            vantage6_snapshots.refuse_view(database, target.name)
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
        raise Error("a fixture file has passwords and API keys: name a file, which only you can then read")
    place, listed = storage.as_path(file), storage.as_path(secrets) if secrets is not None else None
    _refuse_place(target, place, force)
    if listed is not None and listed.absolute() == place.absolute():
        raise Error(f"{printable(file, 200)} is named twice: name another file for --secrets")
    with signals.finishing():
        with target.open(read_only=True) as database, database.reading():
            made = exporting.export(place, release, secrets=listed, force=force)
        for line in made.messages:
            notify(line, "yellow")
        why = "which only you can read: it has new passwords and API keys"
        notify(f"created {place} for a server of release {release}, {why}")
        if listed is not None and made.generated_credentials:
            notify(f"{listed}, which only you can read, lists their owners: hand them out, then delete it")


@command("copy")
@click.argument("source", metavar="FROM", shell_complete=completers.files)
@click.argument("to", metavar="TO", shell_complete=completers.files)
@OUTPUT
@click.pass_context
def copy_command(ctx: click.Context, source: str, to: str, output: str) -> None:
    """Copy a whole database: from a file to a PostgreSQL server, or back.

    FROM and TO are files or URLs, as for -d. Copies everything: ids, hashes, journal. FROM is read at one moment and
    not changed. TO must be a new file, or an empty database on a server.

    $ vserver copy vserver.db copy.db
    $ vserver copy vserver.db postgresql://admin@db.example.org/vserver
    """
    parent = ctx.parent or ctx
    if parent.get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("copy takes both databases as FROM and TO: leave out -d", ctx)
    from vserverlib.terminal import live_display
    from vserverlib.transfer import copying

    with copying.source(source) as database:
        with live_display.progress_bar("rows", copying.total(database)) as advance:
            done = copying.copy(database, to, advance)
        printing.counts([table._asdict() for table in done], output)
        named = addresses.shown(to) if addresses.is_url(to) else to
        notify(f"copied {database.title} to {named}; see it with: {addresses.command(named, 'overview')}")


COMMANDS = (backup, restore, upgrade, import_command, export, copy_command)
