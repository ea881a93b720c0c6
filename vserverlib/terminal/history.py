"""What the shell keeps of what was typed: in memory for `In`, `%save` and the like, and in a file for the next session.

It owns the file and when it is written. What may be kept of a cell is masking.py's to say.
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

PATIENCE = 3.0  # seconds to wait for another shell that writes to the history
LEFT_OUT = "# left out: a line for another program, which may hold a secret"  # what `In` has in its place


class History(HistoryManager):
    """What was typed, secrets masked; a line that begins with a space is left out. Two shells may write at once.

    In memory until keep_in() names a file. Each line is written when it is entered, before it runs. What comes out is
    never written. is_quiet: whether the cell that was entered last ends with a semicolon.
    """

    is_quiet = False

    def keep_in(self, path: Path) -> None:
        """Read from and write to a file; tell in one line where that cannot be, and stay in memory."""
        try:
            self._open(home.own_file(path))
            self.db.execute("PRAGMA synchronous = OFF")  # a line is not worth the wait for the disk
        except (OSError, sqlite3.Error) as error:
            self._open(":memory:")
            reason = getattr(error, "strerror", None) or error
            messages.notify(f"history is off: {printable(path, 200)} cannot be used ({reason})", "yellow")

    def _open(self, path: Path | str) -> None:
        self.db.close()
        self.hist_file, self.connection_options = path, {"timeout": PATIENCE}
        # Unwrapped, for it would move a file away that is damaged, or that another shell just writes to.
        inspect.unwrap(HistoryManager.init_db)(self)

    def new_session(self, conn: Any = None) -> None:
        """Begin a session, at its first line: a shell that is opened and left again writes nothing."""
        if self.db_input_cache:
            super().new_session(conn)

    def store_inputs(self, line_num: int, source: str, source_raw: str | None = None) -> None:
        """Keep a line, in memory (for `In`, `%save`) as in the file."""
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
        """Write nothing of what a cell gave: a new key may be among it."""

    def writeout_cache(self, conn: Any = None) -> None:
        """Write what is not written yet; where the file is not to be had now, it is lost."""
        if not self.db_input_cache:
            return
        try:
            if not self.session_number:
                self.new_session(conn)
            super().writeout_cache(conn)
        except sqlite3.Error:
            self._invalidate()

    def _invalidate(self) -> None:
        """Write nothing of what was entered last."""
        self.db_input_cache = []  # type: ignore[var-annotated]  # IPython's

    def end_session(self) -> None:
        """Note when the session ended, if it was begun."""
        with contextlib.suppress(sqlite3.Error):
            if self.session_number:
                super().end_session()


def _ends_with_semicolon(source: str) -> bool:
    """Whether IPython is not to display the value of a cell."""
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        return bool(DisplayHook.semicolon_at_end_of_expression(source))
    return False


class Recall(PtkHistoryAdapter):
    """What the arrow keys bring back: this session's lines as they were typed, earlier ones as they were kept."""

    def __init__(self, shell: Any) -> None:
        PromptHistory.__init__(self)
        self.shell = shell

    def append_string(self, string: str) -> None:
        PromptHistory.append_string(self, string)
