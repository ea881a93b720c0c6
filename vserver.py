"""The commands: parse what was typed, call one function, print what it returns.

Data goes to stdout; messages, warnings and errors go to stderr, each in one line. What an error means for the exit
status is decided in one place, `Commands`. What a command needs is imported when it runs: `vserver --help` is instant.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

import click

from vserverlib import Error, completers, inert
from vserverlib.messages import plain_warnings, tell
from vserverlib.options import (
    CHOOSING,
    JSON_OUTPUT,
    LIST_OUTPUT,
    OUTPUT,
    PAGING,
    SHOWN,
    YES,
    Commands,
    Ordinal,
    Paging,
    Target,
    one_database,
    require_yes,
)

__version__ = "0.1.0"

CHUNK = 1000  # rows of one table, where a list is so long that it is printed as several


# The program


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-d",
    "--database",
    metavar="URL|PATH",
    multiple=True,
    callback=one_database,
    shell_complete=completers.files,
    help="The database: a file, or sqlite:///PATH. Without it VSERVER_DATABASE of the environment, else vserver.db.",
)
@click.option(
    "--strict",
    is_flag=True,
    envvar="VSERVER_STRICT",
    help="Refuse what would be saved with a warning. VSERVER_STRICT=1 in the environment does the same.",
)
@click.option("--debug", is_flag=True, help="Show where an error comes from, with all frames.")
@click.version_option(__version__, message="vserver %(version)s")
@click.pass_context
def main(ctx: click.Context, database: str | None, strict: bool, debug: bool) -> None:
    """Look after the database of a vantage6 server: organizations, users, collaborations, nodes, tasks and results.

    Start with `vserver shell --demo`, or make a database with `vserver init` and open it with `vserver shell`.
    """
    ctx.obj = Target(database, debug, strict)
    ctx.with_resource(plain_warnings())
    if ctx.invoked_subcommand is None:
        _without_command(ctx)


def _without_command(ctx: click.Context) -> None:
    """At a terminal, show how things stand where there is a database; else the help: what was typed is no command."""
    if sys.stdout.isatty() and os.path.lexists(ctx.obj.path):
        ctx.invoke(overview, output="table")
    else:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


@main.command()
@click.option("--demo", is_flag=True, help="Fill it with example data: a consortium, its tasks and their results.")
@click.pass_obj
def init(target: Target, demo: bool) -> None:
    """Make a new database.

    A file that exists is refused.
    """
    from vserverlib import storage

    if demo:
        from vserverlib.demo import LOG_INS, create
    (create if demo else storage.create)(target.file)
    tell(f"made {target.file}; open it with: {target.command('shell')}")
    if demo:
        tell(LOG_INS)


# The shell


@main.command("shell")
@click.argument("file", required=False, shell_complete=completers.files)
@click.option("-c", "code", metavar="CODE", help="Run this as Python, in place of a file.")
@click.option("--demo", is_flag=True, help="Open a private copy of the example data, thrown away at the end.")
@click.option("--read-only", is_flag=True, help="Have the database refuse every change.")
@click.option("--sandbox", is_flag=True, help="Work on a private copy; tell at the end what would have changed.")
@click.option("--print-sql", is_flag=True, help="Write each statement to stderr, with the time that it took.")
@click.option("-q", "--quiet", is_flag=True, help="Leave out what the shell says at its start.")
@click.pass_context
def shell_command(ctx: click.Context, /, file: str | None, code: str | None, **options: bool) -> None:
    """Open a Python prompt on the entities, or run Python.

    FILE, CODE, or what is piped in, is run as plain Python, without a prompt. FILE may be - for what is piped in.
    Without -d, and where there is no vserver.db, an empty one is made.
    """
    print_sql, quiet = options.pop("print_sql"), options.pop("quiet")
    _refuse_contradictions(ctx, file, code, options)
    source = _source(file, code)
    with ctx.obj.open_session(**options) as database:
        import shell

        if source is None:
            shell.start(database, quiet=quiet, debug=ctx.obj.debug, print_sql=print_sql)
            return
        if print_sql:
            shell.print_queries(database)
        status = shell.run(*source, database, debug=ctx.obj.debug)
    ctx.exit(status)


def _refuse_contradictions(ctx: click.Context, file: str | None, code: str | None, options: dict[str, bool]) -> None:
    """Raise a UsageError where two options each mean another database, or another source."""
    parent = ctx.parent or ctx
    if options["demo"] and parent.get_parameter_source("database") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--demo and -d are two databases: choose one", ctx)
    if options["read_only"] and options["sandbox"]:
        raise click.UsageError("--read-only and --sandbox exclude each other: choose one", ctx)
    if file is not None and code is not None:
        raise click.UsageError("-c and FILE are two programs: choose one", ctx)


def _source(file: str | None, code: str | None) -> tuple[str | bytes, str] | None:
    """Return what is to be run, and the name that tracebacks give it; None for a prompt."""
    if code is not None:
        return _checked(os.fsencode(code), "<command line>")
    if file not in (None, "-"):
        with open(str(file), "rb") as script:
            return _checked(script.read(), str(file))
    if file == "-" or not sys.stdin.isatty():
        return _checked(sys.stdin.buffer.read(), "<stdin>")
    if not sys.stdout.isatty():
        raise Error("the shell needs a terminal to write to: run a FILE, or CODE with -c, to have its output elsewhere")
    return None


def _checked(source: bytes, name: str) -> tuple[bytes, str]:
    """Return a source and its name; an Error where it is no text in the encoding that it tells, or in UTF-8."""
    import importlib.util

    try:
        if "\0" in importlib.util.decode_source(source):
            raise ValueError
    except (ValueError, SyntaxError):
        raise Error(f"{inert(name, 200)} is no Python: it is not text, or in another encoding than it says") from None
    return source, name


# Tables and JSON


@main.command("list")
@click.argument("entity", shell_complete=completers.plurals)
@LIST_OUTPUT
@SHOWN
@CHOOSING
@PAGING
@click.pass_obj
def list_command(
    target: Target, /, entity: str, output: str, fields: str | None, wide: bool, paging: Paging, **asked: Any
) -> None:
    """List one kind of ENTITY, oldest first.

    ENTITY is organizations, users, collaborations, nodes, tasks or results; the singular will do.

    A FILTER is a field, an operator (= != < <= > >=, or ~ for "contains") and a value: status=failed,
    collaboration=ROTTERDAM, organization.country=NL, created_at>-2d, finished_at=null.
    """
    from vserverlib import finding, listing

    model = finding.kind(entity)
    if fields == "help":
        return _print_fields(model, output)
    columns = _columns(model, output, fields, wide)
    with target.open(read_only=True):
        query = listing.query(model, **asked)
        if paging.everything:
            pages = listing.pages(query, CHUNK, columns, iso=output != "table")
        else:
            pages = iter([listing.page(query, paging.first, paging.size, columns, iso=output != "table")])
        last = _print_pages(pages, output, wide)
        _tell_of_more(last, paging, is_filtered=bool(asked["where"] or asked["search"]))
    return None


def _columns(model: Any, output: str, fields: str | None, wide: bool) -> Any:
    """Return what is listed; a usage error where two options contradict each other."""
    from vserverlib import columns

    if wide and (fields is not None or output != "table"):
        raise click.UsageError("--wide is for a table of all columns: leave out --fields and -o")
    if output == "name":
        if fields is not None:
            raise click.UsageError("-o name prints what other commands take, such as task/12: leave out --fields")
        return (columns.reference(model),)
    if fields is not None:
        return columns.chosen(model, fields)
    return columns.in_tables(model) if output == "table" else columns.COLUMNS[model]


def _print_fields(model: Any, output: str) -> None:
    """Print what can be named in --fields, --where and --sort."""
    from vserverlib import columns, formats, views

    if output != "table":
        return _write(formats.WRITERS[output], columns.described(columns.known(model)))
    views.console().print(views.glossary(columns.described(columns.known(model))))
    links = ", ".join(f"{link.name}.…" for link in model._meta.refs)
    return tell(f"and any field of what a link leads to: {links}") if links else None


@main.command()
@click.argument("entity", shell_complete=completers.nouns)
@click.argument("id_or_name", metavar="ID|NAME", required=False, shell_complete=completers.labels)
@OUTPUT
@click.pass_obj
def show(target: Target, entity: str, id_or_name: str | None, output: str) -> None:
    """Show all about one ENTITY.

    That is its fields, how many others belong to it, and the first of them. Of a task it is how far each organization
    is, on a line of time, and the tasks that it came from and led to.

    ENTITY is organization, user, collaboration, node, task or result. One word will do, too: task/12.
    """
    from vserverlib import columns, finding, listing

    if id_or_name is None and "/" not in entity:
        raise click.UsageError(f"which {inert(entity)}? Give an id or a name, or both words as one: task/12")
    model = finding.kind(entity.partition("/")[0] if id_or_name is None else entity)
    with target.open(read_only=True):
        found = finding.one(model, entity if id_or_name is None else id_or_name)
        if output == "table":
            from vserverlib import panels, views

            views.console().print(panels.entity_panel(found))
        else:
            _document(listing.of_entities([found], columns.COLUMNS[model])[0], output)


@main.command()
@OUTPUT
@click.pass_obj
def overview(target: Target, output: str) -> None:
    """Show how things stand.

    That is how many tasks are in each state, how far collaborations and organizations are, who is waited for longest,
    and which nodes were not seen for a day.
    """
    from vserverlib import overview as figures

    with target.open(read_only=True) as database:
        found = figures.overview(database)
    if output == "table":
        from vserverlib import board, fields, views

        views.console().print(board.Board(found, database.title, fields.now()))
    else:
        _document(figures.as_data(found), output)


@main.command("check")
@click.argument("entities", metavar="[ENTITY]...", nargs=-1)
@click.option("--rule", "codes", metavar="CODE", multiple=True, help="Ask only this rule, such as NOD002. Repeatable.")
@click.option("--explain", metavar="CODE", help="Tell what a rule says, why, and what to do; ask nothing.")
@JSON_OUTPUT
@click.pass_context
def check_command(
    ctx: click.Context, entities: tuple[str, ...], codes: tuple[str, ...], explain: str | None, output: str
) -> None:
    """Tell what breaks the rules of the server's API, and what is wrong with the file.

    Without ENTITY it asks all: the rules, SQLite's own check of the file, links that lead nowhere, and whether the
    tables are those of a new database. Nothing is changed. The exit status is 1 when there are errors or warnings.

    ENTITY is organizations, users, collaborations, nodes, tasks or results.
    """
    from vserverlib import checks, finding, inspection

    if explain is not None:
        _explain(inspection.find(explain))
        return
    asked = inspection.chosen([finding.kind(entity)._meta.table_name for entity in entities], codes)
    with ctx.obj.open(read_only=True) as database:
        levels = checks.levels(_print_findings(inspection.inspect(database, asked), output))
        if not entities and not codes:
            _remember(database, levels)
    if levels["error"] or levels["warning"]:
        ctx.exit(1)
    tell(f"all is well: {len(asked)} rules were asked, and nothing above level info was found")


def _explain(rule: Any) -> None:
    from vserverlib import report

    click.echo(f"{rule.code}, {rule.level}, asked {rule.when}")
    for title, text in (("breaks it", rule.breaks), ("why", rule.why), ("remedy", rule.remedy)):
        click.echo(f"{title + ':':<11}{report.plain(text)}")


def _print_findings(found: Iterator[Any], output: str) -> Any:
    """Print findings, and return how many there are by rule."""
    from collections import Counter

    from vserverlib import checks, formats, report, views

    if output == "table":
        few = checks.Findings(found, keep=report.SHOWN)
        if few:
            views.console().print(report.Report(few))
        return few.counts
    counts: Counter[str] = Counter()
    rows = (finding._asdict() for finding in checks.counting(found, counts))
    _write(formats.WRITERS[output], rows)
    return counts


def _remember(database: Any, levels: dict[str, int]) -> None:
    from vserverlib import checks

    try:
        checks.remember(database, levels)
    except OSError as error:
        tell(f"what was found is not kept for the overview: {inert(error, 200)}", "yellow")


def _print_pages(pages: Iterator[Any], output: str, wide: bool = False) -> Any:
    """Print pages one after the other, and return the last one."""
    last: Any = None

    def each() -> Iterator[Any]:
        nonlocal last
        for last in pages:  # noqa: UP028  # which one was the last is what this is for
            yield last

    if output != "table":
        from vserverlib import formats

        _write(formats.WRITERS[output], (row for page in each() for row in page.rows))
    else:
        from vserverlib import views

        console = views.console(width=views.UNLIMITED if wide else None)
        for page in each():
            if page.rows:
                console.print(views.Listing(page, every_column=wide))
    return last


def _write(writer: Any, rows: Iterable[Any]) -> None:
    sys.stdout.writelines(writer(rows, plain_ascii=not _is_unicode(sys.stdout)))


def _document(value: Any, output: str) -> None:
    """Print one thing for programs."""
    from vserverlib import formats

    click.echo(formats.DOCUMENTS[output](value, plain_ascii=not _is_unicode(sys.stdout)).rstrip("\n"))


def _tell_of_more(page: Any, paging: Paging, is_filtered: bool) -> None:
    """Tell how to see the next page, or that there is none of that number."""
    if page.first + len(page.rows) < page.total:
        tell(f"{page.total - page.first - len(page.rows):,} more: --page {paging.page + 1}, or --all")
    elif page.total and not page.rows:
        tell(f"there is no page {paging.page:,}: the last one is {-(-page.total // paging.size):,}")
    elif not page.total:
        tell(f"there are no {page.model.plural}{' that fit' if is_filtered else ''}")


def _is_unicode(stream: TextIO) -> bool:
    return str(stream.encoding or "").lower().startswith("utf")


# Secrets


@main.command()
@click.argument("username", shell_complete=completers.usernames)
@click.option("--stdin", "piped", is_flag=True, help="Take the password from stdin: one line.")
@click.pass_obj
def passwd(target: Target, username: str, piped: bool) -> None:
    """Give a user a new password.

    It is typed twice and not shown, or piped in.
    """
    with target.open():
        import models

        user = models.User.get_by_username(username)
        user.password = _piped_password() if piped else _typed_password(user)
        user.save()
        tell(f"{user.named()} has a new password")


def _typed_password(user: Any) -> str:
    if not sys.stdin.isatty():
        raise Error("there is no terminal to type the password at: pipe it in, with --stdin")
    prompt = f"New password of {user.named()}"
    typed: str = click.prompt(prompt, hide_input=True, confirmation_prompt="The same again", err=True)
    return typed


def _piped_password() -> str:
    try:
        line, *more = sys.stdin.buffer.read().decode().splitlines() or [""]
    except UnicodeDecodeError:
        raise Error("what was piped in is not UTF-8 text: no password was set") from None
    if more:
        raise Error(f"--stdin takes one line, {len(more) + 1} were piped in: no password was set")
    return line


@main.command()
@click.argument("node", metavar="ID|NAME", shell_complete=completers.nodes)
@click.pass_obj
def apikey(target: Target, node: str) -> None:
    """Make a new API key for a node.

    It is printed this once. The old key is of no use any more.
    """
    import uuid

    with target.open() as database, database.atomic():
        import models
        from vserverlib import finding

        found = finding.one(models.Node, node)
        found.api_key = key = str(uuid.uuid4())
        found.save()
        click.echo(key)  # before the transaction ends: a key that nobody got to see is not stored
        sys.stdout.flush()
    tell(f"{found.named()} has a new API key, which is not shown again")


# Deleting


@main.command("delete")
@click.argument("entity", shell_complete=completers.nouns)
@click.argument("words", metavar="ID|NAME...", nargs=-1, required=True, shell_complete=completers.labels)
@click.option("--dependents", is_flag=True, help="Take along all that hangs on them, after asking.")
@click.option("--dry-run", is_flag=True, help="Only show what would go along.")
@YES
@click.pass_obj
def delete_command(
    target: Target, entity: str, words: tuple[str, ...], dependents: bool, dry_run: bool, yes: bool
) -> None:
    """Delete one ENTITY, or several of a kind.

    Refused while something hangs on them: the users and nodes of an organization, the results of a task. All of it goes
    in one transaction, or nothing does.

    ENTITY is organization, user, collaboration, node, task or result.
    """
    from vserverlib import deleting, finding

    model = finding.kind(entity)
    with target.open(read_only=dry_run):
        found = [finding.one(model, word) for word in words]
        plan = deleting.planned(found)
        if dry_run:
            _show_plan(plan, sys.stdout)
            return
        if dependents:
            require_yes("Delete all of this?", yes, lambda: _show_plan(plan, sys.stderr))
        done = deleting.delete(found, dependents, remedy="--dependents takes them along", expected=plan)
    tell(f"{done.told()}; {_take_back(target, done.change)}")


def _take_back(target: Target, change: int | None) -> str:
    """Return how a change that was just made is taken back."""
    return f"take it back with: {target.command('undo', '--change', str(change))}"


def _show_plan(plan: Any, stream: TextIO) -> None:
    from vserverlib import trees, views

    views.console(stream).print(trees.PlanTree(plan))


# The file


@main.command()
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


@main.command()
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


@main.command()
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
# The journal


@main.command("log")
@click.option("--entity", metavar="ENTITY", help="Only changes of this kind: tasks, users, memberships.")
@click.option("--id", metavar="N", type=int, help="Only those of one entity; with --entity.")
@click.option("--actor", metavar="NAME", help="Only those that this user has made.")
@click.option("--since", metavar="AGE|TIME", help="Only later ones: 2d (s, m, h, d, w), 2026-03-01.")
@click.option("--session", metavar="NAME", help="Only those of one session, as the log names it.")
@click.option("--limit", metavar="N", type=Ordinal(), help="How many rows.  [default: 20 in a table, else all]")
@click.option("--all", "everything", is_flag=True, help="All rows.")
@JSON_OUTPUT
@click.option(
    "--prune", metavar="AGE|TIME", help="Forget what is older: 90d, 2026-03-01. It cannot be undone any more."
)
@click.option("--yes", is_flag=True, help="With --prune: do not ask.")
@click.pass_obj
def log_command(
    target: Target, /, output: str, limit: int | None, everything: bool, prune: str | None, yes: bool, **asked: Any
) -> None:
    """Show who changed what, and when, field by field, the newest first.

    Changes by other programs are on record too, without a name. Secrets are told as changed, never shown.
    """
    if everything and limit:
        raise click.UsageError("--all has no limit: leave out --limit")
    if prune is not None:
        _prune(target, prune, yes)
        return
    with target.open(read_only=True) as database:
        from vserverlib import journal

        shown = None if everything or (output != "table" and not limit) else limit or journal.SHOWN
        found = journal.entries(database, journal.conditions(**asked))
        _print_entries(itertools.islice(found, shown), output)
        if next(found, None):
            tell("there are more: --limit N, or --all")


def _print_entries(entries: Iterator[Any], output: str) -> None:
    if output != "table":
        from vserverlib import formats, journal

        return _write(formats.WRITERS[output], journal.as_rows(entries))
    from vserverlib import logbook, views

    console, is_empty = views.console(), True
    for page in logbook.pages(entries):
        console.print(page)
        is_empty = False
    return tell("nothing is on record") if is_empty else None


def _prune(target: Target, older: str, yes: bool) -> None:
    from vserverlib import journal

    with target.open() as database:
        number = journal.count_before(database, older)
        if number:
            require_yes(f"Forget {number:,} changes, which cannot be undone any more?", yes)
            number = journal.prune(database, older)
        tell(f"forgot {number:,} changes")


@main.command("undo")
@click.argument("count", metavar="[N]", required=False, type=Ordinal())
@click.option("--change", metavar="ID", type=Ordinal(), help="Take back this change, as the log numbers it.")
@click.option("--session", metavar="ID", help="Take back all of a session, as the log names it.")
@click.option("--force", is_flag=True, help="Take back also what was changed since.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def undo_command(
    target: Target, count: int | None, change: int | None, session: str | None, force: bool, yes: bool
) -> None:
    """Take back the last N changes, one without N.

    A change is all that one transaction did. What has changed since is refused. An undo is a change on record, too:
    --change takes it back; without a number, undo goes further back.
    """
    with target.open() as database:
        from vserverlib import undoing

        ids = undoing.plan(database, count, change=change, session=session)
        require_yes(f"Take back {undoing.numbered(ids)}?", yes, lambda: _show_changes(database, ids))
        done = undoing.take_back(database, ids, force)
    tell(f"{done}; {_take_back(target, done.change)}")


def _show_changes(database: Any, ids: list[int]) -> None:
    """Show the first rows of changes on stderr, where somebody is asked about them."""
    from vserverlib import journal, logbook, views

    found = journal.entries(database, journal.conditions(changes=ids))
    shown = list(itertools.islice(found, journal.SHOWN))
    views.console(sys.stderr).print(logbook.Logbook(shown, "…" if next(found, None) else ""))


# Waiting, watching, playing


@main.command()
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True, shell_complete=completers.tasks)
@click.option("--timeout", metavar="SECONDS", type=float, help="Give up after this time: 60, 0.5, or 0 to look once.")
@click.pass_context
def wait(ctx: click.Context, tasks: tuple[str, ...], timeout: float | None) -> None:
    """Wait until all of these tasks have finished.

    TASK is an id or a name. The exit status is 0 when all are completed, 1 when one has failed, 3 when the time was up.
    A task without results is an error at once: it would never finish.
    """
    from vserverlib import watching

    with ctx.obj.open(read_only=True) as database:
        ending = watching.wait(database, tasks, timeout)
    if ending.told:
        tell(ending.told, "yellow")
    ctx.exit(ending.status)


@main.command()
@click.argument("tasks", metavar="[TASK]...", nargs=-1, shell_complete=completers.tasks)
@click.pass_obj
def watch(target: Target, tasks: tuple[str, ...]) -> None:
    """Show how far tasks are, as it changes, until all have finished.

    TASK is an id or a name; without one it is all tasks that are waited for, newest first, new ones too. In a pipe it
    is one line of JSON for each task, and one for each change.
    """
    from vserverlib import watching

    with target.open(read_only=True) as database:
        watching.watch(database, tasks)


@main.command("demo")
@click.option("--tasks", metavar="N", type=Ordinal(), help="How many tasks.  [default: 1000]")
@click.option("--organizations", metavar="N", type=Ordinal(), help="How many organizations.  [default: 12]")
@click.option("--live", is_flag=True, help="Play the nodes, until Ctrl-C; alone also in a database that is filled.")
@click.option("--until-done", is_flag=True, help="With --live: make no new tasks, and end when all have finished.")
@click.option("--yes", is_flag=True, help="Play also where organizations are real: their domain is none of .example.")
@click.pass_obj
def demo_command(
    target: Target, tasks: int | None, organizations: int | None, live: bool, until_done: bool, yes: bool
) -> None:
    """Fill a database with a made-up consortium of any size.

    It is made where there is none; one with entities is refused. Nobody can log in: no passwords or keys are set. For a
    small example that has log-ins, see: vserver init --demo
    """
    from vserverlib import simulation, storage

    if (until_done or yes) and not live:
        raise click.UsageError("--until-done and --yes go with --live")
    if not os.path.lexists(target.path):
        tell(f"made a new database, {storage.create(target.file)}")
    with target.open() as database:
        if tasks or organizations or not live or not simulation.is_filled(database):
            _fill(database, tasks or simulation.TASKS, organizations or simulation.ORGANIZATIONS)
        if live:
            simulation.refuse_real(yes)
            _play(database, until_done)


def _fill(database: Any, tasks: int, organizations: int) -> None:
    from vserverlib import screens, simulation

    with screens.progress_bar("tasks", tasks) as advance:
        simulation.fill(database, tasks, organizations, advance)
    tell(f"{database.title} has {tasks:,} tasks of a made-up consortium")


def _play(database: Any, until_done: bool) -> None:
    from vserverlib import simulation

    tell(f"this is a simulation: nothing is computed, and results in {database.title} are made up (Ctrl-C: end it)")
    try:
        simulation.play(database, until_done=until_done)
    except KeyboardInterrupt:
        tell("the simulation has ended")


# Tab


@main.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print what a shell needs so that Tab completes commands, fields, names and files.

    Have it read that in each session, by a line that is typed once:

    \b
      bash   echo 'eval "$(vserver completion bash)"' >> ~/.bashrc
      zsh    echo 'eval "$(vserver completion zsh)"' >> ~/.zshrc
      fish   vserver completion fish > ~/.config/fish/completions/vserver.fish

    A new shell has it. In ~/.zshrc it comes after the line with compinit.
    """  # noqa: D301  # the \b is click's, for lines that stay as they are
    from vserverlib import dialects

    click.echo(dialects.script(shell, main), nl=False)


if __name__ == "__main__":
    main(prog_name="vserver")
