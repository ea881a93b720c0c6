"""Printing the log of a run while it grows, as `tail -f` does: from the database, to which the server writes it."""

from __future__ import annotations

import sys
import time
from typing import Any

from models import Result
from vserverlib import Error, printable
from vserverlib.messages import notify
from vserverlib.terminal.watching import POLL, ChangeDetector, check_reader, explain_copy

OVERLAP = 200  # characters at the end of the printed text, which find the rest of a log that has lost its beginning


def follow(database: Any, id: int) -> None:
    """Print the log of a result on stdout until its run has ended. Raises an Error if the result is deleted."""
    detector, printed = ChangeDetector(database), ""
    while True:
        if detector.has_changed():
            run = _read(id)
            rest = _rest(printed, run.log or "")
            _write(rest)
            printed = (run.log or "") if rest else printed
            if run.complete:
                break
        if detector.is_private:
            return notify(explain_copy(database))
        check_reader()
        time.sleep(POLL)
    if printed and not printed.endswith("\n"):
        _write("\n")
    return notify(f"result {id} has ended: {printable(run.status)}" + ("" if printed else ", without a log"))


def _read(id: int) -> Any:
    run = Result.by_id(id)
    if run is None:
        raise Error(f"result {id} was deleted: its log cannot be followed any longer")
    return run


def _rest(printed: str, log: str) -> str:
    """Return the part of a log after the printed text.

    A node that reports a status without the log empties it until the whole log comes; a long one loses its beginning.
    """
    if log.startswith(printed):
        return log[len(printed) :]
    end = printed[-OVERLAP:]
    at = log.rfind(end)
    return log[at + len(end) :] if at >= 0 else log


def _write(text: str) -> None:
    """Print a text without characters that control a terminal."""
    lines = text.expandtabs().split("\n")
    sys.stdout.write("\n".join(printable(line, len(line) * 10) for line in lines))
    sys.stdout.flush()
