"""Signals that end the program (SIGINT, SIGTERM, SIGHUP): raised where an exception arrives, and otherwise kept.

A signal becomes an exception: KeyboardInterrupt, or Terminated for the two others. Where an exception would be
swallowed (a callback of SQLite's, a __del__) or would do harm (a commit, cleaning up), the signal waits. It is raised
at the next check(): before each statement, each commit, and before a file is put in its place. So no signal is lost,
and none breaks into what must be done as a whole.

Only the program installs this, by watch(). In a plain script, and in a notebook, Python handles signals as ever, and
the functions of this module do nothing. A signal that is ignored when the program starts (nohup) stays ignored.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time

TYPE_CHECKING = False  # typing takes its time to be imported, in which Ctrl-C would show a traceback
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, TracebackType
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # what a shell gives as the status of a program that Ctrl-C ended
PATIENCE = 5.0  # seconds that a signal waits; after that, another one breaks into what is done as a whole
FLUSHING = 1.0  # seconds that a pipe has to take what was printed, at the end


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP: what handles Ctrl-C handles it, but the program ends in any case."""


class _State:
    """What there is to know of signals in this process.

    waiting: one that was not raised yet; since: when it came; ending: the one that ends the program in any case;
    is_interrupted: whether Ctrl-C ends it; held: how many blocks are open in which none is raised; finishing: the block
    that is open in which what was done is reported; leave: what leaves the prompt that is shown.
    """

    def __init__(self) -> None:
        self.waiting: int | None = None
        self.since = 0.0
        self.ending: int | None = None
        self.is_interrupted = False
        self.held = 0
        self.finishing: finishing | None = None
        self.leave: Callable[[], object] | None = None


_state = _State()
_callbacks: set[CodeType] = set()


# Raising them


def _handle(number: int, frame: FrameType | None) -> None:
    if number != signal.SIGINT:
        _state.ending = number
        if _state.leave is not None:
            _state.leave()
            return
    if _waits(frame):
        if _state.waiting is None:
            _state.since = time.monotonic()
        if _state.waiting in (None, signal.SIGINT):
            _state.waiting = number
        return
    _raise(number)


def _waits(frame: FrameType | None) -> bool:
    """Whether a signal that comes now has to wait."""
    if _state.held and not (_state.waiting is not None and time.monotonic() - _state.since > PATIENCE):
        return True
    while frame is not None:
        if frame.f_code in _callbacks:
            return True
        frame = frame.f_back
    return False


def _raise(number: int) -> None:
    _state.waiting = None
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


def check() -> None:
    """Raise a signal that waits, unless a block is open in which none is raised."""
    if _state.waiting is not None and not _state.held:
        _raise(_state.waiting)


def is_due() -> bool:
    """Whether a signal waits that check() would raise."""
    return _state.waiting is not None and not _state.held


def interrupted() -> BaseException:
    """Return what is to be raised in place of an error that says that a statement was interrupted."""
    number, _state.waiting = _state.waiting, None
    return KeyboardInterrupt() if number in (None, signal.SIGINT) else Terminated(number)


def is_ending() -> bool:
    """Whether a signal has come that ends the program, whatever has become of its exception."""
    return _state.ending is not None


def begin_anew() -> None:
    """Forget a Ctrl-C that waits, and blocks that it has left open: somebody at a prompt begins something new."""
    _state.held, _state.finishing = 0, None
    if _state.waiting == signal.SIGINT:
        _state.waiting = None


def callback(function: Function) -> Function:
    """Have no signal be raised in a function that C code calls, and whose exceptions it would swallow."""
    _callbacks.add(function.__code__)
    return function


# Holding them back


class held:  # noqa: N801  # it is used as a function is
    """A block that is done as a whole, such as cleaning up: a signal that comes meanwhile is raised at its end.

    Keep it short. Should it hang, a signal that comes PATIENCE seconds after the first breaks into it.
    """

    def __enter__(self) -> None:
        _state.held += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        _state.held -= 1
        check()


class finishing:  # noqa: N801
    """A block with a point of no return: from there on, signals wait until it has ended. One within another is that.

    For what is done and reported: is_done says whether that point was passed.
    """

    def __init__(self) -> None:
        self.is_done = False

    def __enter__(self) -> finishing:
        if _state.finishing is None:
            _state.finishing = self
        return _state.finishing

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if _state.finishing is self:
            _state.finishing = None
            _state.held -= self.is_done
        check()


def point_of_no_return() -> None:
    """Raise what waits; after that, have signals wait until the block of finishing() has ended.

    For the moment before a commit: what comes later cannot take it back, and is not to keep it from being reported.
    """
    check()
    block = _state.finishing
    if block is not None and not block.is_done:
        _state.held += 1
        block.is_done = True


class left_by:  # noqa: N801
    """A block in which a signal that ends the program is not raised: this is called. For a loop of events."""

    def __init__(self, leave: Callable[[], object]) -> None:
        self.leave = leave

    def __enter__(self) -> None:
        _state.leave = self.leave

    def __exit__(self, *error: object) -> None:
        _state.leave = None


# The program


def watch() -> None:
    """Handle signals in this program from now on, and end it as its signal says. To be called first of all."""
    atexit.register(_end)  # the first that is registered is the last that is called
    sys.excepthook, sys.unraisablehook = _show, _show_swallowed
    for number in WATCHED:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _handle)
    os.register_at_fork(after_in_child=_leave_alone)


def _leave_alone() -> None:
    """Have a process that a script has forked handle signals as Python does."""
    for number in WATCHED:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def block() -> None:
    """Have signals wait in the system: for a program that starts anew, which would lose them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)


def let_through() -> None:
    """Take the signals that have waited in the system."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


def _show(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """Show an exception that ends the program, unless a signal has raised it."""
    if issubclass(kind, KeyboardInterrupt):
        end_interrupted()
    else:
        sys.__excepthook__(kind, error, tb)


def _show_swallowed(unraisable: Any) -> None:
    """Show an exception that Python ignores; one that a signal has raised waits again."""
    if unraisable.exc_type is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
        _state.waiting = _state.ending or signal.SIGINT
    else:
        sys.__unraisablehook__(unraisable)


def end_interrupted() -> None:
    """Have the program end as Ctrl-C ends it, if it was no other signal."""
    _state.is_interrupted = True


def _end() -> None:
    """Have the status of the program say which signal has ended it, as the last thing of all."""
    number = _state.ending or (signal.SIGINT if _state.is_interrupted else _state.waiting)

    def end(*_: object) -> None:
        if number == signal.SIGINT:
            os._exit(INTERRUPTED)
        signal.signal(number or signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), number or signal.SIGTERM)

    for each in WATCHED:  # one that comes now ends it at once; when all is done, it comes too late
        signal.signal(each, signal.SIG_IGN if number is None else end)
    if number is not None:
        _flush()
        end()


def _flush() -> None:
    """Write what was printed, but do not wait for long for a pipe that nobody reads."""
    import contextlib

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, FLUSHING)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, or none at all
            stream.flush()
    signal.setitimer(signal.ITIMER_REAL, 0)
