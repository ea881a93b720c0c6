"""The shell and scripts: their names, the banner, and running source. The caller opens the database.

start() runs an IPython prompt, which vserverlib.terminal.console defines and only start() imports. run() runs a file,
`-c` and piped input as plain Python.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import linecache
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import models
from vserverlib import (
    Error,
    UsageError,
    did_you_mean,
    garbage_collection,
    messages,
    pluralize,
    printable,
    secret_columns,
    signals,
    streams,
    tracebacks,
    vantage6_names,
)
from vserverlib.entities import other_orms
from vserverlib.masking import mask, remember
from vserverlib.messages import check_theme, columns, notify, plain_warnings
from vserverlib.queries import inspection
from vserverlib.queries.overview import counts
from vserverlib.terminal import display

WIDTH, WIDEST = 80, 120  # columns of the banner without a terminal, and at most
ARGV_0 = {"<command line>": "-c", "<stdin>": "-"}  # sys.argv[0] of source that is no file
LONGEST_VALUE = 60  # characters of a parameter after its SQL

REOPEN = "db.database.connect() opens it again"  # of a script
WHOLE = "vserver --debug shell prints the whole traceback"

PLAN = "plan"  # the mode of a working copy of a server's database

_HELP = "Type help for examples, db for an overview. Tab completes, Ctrl-D leaves."
_EMPTY = 'It is empty. Begin with: organization = db.Organization(name="…"), then organization.save()'
MODES = {
    "read-only": "read-only: nothing can be changed here, and hashes of secrets are not shown",
    "sandbox": "sandbox: this is a private copy, deleted when you leave",
    PLAN: "plan: nothing changes in this server's database before you apply the plan; db.plan() shows it, db.apply() "
    "applies it",
}


# The names in the shell and in scripts


class NoSuchName(UsageError, AttributeError):
    """An attribute that `db` does not have."""


class Summary(NamedTuple):
    """An entity in the summary that `db` displays: its count, a description and its methods."""

    name: str
    count: int  # type: ignore[assignment]  # nobody misses the count() of tuples
    about: str
    methods: list[str]


class Db(SimpleNamespace):
    """The `db` of the user guide: the six models, the database, its journal and its checks."""

    database: Any

    def __init__(self, database: Any) -> None:
        names = {model.__name__: model for model in models.ENTITIES}
        tools = {**_functions(database), **inspection.tools(database), **_planning(database)}
        super().__init__(**names, database=database, **tools)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        known = other_orms.of_session(name) or vantage6_names.entity(name) or did_you_mean(name, vars(self))
        raise NoSuchName(f'db has no "{printable(name)}"{known}')

    def __repr__(self) -> str:
        return f"<db: {self.database.title}, {self.database.mode}>"


class Console:
    """A rich console, created when it is first used: most sessions need not wait for its import."""

    @functools.cached_property
    def _console(self) -> Any:
        from vserverlib.terminal import views

        return views.console()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._console, name)


class Help:
    """`help` of the prompt and of scripts: alone or without arguments, what to type; else on a class, or Python's."""

    def __call__(self, *subjects: Any) -> None:
        from vserverlib.terminal import help_screen

        found = help_screen.text(*subjects[:1])
        if found is None:
            import pydoc

            pydoc.pager = pydoc.plainpager  # no pager at the prompt
            pydoc.help(*subjects)
        else:
            print(found)  # noqa: T201  # printing is its purpose

    def __repr__(self) -> str:
        return "<help: help() shows what to type>"


class Status:
    """The status overview that overview() returns. figures: its data."""

    def __init__(self, database: Any) -> None:
        from vserverlib.queries import overview

        self.figures, self.title = overview.overview(database), database.title

    def __repr__(self) -> str:
        return f"<overview of {self.title}>"


def _overview(status: Status) -> Any:
    from vserverlib.entities import fields
    from vserverlib.terminal import overview_screen

    return overview_screen.OverviewView(status.figures, status.title, fields.now())


def _summary(db: Db) -> Any:
    from vserverlib.terminal import views

    return views.summary(summary(db.database))


def _help(subject: Any) -> Any:
    from vserverlib.terminal import help_screen

    return help_screen.screen(None if isinstance(subject, Help) else subject)


display.register(Db, _summary)
display.register(Help, _help)
display.register(type(models.Task), _help)
display.register(Status, _overview)


def namespace(database: Any) -> dict[str, Any]:
    """Return the predefined names of the shell and of scripts on a database."""
    names = {model.__name__: model for model in models.ENTITIES}
    others = {"database": database, "datetime": datetime, "timedelta": timedelta, "UTC": UTC, "console": Console()}
    tools = {"overview": lambda: Status(database), "watch": _watcher(database), "post": post, "help": Help()}
    return {"db": Db(database), **names, **others, **tools}


def _functions(database: Any) -> dict[str, Callable[..., Any]]:
    def log(entity: Any = None, id: int | None = None, **asked: Any) -> Any:
        """Return the changes, newest first: of an entity, of a class of entities, or all.

        actor=NAME, since="2d", session=NAME; limit=20 records at most.
        """
        from vserverlib.entities import journal

        return journal.log(database, entity, id, **asked)

    def undo(count: int | None = None, **asked: Any) -> Any:
        """Undo the newest change, or the newest `count` changes, or change=NUMBER, or all of session=NAME.

        Refused if a row was changed since, unless force=True. It is a change itself: undo(change=…) undoes it.
        """
        from vserverlib.entities import undoing

        return undoing.undo(database, count, **asked)

    def why(task: Any) -> Any:
        """Return why a task is not finished: whom it waits for, and what failed. task: a task, its id or its name."""
        from vserverlib.queries import why

        return why.why(database, task)

    return {"log": log, "undo": undo, "why": why}


def _planning(database: Any) -> dict[str, Callable[..., Any]]:
    """Return what a working copy of a server's database has more."""
    if database.mode != PLAN:
        return {}

    def plan() -> Any:
        """Return what would change in the server's database: nothing has changed there yet."""
        from vserverlib.commands import plan_session

        return plan_session.planned(database)

    def apply() -> None:
        """Show the plan, ask, and apply it to the server's database, all or nothing."""
        database.applying()

    def log(entity: Any = None, id: int | None = None, **asked: Any) -> Any:
        """Return the changes of this session, as db.log() of any database. `vserver log` lists what was applied."""
        if database.session.applied:
            note("these are the changes of this session, with numbers of its own; `vserver log` has the applied ones")
        return journal["log"](entity, id, **asked)

    def undo(count: int | None = None, **asked: Any) -> Any:
        """Undo as db.undo() of any database. Of what was applied already, it plans the reverse."""
        done = journal["undo"](count, **asked)
        if database.session.applied and min(done.undone, default=database.session.since + 1) <= database.session.since:
            exact = "`vserver … --write undo` restores the rows exactly, with those that only the server has"
            note(f"this was applied to the server already: the reverse is planned as a new change; {exact}")
        return done

    def note(text: str) -> None:
        with messages.prefixed(""):
            notify(text, "yellow")

    journal = _functions(database)
    return {"plan": plan, "apply": apply, "log": log, "undo": undo}


def _watcher(database: Any) -> Callable[..., None]:
    def watch(*tasks: Any) -> None:
        """Show the progress of tasks until they have finished; without tasks, of all unfinished ones.

        tasks: tasks, lists of tasks, ids or names.
        """
        from vserverlib.terminal import watching

        watching.watch(database, tasks)

    return watch


def post(image: str, method: str, arguments: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """Post a task to the running server, as in post("demo/average:1", "central_average", {"column": "age"}).

    Shows its progress, then its results. Options: organizations=["IKNL"], everywhere=True, collaboration="…",
    user="anna", databases=["default"], name="…", wait=False.
    """
    from vserverlib import api

    return api.post(image, method, arguments, **options)


# What completion offers for its arguments, "" for the first.
_NAMES = {"organizations": models.Organization.name, "collaboration": models.Collaboration.name}
post.texts = {"": models.Task.image, "user": models.User.username, **_NAMES}  # type: ignore[attr-defined]


def summary(database: Any) -> list[Summary]:
    """Return the summary that `db` displays, entity by entity. One query."""
    from vserverlib.terminal.completion import methods

    found = counts(database)
    every = {model: dict.fromkeys(methods(model) + methods(model, of_entity=True)) for model in models.ENTITIES}
    return [Summary(model.__name__, found[model.plural], model.about, list(names)) for model, names in every.items()]


# Messages


def banner(database: Any) -> str:
    """Return the banner: the database, its mode, its contents and a hint. At most 12 lines of 80 columns or more."""
    found = counts(database)
    where = _where(database.path) if database.place == database.title else ""  # the title of a URL says it
    mode = MODES.get(database.mode, database.mode)
    words = [pluralize(number, name.removesuffix("s"), name) for name, number in found.items()]
    content = ", ".join(words) if any(found.values()) else _EMPTY
    lines = [f"{database.title}, {mode}", where, content, _HELP]
    return "".join(f"{line}\n" for text in lines for line in _folded(text))


def _folded(text: str) -> list[str]:
    """Return the lines of a text, as wide as the terminal. A URL or a folder is not broken at a hyphen."""
    width = min(columns(sys.stdout) or WIDTH, WIDEST)
    return textwrap.wrap(text, max(width, 20), subsequent_indent="  ", break_on_hyphens=False)


def _where(path: Path) -> str:
    """Return the folder of a database, or a description of the demo, which has none."""
    return f"in {printable(path.absolute().parent, 200)}" if path.exists() else "example data: a copy of your own"


def print_queries(database: Any) -> None:
    """Print each statement that a database runs from now on to stderr, secrets masked."""
    from vserverlib import statements

    def print_query(event: Any) -> None:
        sql, parameters = statements.masked(event.sql, event.params, secret_columns.SECRET_COLUMNS)
        shown = ", ".join(printable(repr(value), LONGEST_VALUE) for value in parameters)
        notify(f"{event.duration * 1000:.1f} ms  {sql}" + (f"  [{shown}]" if shown else ""))

    database.query_hooks.append(print_query)


# Running source


def start(database: Any, *, quiet: bool = False, debug: bool = False, print_sql: bool = False) -> None:
    """Run an IPython shell at the terminal until the user leaves.

    quiet: no banner, and no notices of what was saved or deleted. debug: errors with all frames. print_sql: each
    statement on stderr.
    """
    check_theme()
    with plain_warnings(), garbage_collection.paused(are_kept=True):
        from vserverlib.terminal import console

        text = "" if quiet else banner(database)
        shell = console.Shell(database, namespace(database), banner=text, debug=debug, quiet=quiet)
        if database.mode == PLAN:
            from vserverlib.commands import plan_session

            shell.may_leave = lambda: plan_session.may_leave(database)
        gc.freeze()  # the imports stay: a collection of them takes 20 ms
    if print_sql:
        print_queries(database)
    with plain_warnings(), _import_path(None), _argv(""):
        shell.run()


@contextlib.contextmanager
def _argv(*words: str) -> Iterator[None]:
    """Set sys.argv, so that a script does not see the arguments of vserver."""
    before, sys.argv = sys.argv, list(words)
    try:
        yield
    finally:
        sys.argv = before


@contextlib.contextmanager
def _import_path(file: str | None) -> Iterator[None]:
    """Find modules beside a file, or in the working directory: last, so that they replace no other module."""
    folder = os.path.dirname(os.path.abspath(file)) if file else ""
    before = sys.path.copy()
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path[:] = before


def run(
    source: str | bytes,
    filename: str,
    database: Any,
    names: Mapping[str, Any] | None = None,
    *,
    arguments: Sequence[str] = (),
    debug: bool = False,
    atomic: bool = False,
) -> int:
    """Run source as plain Python and return its exit status: 1 after an exception, whose traceback goes to stderr.

    filename: a path, or a name such as "<stdin>". names: the names of the script instead of namespace(). arguments:
    sys.argv after the file. debug: the traceback of an Error includes our own frames. atomic: run it in one
    transaction, which is rolled back unless the status is 0.
    """
    module = ModuleType("__main__")
    module.__dict__.update(namespace(database) if names is None else names)
    file = None if filename.startswith("<") else filename
    if file:
        module.__dict__["__file__"] = os.path.abspath(file)
    main, sys.modules["__main__"] = sys.modules["__main__"], module
    try:
        with plain_warnings(), _import_path(file), _argv(ARGV_0.get(filename, filename), *arguments):
            execute = functools.partial(_status, source, filename, module, debug)
            return _atomically(database, execute) if atomic else execute()
    finally:
        sys.modules["__main__"] = main


class _Failed(Exception):
    """Rolls back the transaction of a script whose status is not 0."""


def _atomically(database: Any, execute: Callable[[], int]) -> int:
    """Run a script in one transaction. Raises an Error if the script ends the transaction itself."""
    status = 0
    with contextlib.suppress(_Failed), database.atomic():
        status = execute()
        if status:
            raise _Failed
        if not database.is_in_transaction():
            raise Error("the script ended the transaction of --atomic: leave out its own commit() and rollback()")
    return status


def changes_saved(database: Any) -> int:
    """Return the number of changes that a session has committed; 0 if its database is closed.

    Rolls back an open transaction.
    """
    from vserverlib.entities import journal

    if database.is_closed() or database.recorder is None:
        return 0
    if database.is_in_transaction():
        database.rollback()
    return journal.count_of_session(database, database.recorder.session)


def _status(source: str | bytes, filename: str, module: ModuleType, debug: bool) -> int:
    try:
        _remember(source, filename)
        code = compile(source, filename, "exec", dont_inherit=True)
        exec(code, module.__dict__)
    except SystemExit as leaving:
        return _exit_status(leaving.code)
    except KeyboardInterrupt as error:
        return _interrupted(error, debug)
    except BaseException as error:
        if isinstance(error, BrokenPipeError) and streams.is_unread():  # `| head -1` is no error
            return 1
        if isinstance(error, NameError):
            _explain(error, module)
        with contextlib.suppress(BrokenPipeError):  # it ends the program later
            sys.stdout.flush()
        sys.stderr.write("".join(_traceback(error, debug)))
        return 1
    return 0


def _explain(error: NameError, module: ModuleType) -> None:
    """Add to an undefined name what it may mean."""
    from vserverlib.terminal import hints

    if hint := hints.of_undefined(error, vars(module)):
        error.add_note(hint.removeprefix(": ").removeprefix("; "))


def _interrupted(error: KeyboardInterrupt, debug: bool) -> int:
    """Return the exit status of a script that a signal has ended. Only debug prints the traceback."""
    if debug:
        sys.stderr.write("".join(_traceback(error, debug)))
    elif not signals.is_ending():
        sys.stderr.write("KeyboardInterrupt\n")
    signals.end_interrupted()
    return signals.INTERRUPTED


def _remember(source: str | bytes, filename: str) -> None:
    """Have tracebacks show the lines of a source with secrets masked: logs keep tracebacks."""
    with contextlib.suppress(SyntaxError, UnicodeDecodeError):  # compile() reports these better
        text = importlib.util.decode_source(source) if isinstance(source, bytes) else source
        remember(text, filename)


def _exit_status(code: object) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    sys.stderr.write(f"{code}\n")
    return 1


def _traceback(error: BaseException, debug: bool) -> Iterator[str]:
    """Return the traceback of an exception without our frames; that of a mistake has the user's frames only."""
    message = traceback.TracebackException.from_exception(error)
    is_short = not debug and tracebacks.shorten(message, error, REOPEN, WHOLE)
    for exception in tracebacks.chain(message):
        frames = [frame for frame in exception.stack if frame.filename != __file__]
        exception.stack[:] = [tracebacks.without_marks(frame) for frame in frames]
        _mask_text(exception)
    return message.format(chain=not is_short)


def _mask_text(message: traceback.TracebackException) -> None:
    """Mask the line that a SyntaxError shows."""
    text = getattr(message, "text", None)
    if text:
        is_ours = message.filename in linecache.cache  # not the source of an exec()
        message.text = (linecache.getline(message.filename, int(message.lineno or 0)) if is_ours else "") or mask(text)
        if message.text.strip() != text.strip():
            message.offset = None  # type: ignore[assignment]  # print no mark
