"""What the commands share: errors and exit statuses, opening the database, questions, common options.

`vserver.py` owns the program. No library function imports anything from here.
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

from vserverlib import Error, NotADatabase, UsageError, addresses, garbage_collection, printable, signals, streams
from vserverlib.commands import completers
from vserverlib.commands.completers import TYPED
from vserverlib.commands.confirmation import NotConfirmed
from vserverlib.commands.help_page import TOPICS, HelpPage
from vserverlib.commands.printing import Paging
from vserverlib.messages import folded, notify

if TYPE_CHECKING:
    from pathlib import Path

CommandFunction = TypeVar("CommandFunction", bound=Callable[..., Any])

COMPLETION_VARIABLE = "_VSERVER_COMPLETE"  # the environment variable in which click passes on the question of a shell
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAX_SUMMARY = 200  # characters of a command's summary in the help of the program
PAGE_SIZE = 50  # rows
MAX_COUNT = 10**9  # of pages, and of rows on a page: their product fits into 64 bits
NUMBER = click.IntRange(min=1)
BEFORE = ("-d", "--database", "--write", "--dry-run", "--yes", "--no-backup", "-o", "--output")  # the command
NOT_READ = 4  # the exit status of these commands if they cannot do their work: 1 is a finding, or a failed task
COMMANDS_THAT_FIND = ("check", "run", "wait")


# Errors and exit statuses


class Failure(click.ClickException):
    """One line on stderr, and the exit status."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click documents it as an attribute of the instance


class Command(completers.Command):
    """A command of the program: with --write or --dry-run before it, its changes are planned first."""

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.obj.write or ctx.obj.dry_run:
            from vserverlib.commands import plan_session

            plan_session.prepare(ctx)
        try:
            return super().invoke(ctx)
        except NotADatabase as error:
            from vserverlib.commands import plan_session

            plan_session.refuse_unplanned(ctx, error)
            raise


class Commands(HelpPage, click.Group):
    """The program: it runs a command and turns an error into a line and an exit status."""

    command_class = Command

    @garbage_collection.rare()
    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run as the program, once per process.

        Imports create many lasting objects. If the garbage collector visited them again and again, and once more at
        the end, a short command would take a quarter longer.
        """
        streams.replace_closed()
        if sys.stdout is None:  # the next file to be opened would get its descriptor
            Failure("stdout is closed: redirect it to /dev/null to discard it").show()
            sys.exit(1)
        if COMPLETION_VARIABLE in os.environ:
            from vserverlib.commands import shell_completion  # noqa: F401  # registers our completion in place of click's
        try:
            return super().__call__(*args, **options)
        except OSError as error:  # from --help and --version, which never reach invoke()
            _discard_stdout()
            Failure(_system_message(error)).show()
            sys.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, with summaries that a narrow terminal wraps (click would cut them), and the topics."""
        names = self.list_commands(ctx)
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(MAX_SUMMARY)) for name in names])
        with formatter.section("Help topics"):
            formatter.write_dl([(f"help {topic}", summary) for topic, summary in TOPICS.items()])

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _printable_usage():
            return super().make_context(*args, **options)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command. The error for a command of another program names our line for it."""
        word, *more = args  # click empties the list when it looks at an option
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            from vserverlib.commands import habits

            name = Target(ctx.params["database"], debug=False).name
            remedy = habits.command(word, more, name, self.commands) or ": vserver --help lists them"
            raise UsageError(f'no command "{printable(word)}"{remedy}') from None

    def main(self, *args: Any, standalone_mode: bool = True, **options: Any) -> Any:
        """Run, and exit with the same status after a signal, even if it comes while click parses the command line."""
        run: Callable[[], Any] = functools.partial(super().main, *args, standalone_mode=False, **options)
        if not standalone_mode:
            return run()
        try:
            status = run()
        except click.ClickException as error:
            _show(error)
            status = error.exit_code
        except (KeyboardInterrupt, click.Abort):  # an Exit, if a line was printed
            status = _interrupted()
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. An error that the user can act on becomes one line; a bug keeps its traceback."""
        try:
            with _flushed(), _printable_usage():
                super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            if not signals.is_ending():
                click.echo(err=True)  # after the terminal's ^C
            raise click.exceptions.Exit(_interrupted()) from None
        except Exception as error:
            signals.check()  # the signal may have caused the error
            if _was_caused_by_a_signal(error):
                raise click.exceptions.Exit(_interrupted()) from None
            failure = failure_of(error)
            if failure is None:
                raise
            if ctx.params["debug"]:
                import traceback

                traceback.print_exception(error)
            _discard_stdout()
            is_unread = failure.exit_code == 1 and not isinstance(error, NotConfirmed)
            if is_unread and ctx.invoked_subcommand in COMMANDS_THAT_FIND:
                failure.exit_code = NOT_READ  # type: ignore[misc]
            raise failure from error


def _show(error: click.ClickException) -> None:
    """Print an error of click as click does, folded to the width of the terminal."""
    message = folded(f"Error: {error.format_message()}", sys.stderr).removeprefix("Error: ")
    error.format_message = lambda: message  # type: ignore[method-assign]
    error.show()


def command(name: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a function a command, without adding it to a program."""
    return click.command(name, cls=Commands.command_class)


def _was_caused_by_a_signal(error: BaseException | None) -> bool:
    """Whether an error occurred while the exception of a signal was handled, as in cleaning up after it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


@contextmanager
def _flushed() -> Iterator[None]:
    """Flush stdout at the end, so that a full disk still changes the exit status.

    Not after a signal: the pipe may be full, without a reader.
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
def _printable_usage() -> Iterator[None]:
    """Escape what click quotes from the command line: a script may have passed on untrusted text."""
    try:
        yield
    except click.NoSuchOption as error:
        if error.option_name not in BEFORE or error.ctx is None:
            raise
        raise misplaced(error.option_name, error.ctx) from None
    except click.UsageError as error:
        error.message = printable(error.message, 1000)  # type: ignore[misc]  # show() prints it
        raise


def misplaced(option: str, ctx: click.Context) -> click.UsageError:
    """Return the error for an option of the program that was typed behind the command, with the right line."""
    line = "vserver -d …"
    if option in ("--write", "--dry-run", "--yes", "--no-backup"):
        words = [word for word in ctx.meta[TYPED] if word != option]
        target = ctx.obj
        line = target.command(*target.options_typed(), option, str(ctx.info_name), *words)
    return click.UsageError(f"{option} goes before the command: {line}", ctx)


def failure_of(error: Exception) -> Failure | None:
    """Return an error that the user can act on as a line and an exit status; None for any other error."""
    if isinstance(error, Error):
        return Failure(str(error), 2 if isinstance(error, UsageError) else 1)
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        return Failure(_system_message(error))
    if _is_database_error(error):
        damaged = ": it is damaged, use a backup" if "malformed" in str(error) else ""
        return Failure(f"database error: {printable(error, 200)}{damaged}")
    return None


def _system_message(error: OSError) -> str:
    """Return a message for an error of the operating system. A full disk without a file name is that of stdout."""
    message = error.strerror or printable(error, 200)
    if error.filename:
        return f"{printable(error.filename, 200)}: {message}"
    return f"stdout: {message}: the output is incomplete" if error.errno in NO_ROOM else message


def _is_database_error(error: Exception) -> bool:
    import sqlite3

    from vserverlib.drivers import peewee

    return isinstance(error, peewee.PeeweeException | sqlite3.Error)


def _interrupted() -> int:
    """Return the exit status after Ctrl-C. After SIGTERM or SIGHUP, the program ends by that signal instead."""
    signals.end_interrupted()
    return signals.INTERRUPTED


def _discard_stdout() -> None:
    """Discard output that cannot be written. Python would try again at its exit and change the exit status."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # open until the program ends


# The database


class Target(NamedTuple):
    """The database that a command works on."""

    url: str | None  # a path or URL from the command line or the environment
    debug: bool
    strict: bool = False  # refuse saves that would print a warning
    write: bool = False  # plan the changes of a server's database, and apply the plan
    dry_run: bool = False  # only show what would change
    yes: bool = False  # answer questions with yes
    backup: bool = True  # of a server's database, before a plan is applied
    output: str = "table"  # of a dry run

    @property
    def path(self) -> str:
        """Return the path or URL, or the default."""
        return addresses.DEFAULT if self.url is None else self.url

    @property
    def file(self) -> Path:
        """Return the path of the file. Raises an Error for the URL of a server."""
        from vserverlib.databases.storage import as_path

        return as_path(self.path)

    @property
    def name(self) -> str:
        """Return the name in messages, which can be typed: the path, or the URL without its password."""
        return addresses.shown(self.path) if self.is_url else str(self.file)

    @property
    def is_url(self) -> bool:
        """Whether it is on a PostgreSQL server."""
        return addresses.is_url(self.path)

    @property
    def is_there(self) -> bool:
        """Whether the file exists, damaged or not. A database on a server is assumed to exist."""
        return self.is_url or os.path.lexists(self.file)

    def command(self, *words: str) -> str:
        """Return the command line that runs a command on this database."""
        return addresses.command(self.name, *words)

    def which(self, model: Any) -> click.UsageError:
        """Return the error for a command that needs one entity, and is given none."""
        what = f"which {model.noun}? Give an id or a name, or {model.noun}/12"
        return click.UsageError(f"{what}; see: {self.command('list', model.plural)}")

    def options_typed(self) -> list[str]:
        """Return the options that say how the database is opened, as they are typed before a command."""
        typed = {"--write": self.write, "--dry-run": self.dry_run, "--yes": self.yes, "--no-backup": not self.backup}
        return [option for option, is_typed in typed.items() if is_typed]

    @property
    def is_of_server(self) -> bool:
        """Whether it is the database of a vantage6 server. Reads 100 bytes of a file; connects to a URL."""
        from vserverlib.opening import opener

        return opener.is_of_server(self.path)

    def undo_hint(self, change: int | None) -> str:
        """Return a hint that says how to undo a change."""
        return f"undo it with: {self.command('undo', '--change', str(change))}"

    def once_written(self, database: Any, show: Callable[[], None]) -> None:
        """Print before the commit, so that an unprinted key is not stored; with a plan, once it is applied."""
        if self.write:
            database.when_applied.append(show)
        else:
            show()

    @contextmanager
    def open(self, *, read_only: bool = False, dry_run: bool = False) -> Iterator[Any]:
        """Open the database for one command.

        With --write, a server's is opened as a working copy, whose plan is applied at the end, after a question; the
        command ends there. dry_run: the command shows by itself what would change; it gets a private copy of a file. A
        database of ours on a server has no copy: the caller rolls back its transaction.
        """
        if (self.write or (self.dry_run and not dry_run)) and not read_only:
            from vserverlib.commands import plan_session

            with plan_session.of_command(self) as database:
                yield database
            return
        from vserverlib.opening import opener

        database = opener.connect(self.path, read_only=read_only, sandbox=dry_run and not self.is_url)
        database.strict = self.strict
        try:
            yield database
            if not read_only:
                _note_origin(database)
        finally:
            database.close()

    @contextmanager
    def open_session(self, *, demo: bool, read_only: bool, sandbox: bool) -> Iterator[Any]:
        """Open the database for a shell or a script. At the end of a sandbox, report what would have changed."""
        from vserverlib.databases import storage
        from vserverlib.opening import opener

        if demo:
            database = opener.demo(read_only=read_only, sandbox=sandbox)
        elif self.write:
            from vserverlib.commands import plan_session

            with plan_session.opened(self) as copy:
                yield copy
            return
        else:
            if self.url is None and not read_only and not sandbox and not self.is_there:
                notify(f"created a new database, {storage.create(self.path)}")
            database = opener.connect_for_session(self.path, read_only=read_only, sandbox=sandbox)
        database.strict = self.strict
        try:
            yield database
            if sandbox:
                from vserverlib.commands import plan_session

                notify(plan_session.sandbox_report(database))
            elif not read_only:
                _note_origin(database)
        finally:
            database.close()


def _note_origin(database: Any) -> None:
    """Say once, at the first change of an imported database, that the server it came from is not changed."""
    if database.last_change is None or not database.is_in_place():
        return
    from vserverlib.databases import server_origin

    if (server := server_origin.take(database)) is not None:
        notify(server_origin.message(server), "yellow")


# Options


def one_database(ctx: click.Context, param: click.Parameter, named: tuple[str, ...]) -> str | None:
    """Return the database of -d, or else of the environment; None without either. Raises a usage error for several."""
    if len(named) > 1:
        raise click.UsageError("-d names one database, not several: give it once", ctx)
    return named[0] if named else addresses.unquoted(os.environ.get(addresses.VARIABLE) or "") or None


def output(*formats: str) -> Callable[[CommandFunction], CommandFunction]:
    """Return the option for the output format: a table, or one of these."""
    choice = click.Choice(["table", *formats])
    return click.option("-o", "--output", type=choice, default="table", show_default=True, help="Output format.")


OUTPUT = output("json", "yaml")
JSON_OUTPUT = output("json", "jsonl")
LIST_OUTPUT = output("json", "jsonl", "csv", "yaml", "name")


def _whole_filters(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the filters. Raises a usage error for one that has no operator: a shell may have taken its > away."""
    if any(not set("=<>~") & set(text) for text in given):
        from vserverlib.commands import habits

        if message := habits.torn(given):
            raise UsageError(message)
    return given


def several(*options: Callable[[CommandFunction], CommandFunction]) -> Callable[[CommandFunction], CommandFunction]:
    """Return several options as one decorator."""

    def add(command: CommandFunction) -> CommandFunction:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def where(help: str) -> Callable[[CommandFunction], CommandFunction]:
    """Return the option for filters."""
    given: dict[str, Any] = {"metavar": "FILTER", "multiple": True, "callback": _whole_filters}
    return click.option("--where", shell_complete=completers.where, help=help, **given)


FILTERS = several(
    where("Filter by a field, such as status=failed. Repeatable: all filters must match."),
    click.option("--search", metavar="TEXT", help="Search all text fields, ignoring case."),
    click.option(
        "--sort",
        shell_complete=completers.order,
        metavar="F,-F",
        help="Sort by these fields, descending after a minus.  [default: id]",
    ),
)
COLUMNS = several(
    click.option(
        "--fields",
        shell_complete=completers.fields,
        metavar="F,F",
        help="Print only these fields, in this order; `--fields help` lists them.",
    ),
    click.option("--wide", is_flag=True, help="Print all columns uncut, however wide the table gets."),
)


def paging(size: int, default: str) -> Callable[[CommandFunction], CommandFunction]:
    """Return the three options that choose a page; the command takes `paging` in place of them.

    Programs get all rows by default. size: rows of a table without --limit. default: how the help says that.
    """

    def add(command: CommandFunction) -> CommandFunction:
        @functools.wraps(command)
        def paged(*words: Any, limit: int | None, page: int | None, everything: bool, **options: Any) -> Any:
            if everything and (limit or page):
                raise click.UsageError("--all prints every page: leave out --limit and --page")
            if max(limit or 1, page or 1) > MAX_COUNT:
                raise click.UsageError(f"--limit and --page take at most {MAX_COUNT:,}")
            is_whole = options["output"] != "table" and not (limit or page)
            return command(*words, paging=Paging(page or 1, limit or size, everything or is_whole), **options)

        return paged  # type: ignore[return-value]  # still a command's function

    return several(
        click.option("--limit", metavar="N", type=NUMBER, help=f"Print this many rows.  [default: {default}]"),
        click.option("--page", metavar="N", type=NUMBER, help="Print this page.  [default: 1]"),
        click.option("--all", "everything", is_flag=True, help="Print all rows."),
        add,
    )


PAGING = paging(PAGE_SIZE, f"{PAGE_SIZE} in a table, else all")
YES = click.option("--yes", is_flag=True, help="Skip the confirmation.")
FORCE = click.option("--force", is_flag=True, help="Replace FILE if it exists.")
