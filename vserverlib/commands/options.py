"""What the commands share: what becomes of an error, which database is opened and how, and options that several have.

`vserver.py` owns the commands. Nothing here, or there, is imported by a library function.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from vserverlib import Error, UsageError, addresses, garbage_collection, printable, signals, streams
from vserverlib.commands import completers
from vserverlib.messages import notify

if TYPE_CHECKING:
    from pathlib import Path

Command = TypeVar("Command", bound=Callable[..., Any])

COMPLETING = "_VSERVER_COMPLETE"  # of the environment, as click names it: a shell asks what Tab is to offer
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONGEST_SENTENCE = 200  # characters of what the help of the program says of a command
PAGE = 50  # rows of a page of a list
LARGEST = 10**9  # rows of a page, and pages: their product has less than 64 bits


# What went wrong, as a line and an exit status


class Failure(click.ClickException):
    """One line on stderr, and the exit status."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # that is how click means it


class Commands(click.Group):
    """The commands, and what becomes of an error in any of them."""

    command_class = completers.Command

    @garbage_collection.rare()
    def __call__(self, *args: Any, **options: Any) -> Any:
        """Be the program: called by nobody else.

        Collecting garbage would take a quarter of the time of a short command.
        """
        streams.replace_closed()
        if sys.stdout is None:  # closed by who has started us: what is opened next would be in its place
            Failure("stdout is closed: send it to /dev/null where nobody is to read it").show()
            sys.exit(1)
        if COMPLETING in os.environ:
            from vserverlib.commands import shell_completion  # noqa: F401  # importing it has click ask and answer the shells in our way
        try:
            return super().__call__(*args, **options)
        except OSError as error:  # of --help and --version, which are no commands
            _give_up_stdout()
            Failure(_of_system(error)).show()
            sys.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their first sentence, whole: a narrow terminal wraps it, where click would cut it."""
        message = [(name, self.commands[name].get_short_help_str(LONGEST_SENTENCE)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(message)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _inert_usage():
            return super().make_context(*args, **options)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Take `vserver help list` for `vserver list --help`."""
        if args == ["help"]:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().resolve_command(ctx, [*args[1:2], "--help"] if args[0] == "help" else args)

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Be the program: a signal has the same exit status everywhere, also while click reads what was typed."""
        run: Callable[[], Any] = functools.partial(super().main, *args, standalone_mode=False, **options)
        if not standalone_mode:
            return run()
        try:
            status = run()
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        except (KeyboardInterrupt, click.Abort):  # what printed a line for it has raised an Exit
            status = _interrupted()
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what a person can act on becomes one line, all else keeps its traceback."""
        try:
            with _flushed(), _inert_usage():
                super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            if not signals.is_ending():
                click.echo(err=True)  # behind the ^C of the terminal
            raise click.exceptions.Exit(_interrupted()) from None
        except Exception as error:
            signals.check()  # what it interrupted may have failed by it
            if _came_of_a_signal(error):
                raise click.exceptions.Exit(_interrupted()) from None
            failure = failure_of(error)
            if failure is None:
                raise
            if ctx.params["debug"]:
                _print_traceback(error)
            _give_up_stdout()
            raise failure from error


def command(name: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """Return what makes a function a command, for vserver.py to put into the program."""
    return click.command(name, cls=Commands.command_class)


def _came_of_a_signal(error: BaseException | None) -> bool:
    """Whether an error came up while the exception of a signal was handled: cleaning up after it has failed."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def _flushed() -> Iterator[None]:
    """Have what was printed be written at the end, where a full disk still becomes an exit status.

    Not after a signal: the pipe may be full, and nobody read it.
    """
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        raise
    except BaseException:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


@contextmanager
def _inert_usage() -> Iterator[None]:
    """Have click quote what was typed as a person may be shown it: a script may have typed a stranger's name."""
    try:
        yield
    except click.NoSuchOption as error:
        if error.option_name not in ("-d", "--database") or error.ctx is None:
            raise
        raise click.UsageError(f"{error.option_name} goes before the command: vserver -d …", error.ctx) from None
    except click.UsageError as error:
        error.message = printable(error.message, 1000)  # type: ignore[misc]  # it is what show() prints
        raise


def failure_of(error: Exception) -> Failure | None:
    """Return the line and the exit status of an error that a person can act on, else None."""
    if isinstance(error, Error):
        return Failure(str(error), 2 if isinstance(error, UsageError) else 1)
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return Failure(_of_system(error))
    if _is_of_database(error):
        damaged = ": it is damaged, use a backup" if "malformed" in str(error) else ""
        return Failure(f"the database says: {printable(error, 200)}{damaged}")
    return None


def _of_system(error: OSError) -> str:
    """Return what the system has refused: where there is no room for a file without a name, it is stdout."""
    message = error.strerror or printable(error, 200)
    if error.filename:
        return f"{printable(error.filename, 200)}: {message}"
    return f"stdout: {message}: what was printed is not whole" if error.errno in NO_ROOM else message


def _is_of_database(error: Exception) -> bool:
    import sqlite3

    from vserverlib.drivers import peewee

    return isinstance(error, peewee.PeeweeException | sqlite3.Error)


def _interrupted() -> int:
    """Return the exit status of a program that a signal has ended; one of SIGTERM's is set when it ends."""
    signals.end_interrupted()
    return signals.INTERRUPTED


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
    strict: bool = False  # what would be saved with a warning is refused

    @property
    def path(self) -> str:
        """Return the path or URL, the default where none was named."""
        return addresses.DEFAULT if self.url is None else self.url

    @property
    def file(self) -> Path:
        """Return the path of the file; an Error where the URL is none of a file."""
        from vserverlib.databases.storage import as_path

        return as_path(self.path)

    @property
    def name(self) -> str:
        """Return what messages call the database, and can be typed: the path, or the URL without its password."""
        return addresses.shown(self.path) if self.is_url else str(self.file)

    @property
    def is_url(self) -> bool:
        """Whether it is on a PostgreSQL server."""
        return addresses.is_url(self.path)

    @property
    def is_there(self) -> bool:
        """Whether it is there, sound or not; of one on a server it is assumed."""
        return self.is_url or os.path.lexists(self.file)

    def command(self, *words: str) -> str:
        """Return what is typed to run a command on this database."""
        return addresses.command(self.name, *words)

    def take_back(self, change: int | None) -> str:
        """Return how a change that was just made is taken back."""
        return f"take it back with: {self.command('undo', '--change', str(change))}"

    @contextmanager
    def open(self, *, read_only: bool = False) -> Iterator[Any]:
        """Open the database for one command."""
        from vserverlib.opening import opener

        database = opener.connect(self.path, read_only=read_only)
        database.strict = self.strict
        try:
            yield database
        finally:
            database.close()

    @contextmanager
    def open_session(self, *, demo: bool, read_only: bool, sandbox: bool) -> Iterator[Any]:
        """Open the database for a shell or a script; at the end of a sandbox, tell what would have changed."""
        from vserverlib.databases import storage
        from vserverlib.opening import opener

        if demo:
            database = opener.demo(read_only=read_only, sandbox=sandbox)
        else:
            if self.url is None and not read_only and not sandbox and not self.is_there:
                notify(f"made a new database, {storage.create(self.path)}")
            database = self._opened(read_only=read_only, sandbox=sandbox)
        database.strict = self.strict
        try:
            yield database
            if sandbox:
                notify(sandbox_report(database))
        finally:
            database.close()

    def _opened(self, *, read_only: bool, sandbox: bool) -> Any:
        """Open the database; that of a vantage6 server, which cannot be written to, for a look."""
        from vserverlib.databases import recognition
        from vserverlib.opening import opener

        try:
            return opener.connect(self.path, read_only=read_only, sandbox=sandbox)
        except recognition.Vantage6Database:
            return opener.connect(self.path, read_only=True)


def sandbox_report(database: Any) -> str:
    """Return what a sandbox would have changed, in one line: how many rows of which entity."""
    from models import MODELS
    from vserverlib.databases import sandbox_diff
    from vserverlib.queries import listing

    database.rollback()  # what was begun, and not ended
    found = sandbox_diff.report(database)
    counts = [(MODELS[table], dict(zip(_CHANGES, numbers, strict=True))) for table, *numbers in found]
    done = []
    for verb in _CHANGES:
        words = [listing.pluralize(number[verb], model) for model, number in counts if number[verb]]
        done += [f"{verb} {', '.join(words)}"] if words else []
    return f"sandbox: would have {'; '.join(done) or 'changed nothing'}"


_CHANGES = ("added", "changed", "deleted")  # what sandbox_diff.report() counts, in its order


# Asking


def require_yes(question: str, yes: bool, show: Callable[[], object] = lambda: None) -> None:
    """Ask at the terminal, where no answer means no; an Error where that is the answer, or there is nobody to ask.

    show: called before, to show there what the question is about.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Error("there is no terminal to ask at: nothing was changed; --yes goes ahead without being asked")
    show()
    if not click.confirm(question, default=False, err=True):
        raise Error("nothing was changed")


# Options


def one_database(ctx: click.Context, param: click.Parameter, named: tuple[str, ...]) -> str | None:
    """Return the one database that was named, by -d or else by the environment; a usage error where several were."""
    if len(named) > 1:
        raise click.UsageError("-d names one database, not several: give it once", ctx)
    return named[0] if named else addresses.unquoted(os.environ.get(addresses.VARIABLE) or "") or None


class Ordinal(click.ParamType[int]):
    """A whole number from 1 on, of which two can be multiplied without leaving 64 bits."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; a usage error where it is none, or too large."""
        number = int(value) if str(value).isascii() and str(value).isdigit() and len(str(value)) < 12 else 0
        if not 0 < number <= LARGEST:
            self.fail(f'"{printable(value)}" is no whole number from 1 to {LARGEST:,}', param, ctx)
        return number


def output(*formats: str) -> Callable[[Command], Command]:
    """Return the option that chooses between a table and these formats."""
    choice = click.Choice(["table", *formats])
    message = "For eyes, or for programs."
    return click.option("-o", "--output", type=choice, default="table", show_default=True, help=message)


OUTPUT = output("json", "yaml")
JSON_OUTPUT = output("json", "jsonl")
LIST_OUTPUT = output("json", "jsonl", "csv", "yaml", "name")


class Paging(NamedTuple):
    """Which rows of a list are printed: a page, counted from 1, of so many rows, or every one."""

    page: int
    size: int
    everything: bool

    @property
    def first(self) -> int:
        """Return the place of the first row, counted from 0."""
        return (self.page - 1) * self.size


def several(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return options that belong together as one."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


CHOOSING = several(
    click.option(
        "--where",
        shell_complete=completers.where,
        metavar="FILTER",
        multiple=True,
        help="Only what fits, such as status=failed. Repeatable.",
    ),
    click.option("--search", metavar="TEXT", help="Only those with this in any of their texts, whatever its case."),
    click.option(
        "--sort",
        shell_complete=completers.order,
        metavar="F,-F",
        help="By these fields, downwards after a minus.  [default: id]",
    ),
)
SHOWN = several(
    click.option(
        "--fields",
        shell_complete=completers.fields,
        metavar="F,F",
        help="These fields only, in this order; help tells which there are.",
    ),
    click.option("--wide", is_flag=True, help="All columns, as wide as they need to be."),
)


def paging(size: int, message: str, whole: bool = False) -> Callable[[Command], Command]:
    """Return the three options that say which page is printed: a command takes `paging` in place of them.

    size: rows of a page unless that is asked for, as `told` says. whole: for programs it is all rows then.
    """

    def add(command: Command) -> Command:
        @functools.wraps(command)
        def paged(*words: Any, limit: int | None, page: int | None, everything: bool, **options: Any) -> Any:
            if everything and (limit or page):
                raise click.UsageError("--all is not a page: leave out --limit and --page")
            is_whole = whole and options["output"] != "table" and not (limit or page)
            return command(*words, paging=Paging(page or 1, limit or size, everything or is_whole), **options)

        return paged  # type: ignore[return-value]  # a command in any case

    return several(
        click.option("--limit", metavar="N", type=Ordinal(), help=f"Rows of a page.  [default: {message}]"),
        click.option("--page", metavar="N", type=Ordinal(), help="Which page.  [default: 1]"),
        click.option("--all", "everything", is_flag=True, help="All rows, not a page of them."),
        add,
    )


PAGING = paging(PAGE, str(PAGE))
YES = click.option("--yes", is_flag=True, help="Do not ask: for scripts.")
