"""The history of the shell: in memory for `In`, `%save` and the like, and in a file for later sessions.

masking.py decides which parts of a cell may be kept.
"""

from __future__ import annotations

import contextlib
import inspect
import sqlite3
import tokenize
from pathlib import Path
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.history import HistoryManager
from IPython.terminal.interactiveshell import PtkHistoryAdapter
from prompt_toolkit.history import History as PromptHistory

from vserverlib import home, masking, messages, printable

LOCK_TIMEOUT = 3.0  # seconds to wait for another shell that writes to the history
LEFT_OUT = "# left out: a line for another program, which may hold a secret"  # replaces such a line in `In`


class History(HistoryManager):
    """The input, secrets masked, without lines that begin with a space. Two shells may write at once.

    It is in memory until keep_in() names a file. Each line is written when it is entered, before it runs; output is
    never written. is_quiet: whether the last cell ends with a semicolon.
    """

    is_quiet = False

    def keep_in(self, path: Path) -> None:
        """Read from and write to a file. If that fails, print one line and stay in memory."""
        try:
            self._open(home.own_file(path))
            self.db.execute("PRAGMA synchronous = OFF")  # a line is not worth the wait for the disk
        except (OSError, sqlite3.Error) as error:
            self._open(":memory:")
            reason = getattr(error, "strerror", None) or error
            messages.notify(f"history is off: {printable(path, 200)} cannot be used ({reason})", "yellow")

    def _open(self, path: Path | str) -> None:
        self.db.close()
        self.hist_file, self.connection_options = path, {"timeout": LOCK_TIMEOUT}
        # Unwrapped: IPython's wrapper moves a file away that is damaged, or locked by another shell.
        inspect.unwrap(HistoryManager.init_db)(self)

    def new_session(self, conn: Any = None) -> None:
        """Begin a session at its first line: a shell that is opened and left writes nothing."""
        if self.db_input_cache:
            super().new_session(conn)

    def store_inputs(self, line_num: int, source: str, source_raw: str | None = None) -> None:
        """Keep a line, in memory and in the file."""
        raw = source if source_raw is None else source_raw
        self.is_quiet = _ends_with_semicolon(source)
        is_secret = raw.startswith((" ", "\t"))
        kept = None if is_secret else masking.for_history(source, raw, self.shell.user_ns)
        if kept is None:
            super().store_inputs(line_num, *["" if is_secret else LEFT_OUT] * 2)
            self._invalidate()
        else:
            super().store_inputs(line_num, *kept)
            self.writeout_cache()

    def store_output(self, line_num: int) -> None:
        """Keep no output: it may hold a new key."""

    def writeout_cache(self, conn: Any = None) -> None:
        """Write the lines that are not written yet. They are lost if the file cannot be written now."""
        if not self.db_input_cache:
            return
        try:
            if not self.session_number:
                self.new_session(conn)
            super().writeout_cache(conn)
        except sqlite3.Error:
            self._invalidate()

    def _invalidate(self) -> None:
        """Drop the lines that are not written yet."""
        self.db_input_cache = []  # type: ignore[var-annotated]  # IPython's

    def end_session(self) -> None:
        """Record the end of the session, if it has begun."""
        with contextlib.suppress(sqlite3.Error):
            if self.session_number:
                super().end_session()


def _ends_with_semicolon(source: str) -> bool:
    """Whether a semicolon suppresses the display of the cell's value."""
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        return bool(DisplayHook.semicolon_at_end_of_expression(source))
    return False


class Recall(PtkHistoryAdapter):
    """The lines behind the arrow keys: those of this session as typed, earlier ones as stored."""

    def __init__(self, shell: Any) -> None:
        PromptHistory.__init__(self)
        self.shell = shell

    def append_string(self, string: str) -> None:
        PromptHistory.append_string(self, string)
