"""The commands: parse what was typed, call one function, print what it returns.

Data goes to stdout; messages, warnings and errors go to stderr, each in one line. What an error means for the exit
status is decided in one place, `Commands`. What a command needs is imported when it runs: `vserver --help` is instant.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO

import click

from vserverlib import Error, UsageError, inert
from vserverlib.messages import plain_warnings, tell

__version__ = "0.1.0"

INTERRUPTED = 130  # what a shell gives as the status of a program that Ctrl-C ended
COLLECTED = 50_000  # objects made until the garbage collector runs (Python's own 700 suits small programs)
LARGEST = 10**9  # rows of a page, and pages: their product has less than 64 bits
CHUNK = 1000  # rows of one table, where a list is so long that it is printed as several


# What went wrong, as a line and an exit status


class Failure(click.ClickException):
    """One line on stderr, and the exit status."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # that is how click means it


class Commands(click.Group):
    """The commands, and what becomes of an error in any of them."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Be the program: called by nobody else.

        Imports make many objects that stay. The garbage collector would look through all of them again and again, and
        once more at the end: a quarter of the time of a short command.
        """
        gc.set_threshold(COLLECTED)
        try:
            return super().__call__(*args, **options)
        finally:
            gc.freeze()

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what a person can act on becomes one line, all else keeps its traceback."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()  # here, where a full disk still becomes an exit status
        except (KeyboardInterrupt, click.Abort):
            click.echo(err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            if ctx.params["debug"]:
                _print_traceback(error)
            _give_up_stdout()
            raise failure from error


def failure_of(error: Exception) -> Failure | None:
    """Return the line and the exit status of an error that a person can act on, else None."""
    if isinstance(error, Error):
        return Failure(str(error), 2 if isinstance(error, UsageError) else 1)
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        place = f"{inert(error.filename, 200)}: " if error.filename else ""
        return Failure(f"{place}{error.strerror or inert(error, 200)}")
    if _is_of_database(error):
        damaged = ": it is damaged, use a backup" if "malformed" in str(error) else ""
        return Failure(f"the database says: {inert(error, 200)}{damaged}")
    return None


def _is_of_database(error: Exception) -> bool:
    import sqlite3

    from vserverlib.drivers import peewee

    return isinstance(error, peewee.PeeweeException | sqlite3.Error)


def _give_up_stdout() -> None:
    """Have what cannot be written not be tried again when Python ends: that would change the exit status."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # it stays open as long as the program


def _print_traceback(error: Exception) -> None:
    import traceback

    traceback.print_exception(error)


# Which database, and how it is opened


class Target(NamedTuple):
    """The database that a command is about."""

    url: str | None  # as it was named, None where it was not
    debug: bool

    @property
    def path(self) -> str:
        """Return the path or URL, the default where none was named."""
        from vserverlib.storage import DEFAULT

        return DEFAULT if self.url is None else self.url

    @contextmanager
    def open(self, *, read_only: bool = False) -> Iterator[Any]:
        """Open the database for one command."""
        import models

        database = models.connect(self.path, read_only=read_only)
        try:
            yield database
        finally:
            database.close()

    @contextmanager
    def open_session(self, *, demo: bool, read_only: bool, sandbox: bool) -> Iterator[Any]:
        """Open the database for a shell or a script; at the end of a sandbox, tell what would have changed."""
        from vserverlib import storage

        if demo:
            database = storage.demo(read_only=read_only, sandbox=sandbox)
        else:
            if self.url is None and not read_only and not sandbox and not os.path.lexists(self.path):
                tell(f"made a new database, {storage.create(self.path)}")
            database = storage.connect(self.path, read_only=read_only, sandbox=sandbox)
        try:
            with _leaving_in_order():
                yield database
            if sandbox:
                tell(sandbox_report(database))
        finally:
            database.close()


@contextmanager
def _leaving_in_order() -> Iterator[None]:
    """Have the end of the terminal, or a signal to end, not leave a private copy behind."""
    import signal

    def leave(number: int, frame: object) -> None:
        sys.exit(128 + number)

    meant = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in meant:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in meant:
            signal.signal(number, signal.SIG_DFL)


def sandbox_report(database: Any) -> str:
    """Return what a sandbox would have changed, in one line: how many rows of which entity."""
    from vserverlib import listing, orm, storage

    database.rollback()  # what was begun, and not ended
    models = {model._meta.table_name: model for model in orm.Entity.__subclasses__()}
    found = storage.report(database)
    counts = [(models[table], dict(zip(_CHANGES, numbers, strict=True))) for table, *numbers in found]
    done = []
    for verb in _CHANGES:
        words = [listing.counted(number[verb], model) for model, number in counts if number[verb]]
        done += [f"{verb} {', '.join(words)}"] if words else []
    return f"sandbox: would have {'; '.join(done) or 'changed nothing'}"


_CHANGES = ("added", "changed", "deleted")  # what storage.report() counts, in its order


# The program


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-d",
    "--database",
    metavar="URL|PATH",
    envvar="VSERVER_DATABASE",
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
    ctx.obj = Target(database, debug)
    ctx.with_resource(plain_warnings(strict=strict))


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


class Ordinal(click.ParamType[int]):
    """A whole number from 1 on, of which two can be multiplied without leaving 64 bits."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; a usage error where it is none, or too large."""
        number = int(value) if str(value).isascii() and str(value).isdigit() and len(str(value)) < 12 else 0
        if not 0 < number <= LARGEST:
            self.fail(f'"{inert(value)}" is no whole number from 1 to {LARGEST:,}', param, ctx)
        return number


FORMATS = click.Choice(["table", "json"])
OUTPUT = click.option("-o", "--output", type=FORMATS, default="table", show_default=True, help="For eyes, or programs.")


@main.command("list")
@click.argument("entity")
@OUTPUT
@click.option("--limit", metavar="N", type=Ordinal(), help="Rows of a page.  [default: 50]")
@click.option("--page", metavar="N", type=Ordinal(), help="Which page.  [default: 1]")
@click.option("--all", "everything", is_flag=True, help="All rows, not a page of them.")
@click.pass_obj
def list_command(
    target: Target, entity: str, output: str, limit: int | None, page: int | None, everything: bool
) -> None:
    """List one kind of ENTITY, oldest first.

    ENTITY is organizations, users, collaborations, nodes, tasks or results; the singular will do.
    """
    from vserverlib import listing

    if everything and (limit or page):
        raise click.UsageError("--all is not a page: leave out --limit and --page")
    model, size, number = listing.find(entity), limit or listing.PAGE, page or 1
    columns = listing.COLUMNS[model] if output == "json" else listing.in_tables(model)
    with target.open(read_only=True):
        if everything:
            pages = listing.pages(model.get(), CHUNK, columns)
        else:
            pages = iter([listing.page(model.get(), (number - 1) * size, size, columns)])
        _tell_of_more(_print_pages(pages, output), number, size)


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
            click.echo(listing.to_json(row, plain_ascii=not _is_unicode(sys.stdout), indent=2))
        else:
            from vserverlib import views

            views.console().print(views.entity_panel(found))


def _print_pages(pages: Iterator[Any], output: str) -> Any:
    """Print pages one after the other, and return the last one."""
    last: Any = None

    def each() -> Iterator[Any]:
        nonlocal last
        for last in pages:  # noqa: UP028  # which one was the last is what this is for
            yield last

    if output == "json":
        from vserverlib import listing

        rows = (row for page in each() for row in page.rows)
        sys.stdout.writelines(listing.as_json(rows, plain_ascii=not _is_unicode(sys.stdout)))
    else:
        from vserverlib import views

        console = views.console()
        for page in each():
            if page.rows:
                console.print(views.Listing(page))
    return last


def _tell_of_more(page: Any, number: int, size: int) -> None:
    """Tell how to see the next page, or that there is none of that number."""
    if page.first + len(page.rows) < page.total:
        tell(f"{page.total - page.first - len(page.rows):,} more: --page {number + 1}, or --all")
    elif page.total and not page.rows:
        tell(f"there is no page {number:,}: the last one is {-(-page.total // size):,}")
    elif not page.total:
        tell(f"there are no {page.model.plural}")


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


if __name__ == "__main__":
    main(prog_name="vserver")
