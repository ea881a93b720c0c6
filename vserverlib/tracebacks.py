"""Tracebacks of uncaught exceptions in plain scripts: Python's own, with secrets masked in the source lines.

That of an Error has the frames of the script only, as in `vserver shell FILE`.

The shell, IPython and notebooks print their own tracebacks. Tracebacks that a program prints or logs itself
(traceback.print_exc(), logging) are not masked.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vserverlib import Error

ROOT = Path(__file__).parent.parent  # of models.py and shell.py


def install() -> None:
    """Mask the tracebacks that Python prints, unless another program has replaced Python's hook."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _print_of_thread


def _print(kind: Any, error: Any, trace: Any) -> None:
    import traceback  # rarely needed

    message = traceback.TracebackException(kind, error, trace, lookup_lines=False)
    is_ours = isinstance(error, Error)
    for exception in _chain(message):
        frames = [frame for frame in exception.stack if not (is_ours and is_library(frame.filename))]
        _mask_sources({frame.filename for frame in frames})
        exception.stack[:] = [_without_marks(traceback, frame) for frame in frames]
    sys.stderr.write("".join(message.format(chain=not is_ours)))


def is_library(file: str) -> bool:
    """Whether a file is one of vserver's modules, Peewee, or contextlib, which is between vserver's frames."""
    from vserverlib.drivers import peewee

    path = Path(file)
    is_top = path.parent == ROOT and path.name in ("models.py", "shell.py", "vserver.py")
    return is_top or (ROOT / "vserverlib") in path.parents or file in (peewee.__file__, contextlib.__file__)


def _print_of_thread(args: Any) -> None:
    if args.exc_type is not SystemExit:
        sys.stderr.write(f"Exception in thread {getattr(args.thread, 'name', '')}:\n")
        _print(args.exc_type, args.exc_value, args.exc_traceback)


def _chain(message: Any) -> Iterator[Any]:
    if message is not None:
        yield message
        for other in (message.__cause__, message.__context__, *(getattr(message, "exceptions", None) or ())):
            yield from _chain(other)


def _mask_sources(files: set[str]) -> None:
    """Mask the lines of files that contain a secret: the whole file, because a text may span lines."""
    import linecache

    from vserverlib.masking import mask  # 15 ms

    for file in files:
        source = "".join(linecache.getlines(file))
        masked = mask(source) if "site-packages" not in file else source
        if masked != source:
            linecache.cache[file] = (len(source), None, masked.splitlines(keepends=True), file)


def _without_marks(traceback: Any, frame: Any) -> Any:
    """Return a frame without position marks if its line is masked: they would be misplaced."""
    from vserverlib.scanning import MASK

    if MASK not in (frame.line or ""):
        return frame
    return traceback.FrameSummary(frame.filename, frame.lineno, frame.name, line=frame.line)
