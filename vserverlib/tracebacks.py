"""Tracebacks of uncaught exceptions in plain scripts: Python's own, with secrets masked in the source lines.

That of a mistake, an Error or one of the database's errors, has the frames of the script only, and a line that says
what to do, as in `vserver shell FILE`. `python -X dev` prints all frames.

The shell, IPython and notebooks print their own tracebacks. Tracebacks that a program prints or logs itself
(traceback.print_exc(), logging) are not masked.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import traceback

ROOT = Path(__file__).parent.parent  # of models.py and shell.py
BETWEEN = ("playhouse", "psycopg", "IPython")  # in site-packages
STANDARD = Path(threading.__file__).parent  # Python's own library
REOPEN = "connect again"
WHOLE = "python -X dev prints the whole traceback"


def install() -> None:
    """Mask the tracebacks that Python prints, unless another program has replaced Python's hook."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _print_of_thread


def _print(kind: Any, error: Any, trace: Any) -> None:
    sys.stderr.write("".join(lines(error.with_traceback(trace), whole=sys.flags.dev_mode)))


def lines(error: BaseException, *, whole: bool = False) -> Iterator[str]:
    """Return the traceback of an exception, secrets masked; that of a mistake has the user's own frames.

    whole: with all frames.
    """
    import traceback  # rarely needed

    message = traceback.TracebackException.from_exception(error, lookup_lines=False)
    is_short = not whole and shorten(message, error, REOPEN, WHOLE)
    for exception in chain(message):
        _mask_sources({frame.filename for frame in exception.stack})
        exception.stack[:] = [without_marks(frame) for frame in exception.stack]
    return message.format(chain=not is_short)


def shorten(message: traceback.TracebackException, error: BaseException, reopen: str, whole: str) -> bool:
    """Leave only the user's own frames of a mistake, and add what to do; return whether it is one.

    reopen, whole: see database_errors.remedy().
    """
    from vserverlib import database_errors  # imports Peewee

    if not database_errors.is_mistake(error):
        return False
    is_own = bool(message.stack) and not is_library(message.stack[-1].filename)  # such as of the script's own sqlite3
    message.stack[:] = [frame for frame in message.stack if not is_library(frame.filename)]
    if not is_own and (remedy := database_errors.remedy(error, reopen, whole)):
        message.__notes__ = [*(getattr(message, "__notes__", None) or ()), remedy]
    return True


def is_library(file: str) -> bool:
    """Whether a file is one of vserver's modules, or of the libraries between them and the user's lines."""
    from vserverlib.drivers import peewee

    path = Path(file)
    is_top = path.parent == ROOT and path.name in ("models.py", "shell.py", "vserver.py")
    installed = next((after for before, after in pairwise(path.parts) if before.endswith("-packages")), "")
    is_between = file == peewee.__file__ or installed in BETWEEN or (STANDARD in path.parents and not installed)
    return is_top or (ROOT / "vserverlib") in path.parents or is_between


def _print_of_thread(args: Any) -> None:
    if args.exc_type is not SystemExit:
        sys.stderr.write(f"Exception in thread {getattr(args.thread, 'name', '')}:\n")
        _print(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def chain(message: Any) -> Iterator[Any]:
    """Yield an exception of a TracebackException, and those that it was raised from."""
    if message is not None:
        yield message
        for other in (message.__cause__, message.__context__, *(getattr(message, "exceptions", None) or ())):
            yield from chain(other)


def _mask_sources(files: set[str]) -> None:
    """Mask the lines of files that contain a secret: the whole file, because a text may span lines."""
    import linecache

    from vserverlib.masking import mask  # 15 ms

    for file in files:
        source = "".join(linecache.getlines(file))
        masked = mask(source) if "site-packages" not in file else source
        if masked != source:
            linecache.cache[file] = (len(source), None, masked.splitlines(keepends=True), file)


def without_marks(frame: traceback.FrameSummary) -> traceback.FrameSummary:
    """Return a frame without the marks under its line if that is masked: they would be in the wrong place."""
    from vserverlib.scanning import MASK

    if MASK not in (frame.line or ""):
        return frame
    return type(frame)(frame.filename, frame.lineno, frame.name, line=frame.line)
