"""Replacements for magics of IPython that could write secrets to a file.

The others read the history, in which secrets are masked (`%save`, `%macro`, `%rerun`, `%edit`), write the text of
their own cell (`%%writefile`), or write nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from IPython.core.logger import Logger
from IPython.core.magic import Magics, line_magic, magics_class

from vserverlib import Error

INSTEAD = "%history -f FILE writes the lines of this session, with secrets masked"
NO_LOG = f"%logstart is off: the log would contain passwords as typed; {INSTEAD}"
NO_NOTEBOOK = f"%notebook is off: the notebook would contain the output of cells, such as a new key; {INSTEAD}"
NO_PASTEBIN = f"%pastebin is off: it would publish lines of this session; {INSTEAD}"
NO_OUTPUTS = "%history -o with -f is off: the file would contain the output of cells, such as a new key; leave out -o"


@contextlib.contextmanager
def _private(names: list[str]) -> Iterator[None]:
    """Make files readable by their owner only, including files that existed before."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
        for name in names:
            with contextlib.suppress(OSError):  # it was not written
                Path(name).expanduser().chmod(0o600)


class NoLog(Logger):
    """A log that refuses to start."""

    def logstart(self, *args: Any, **options: Any) -> None:
        raise Error(NO_LOG)


@magics_class
class OurMagics(Magics):
    """The magics that replace IPython's own."""

    @line_magic  # type: ignore[untyped-decorator]
    def logstart(self, line: str) -> None:
        """Not available here: the log would contain passwords as typed."""
        raise Error(NO_LOG)

    @line_magic  # type: ignore[untyped-decorator]
    def notebook(self, line: str) -> None:
        """Not available here: the notebook would contain the output of cells, such as a new key."""
        raise Error(NO_NOTEBOOK)

    @line_magic  # type: ignore[untyped-decorator]
    def pastebin(self, line: str) -> None:
        """Not available here: it would publish lines of this session."""
        raise Error(NO_PASTEBIN)

    @line_magic  # type: ignore[untyped-decorator]
    def history(self, line: str) -> None:
        """Print the lines of this session, or write them to a file: see IPython's %history?. -o excludes -f."""
        own = self.shell.magics_manager.registry["HistoryMagics"]
        asked = own.history.__func__.parser.parse_argstring(line)
        if asked.filename and asked.get_output:
            raise Error(NO_OUTPUTS)
        with _private([asked.filename] if asked.filename else []):
            own.history(line)

    @line_magic  # type: ignore[untyped-decorator]
    def save(self, line: str) -> None:
        """Write lines of this session to a file that only you can read: %save [-r] [-f] [-a] FILE 1-3 5.

        -r: as typed. -f: overwrite without asking. -a: append.
        """
        from vserverlib.terminal import hints

        if hint := hints.of_save(line, self.shell.user_ns):
            raise Error(hint)
        own = self.shell.magics_manager.registry["CodeMagics"]
        options, words = self.parse_options(line, "fra", mode="list")
        ending = "" if not words or words[0].endswith((".py", ".ipy")) else ".ipy" if "r" in options else ".py"
        with _private([words[0] + ending] if words else []):
            own.save(line)
