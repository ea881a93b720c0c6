"""The commands: parse what was typed, call one function, print what it returns.

Data goes to stdout; messages, warnings and errors go to stderr, each in one line. What an error means for the exit
status is decided in one place, `Commands`. What a command needs is imported when it runs: `vserver --help` is instant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import click

from vserverlib import Error, inert
from vserverlib.messages import plain_warnings, tell
from vserverlib.options import JSON_OUTPUT, LIST_OUTPUT, OUTPUT, Commands, Ordinal, Target, one_database

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
    import shlex

    from vserverlib import storage

    if demo:
        from vserverlib.demo import LOG_INS, create
    path = storage.as_path(target.path)
    (create if demo else storage.create)(path)
    option = "" if str(path) == storage.DEFAULT else f" -d {shlex.quote(str(path))}"
    tell(f"made {path}; open it with: vserver{option} shell")
    if demo:
        tell(LOG_INS)


# The shell


@main.command("shell")
@click.argument("file", required=False)
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
@click.argument("entity")
@LIST_OUTPUT
@click.option("--limit", metavar="N", type=Ordinal(), help="Rows of a page.  [default: 50]")
@click.option("--page", metavar="N", type=Ordinal(), help="Which page.  [default: 1]")
@click.option("--all", "everything", is_flag=True, help="All rows, not a page of them.")
@click.option("--where", metavar="FILTER", multiple=True, help="Only what fits, such as status=failed. Repeatable.")
@click.option("--search", metavar="TEXT", help="Only those with this in any of their texts, whatever its case.")
@click.option("--sort", metavar="F,-F", help="By these fields, downwards after a minus.  [default: id]")
@click.pass_obj
def list_command(
    target: Target, /, entity: str, output: str, limit: int | None, page: int | None, everything: bool, **asked: Any
) -> None:
    """List one kind of ENTITY, oldest first.

    ENTITY is organizations, users, collaborations, nodes, tasks or results; the singular will do.

    A FILTER is a field, an operator (= != < <= > >=, or ~ for "contains") and a value: status=failed,
    collaboration=ROTTERDAM, organization.country=NL, created_at>-2d, finished_at=null.
    """
    from vserverlib import listing

    if everything and (limit or page):
        raise click.UsageError("--all is not a page: leave out --limit and --page")
    model, size, number = listing.find(entity), limit or listing.PAGE, page or 1
    columns = listing.in_tables(model) if output == "table" else listing.COLUMNS[model]
    with target.open(read_only=True):
        query = listing.query(model, **asked)
        if everything:
            pages = listing.pages(query, CHUNK, columns)
        else:
            pages = iter([listing.page(query, (number - 1) * size, size, columns)])
        _tell_of_more(_print_pages(pages, output), number, size, bool(asked["where"] or asked["search"]))


@main.command()
@click.argument("entity")
@click.argument("id_or_name", metavar="ID|NAME")
@OUTPUT
@click.pass_obj
def show(target: Target, entity: str, id_or_name: str, output: str) -> None:
    """Show all about one ENTITY.

    That is its fields, how many others belong to it, and the first of them.

    ENTITY is organization, user, collaboration, node, task or result.
    """
    from vserverlib import listing

    model = listing.find(entity)
    with target.open(read_only=True):
        found = listing.one(model, id_or_name)
        if output == "json":
            (row,) = listing.of_entities([found], listing.COLUMNS[model])
            from vserverlib import formats

            click.echo(formats.to_json(row, plain_ascii=not _is_unicode(sys.stdout), indent=2))
        else:
            from vserverlib import views

            views.console().print(views.entity_panel(found))


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
    if output == "json":
        click.echo(figures.to_json(found))
    else:
        from vserverlib import board, fields, views

        views.console().print(board.Board(found, database.title, fields.now()))


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
    from vserverlib import checks, inspection, listing

    if explain is not None:
        _explain(inspection.find(explain))
        return
    asked = inspection.chosen([listing.find(entity)._meta.table_name for entity in entities], codes)
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
    sys.stdout.writelines(formats.WRITERS[output](rows, not _is_unicode(sys.stdout)))
    return counts


def _remember(database: Any, levels: dict[str, int]) -> None:
    from vserverlib import checks

    try:
        checks.remember(database, levels)
    except OSError as error:
        tell(f"what was found is not kept for the overview: {inert(error, 200)}", "yellow")


def _print_pages(pages: Iterator[Any], output: str) -> Any:
    """Print pages one after the other, and return the last one."""
    last: Any = None

    def each() -> Iterator[Any]:
        nonlocal last
        for last in pages:  # noqa: UP028  # which one was the last is what this is for
            yield last

    if output != "table":
        from vserverlib import formats

        rows = (row for page in each() for row in page.rows)
        sys.stdout.writelines(formats.WRITERS[output](rows, not _is_unicode(sys.stdout)))
    else:
        from vserverlib import views

        console = views.console()
        for page in each():
            if page.rows:
                console.print(views.Listing(page))
    return last


def _tell_of_more(page: Any, number: int, size: int, is_filtered: bool) -> None:
    """Tell how to see the next page, or that there is none of that number."""
    if page.first + len(page.rows) < page.total:
        tell(f"{page.total - page.first - len(page.rows):,} more: --page {number + 1}, or --all")
    elif page.total and not page.rows:
        tell(f"there is no page {number:,}: the last one is {-(-page.total // size):,}")
    elif not page.total:
        tell(f"there are no {page.model.plural}{' that fit' if is_filtered else ''}")


def _is_unicode(stream: TextIO) -> bool:
    return str(stream.encoding or "").lower().startswith("utf")


# Secrets


@main.command()
@click.argument("username")
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
@click.argument("node", metavar="ID|NAME")
@click.pass_obj
def apikey(target: Target, node: str) -> None:
    """Make a new API key for a node.

    It is printed this once. The old key is of no use any more.
    """
    import uuid

    with target.open() as database, database.atomic():
        import models
        from vserverlib import listing

        found = listing.one(models.Node, node)
        found.api_key = key = str(uuid.uuid4())
        found.save()
        click.echo(key)  # before the transaction ends: a key that nobody got to see is not stored
        sys.stdout.flush()
    tell(f"{found.named()} has a new API key, which is not shown again")


# Waiting, watching, playing


@main.command()
@click.argument("tasks", metavar="TASK...", nargs=-1, required=True)
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
@click.argument("tasks", metavar="[TASK]...", nargs=-1)
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
        tell(f"made a new database, {storage.create(storage.as_path(target.path))}")
    with target.open() as database:
        if tasks or organizations or not live or not simulation.is_filled(database):
            _fill(database, tasks or simulation.TASKS, organizations or simulation.ORGANIZATIONS)
        if live:
            simulation.refuse_real(yes)
            _play(database, until_done)


def _fill(database: Any, tasks: int, organizations: int) -> None:
    from vserverlib import simulation, views

    with views.progress_bar("tasks", tasks) as advance:
        simulation.fill(database, tasks, organizations, advance)
    tell(f"{database.title} has {tasks:,} tasks of a made-up consortium")


def _play(database: Any, until_done: bool) -> None:
    from vserverlib import simulation

    tell(f"this is a simulation: nothing is computed, and results in {database.title} are made up (Ctrl-C: end it)")
    try:
        simulation.play(database, until_done=until_done)
    except KeyboardInterrupt:
        tell("the simulation has ended")


if __name__ == "__main__":
    main(prog_name="vserver")
