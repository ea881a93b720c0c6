"""The extension for notebooks and plain IPython: `%load_ext vserver` gives `db`, views, completion and `%vserver`.

The views are display.py's, the completions completion.py's, and opener.py opens the database. IPython stays as its
user has configured it: it keeps its history, and tracebacks of other errors show source lines.
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from IPython.core.error import StdinNotImplementedError
from IPython.core.magic import Magics, line_magic, magics_class

import models
import shell
from vserverlib import Error, UsageError, addresses, messages, printable, tracebacks
from vserverlib.commands.options import failure_of
from vserverlib.commands.plan_session import sandbox_report
from vserverlib.databases import current
from vserverlib.drivers import peewee
from vserverlib.opening import opener
from vserverlib.terminal import display
from vserverlib.terminal.matcher import matcher

YES = ("1", "true", "t", "yes", "y", "on")  # VSERVER_STRICT, as the command line takes it
OPTIONS = {"--read-only": "read_only", "--sandbox": "sandbox"}
USAGE = "%vserver [--read-only | --sandbox] PATH|URL opens a database, %vserver passwd USER sets a password"
NOTHING_OPEN = f"no database is open: {USAGE}"


def _as_one_line(error: Error) -> list[str]:
    return [f"error: {printable(error, messages.MAX_LENGTH)}"]


def _as_own_lines(error: peewee.PeeweeException) -> list[str]:
    return "".join(tracebacks.lines(error)).splitlines()


@magics_class
class Extension(Magics):
    """What `%load_ext vserver` adds to an IPython, and removes again."""

    def __init__(self, ipython: Any) -> None:
        super().__init__(ipython)
        self.matcher = matcher(ipython.user_ns)
        self.hide_views = display.show_in(ipython.display_formatter, self._text)
        self.database: Any = None  # opened here, and so to be closed here

    def load(self) -> None:
        """Add everything, and open the database that VSERVER_DATABASE names unless one is open already."""
        self.shell.register_magics(self)
        self.shell.Completer.custom_matchers.append(self.matcher)
        # IPython asks an exception for its traceback: also in %run and on display, which set_custom_exc leaves out.
        Error._render_traceback_ = _as_one_line  # type: ignore[attr-defined]
        peewee.PeeweeException._render_traceback_ = _as_own_lines
        atexit.register(self.close)
        named = addresses.unquoted(os.environ.get(addresses.VARIABLE) or "")
        if _is_open():
            self._use(current.database.obj)
        elif named:
            self._open_at_load(named)
        else:
            _print(NOTHING_OPEN)

    def _open_at_load(self, named: str) -> None:
        try:
            with _one_line_errors():
                self.open(named)
        except Error as error:
            messages.notify(f"error: {addresses.VARIABLE}: {error}", "red")

    def unload(self) -> None:
        """Remove everything, and close the database that was opened here."""
        self.close()
        atexit.unregister(self.close)
        del Error._render_traceback_  # type: ignore[attr-defined]
        del peewee.PeeweeException._render_traceback_
        self.hide_views()
        if isinstance(self.shell.user_ns.get("db"), shell.Db):
            del self.shell.user_ns["db"]
        self.shell.Completer.custom_matchers.remove(self.matcher)
        del self.shell.magics_manager.magics["line"]["vserver"]
        del self.shell.magics_manager.registry[type(self).__name__]

    def _text(self, obj: Any) -> str:
        if self.shell.display_formatter.formatters["text/html"].enabled:
            return display.text(obj, color=False, width=display.IN_A_NOTEBOOK)
        return display.text(obj, color=messages.is_colourful(sys.stdout) and self.shell.colors.lower() != "nocolor")

    # The database

    def open(self, name: str, **mode: bool) -> None:
        """Open a database in place of the one that was opened here before, and print its name and mode.

        If it cannot be opened, the other one stays open.
        """
        report = self._report()
        self.database = opener.connect_for_session(name, **mode)
        self.database.strict = os.environ.get("VSERVER_STRICT", "").lower() in YES
        _print(report)
        self._use(self.database)

    def _report(self) -> str:
        """Return what would have changed in a sandbox that was opened here, in one line."""
        is_sandbox = self.database is not None and not self.database.is_closed() and self.database.mode == "sandbox"
        return sandbox_report(self.database) if is_sandbox else ""

    def _use(self, database: Any) -> None:
        self.shell.user_ns["db"] = shell.Db(database)
        _print(_summary(database))

    def close(self) -> None:
        """Close the database that was opened here, and print what would have changed in a sandbox."""
        if self.database is not None:
            _print(self._report())
            self.database.close()
        self.database = None

    # The magic

    @line_magic  # type: ignore[untyped-decorator]
    def vserver(self, line: str) -> None:
        """Open a database, print which one is open, or set a password.

        %vserver                                     print which database is open; it becomes `db`
        %vserver [--read-only|--sandbox] PATH|URL    open a database in place of the one that is open
        %vserver passwd USER                         ask for a new password, hidden, and save it
        """
        with _one_line_errors():
            self._run(_words(line))

    def _run(self, words: list[str]) -> None:
        options = {OPTIONS[word]: True for word in words if word in OPTIONS}
        words = [word for word in words if word not in OPTIONS]
        if unknown := next((word for word in words if word.startswith("-")), ""):
            raise UsageError(f"%vserver has no option {unknown}: {USAGE}")
        if words[:1] == ["passwd"] and len(words) == 2 and not options:
            set_password(words[1])
        elif len(words) == 1 and len(options) < 2:
            self.open(os.path.expanduser(words[0]), **options)
        elif words or options:
            raise UsageError(f"%vserver takes one database in one mode: {USAGE}")
        elif _is_open():
            self._use(current.database.obj)  # models.connect() may have opened it
        else:
            _print(NOTHING_OPEN)


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn an error of the system or of the database into an Error, as the command line does."""
    try:
        yield
    except Exception as error:
        failure = failure_of(error)
        if failure is None or isinstance(error, Error):
            raise
        raise Error(failure.message) from None


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%vserver {line}: {str(error).lower()}") from None


def _is_open() -> bool:
    return current.database.obj is not None and not current.database.obj.is_closed()


def _summary(database: Any) -> str:
    return f"{database.title}, {shell.MODES.get(database.mode, database.mode)}"


def set_password(username: str) -> None:
    """Ask for the new password of a user twice, without showing it, and save it."""
    if not _is_open():
        raise Error(NOTHING_OPEN)
    user = models.User.get_by_username(username)
    current.database.obj.refuse_read_only("%vserver passwd")
    typed = _ask(f"New password of {user.named()}: ")
    if typed != _ask("The same again: "):
        raise Error(f"the two passwords differ: {user.named()} keeps the old one")
    with messages.plain_warnings():
        user.password = typed
        user.save()
    _print(f"{user.named()} has a new password")


def _ask(question: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would echo the password
            return getpass.getpass(question)
    except (getpass.GetPassWarning, StdinNotImplementedError, EOFError):
        raise Error("a password cannot be typed hidden here: use vserver passwd at a terminal") from None


def _print(text: str) -> None:
    """Print a line below the cell that asked for it."""
    if text:
        sys.stdout.write(f"{text}\n")


def load(ipython: Any) -> None:
    """Load the extension into an IPython."""
    if getattr(ipython, "database", None) is not None:
        raise UsageError("this is vserver's own shell: it has all that %load_ext vserver adds")
    Extension(ipython).load()


def unload(ipython: Any) -> None:
    """Undo load()."""
    ipython.magics_manager.registry[Extension.__name__].unload()
