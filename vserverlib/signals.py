"""Signals that end the program (SIGINT, SIGTERM, SIGHUP): raised where an exception arrives, and otherwise deferred.

A signal becomes an exception: KeyboardInterrupt, or Terminated for the other two. Where an exception would be lost (in
a SQLite callback, in __del__) or do harm (during a commit or a cleanup), the signal is deferred until the next check():
before each statement, each commit, and before a file is put in place. So no signal is lost, and none interrupts what
must be complete.

watch() installs this, and only the program calls it. In plain scripts and notebooks Python handles signals as always,
and the functions of this module do nothing. A signal that is ignored when the program starts (nohup) stays ignored.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time

TYPE_CHECKING = False  # importing typing takes time, in which Ctrl-C would show a traceback
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType, TracebackType
    from typing import Any, TypeVar

    Function = TypeVar("Function", bound=Callable[..., Any])

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended
MAX_DEFERRAL = 5.0  # seconds that a signal can be deferred; after that, a second one is raised at once
FLUSH_TIMEOUT = 1.0  # seconds that flushing may take at the end


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP. Code that handles Ctrl-C handles it too, but the program ends in any case."""


class _State:
    """The state of signal handling in this process.

    waiting: the deferred signal, if any; since: when it came; ending: the signal that ends the program in any case;
    is_interrupted: whether Ctrl-C ends it; held: the number of open held() blocks; finishing: the open finishing()
    block; leave: the function that leaves the current prompt.
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


# Raising signals


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
    """Whether a signal that comes now has to be deferred."""
    if _state.held and not (_state.waiting is not None and time.monotonic() - _state.since > MAX_DEFERRAL):
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
    """Raise a deferred signal, unless within a held() block."""
    if _state.waiting is not None and not _state.held:
        _raise(_state.waiting)


def is_due() -> bool:
    """Whether check() would raise a signal."""
    return _state.waiting is not None and not _state.held


def interrupted() -> BaseException:
    """Return the exception of the signal that interrupted a statement; raise it in place of the database's error."""
    number, _state.waiting = _state.waiting, None
    return KeyboardInterrupt() if number in (None, signal.SIGINT) else Terminated(number)


def is_ending() -> bool:
    """Whether a signal has come that ends the program, even if its exception was lost."""
    return _state.ending is not None


def reset() -> None:
    """Drop a deferred Ctrl-C and blocks that it left open: a user at the prompt starts something new."""
    _state.held, _state.finishing = 0, None
    if _state.waiting == signal.SIGINT:
        _state.waiting = None


def callback(function: Function) -> Function:
    """Decorate a function that C code calls, and whose exceptions are lost: signals are deferred in it."""
    _callbacks.add(function.__code__)
    return function


# Deferring signals


class held:  # noqa: N801  # used like a function
    """A block that must be complete, such as a cleanup: signals are deferred until its end.

    Keep it short. If it hangs, a second signal, MAX_DEFERRAL seconds after the first, interrupts it.
    """

    def __enter__(self) -> None:
        _state.held += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        _state.held -= 1
        check()


class finishing:  # noqa: N801
    """A block with a point of no return, after which signals are deferred until its end. Nested blocks share one.

    For work that is committed and then reported. is_done: whether that point was passed.
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
    """Raise a deferred signal; from now on defer signals until the finishing() block ends.

    Call it just before a commit: a later signal cannot undo the commit, and must not prevent its report.
    """
    check()
    block = _state.finishing
    if block is not None and not block.is_done:
        _state.held += 1
        block.is_done = True


class left_by:  # noqa: N801
    """A block in which a signal that ends the program calls `leave` instead of raising. For event loops."""

    def __init__(self, leave: Callable[[], object]) -> None:
        self.leave = leave

    def __enter__(self) -> None:
        _state.leave = self.leave

    def __exit__(self, *error: object) -> None:
        _state.leave = None


# The program


def watch() -> None:
    """Handle signals in this program from now on. Call it before anything else."""
    atexit.register(_end)  # registered first, called last
    sys.excepthook, sys.unraisablehook = _show, _show_swallowed
    for number in WATCHED:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _handle)
    os.register_at_fork(after_in_child=_leave_alone)


def _leave_alone() -> None:
    """Have a forked child process handle signals as Python does."""
    for number in WATCHED:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def block() -> None:
    """Block signals in the system while the program executes itself again, which would lose them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)


def let_through() -> None:
    """Unblock the signals that block() has blocked; they arrive now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)


def _show(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    """Print an exception that ends the program, unless a signal raised it."""
    if issubclass(kind, KeyboardInterrupt):
        end_interrupted()
    else:
        sys.__excepthook__(kind, error, tb)


def _show_swallowed(unraisable: Any) -> None:
    """Print an exception that Python ignores; if a signal raised it, defer the signal again."""
    if unraisable.exc_type is not None and issubclass(unraisable.exc_type, KeyboardInterrupt):
        _state.waiting = _state.ending or signal.SIGINT
    else:
        sys.__unraisablehook__(unraisable)


def end_interrupted() -> None:
    """Have the program end as Ctrl-C ends it, unless another signal ends it."""
    _state.is_interrupted = True


def _end() -> None:
    """Have the exit status show the signal that ended the program. Runs last."""
    number = _state.ending or (signal.SIGINT if _state.is_interrupted else _state.waiting)

    def end(*_: object) -> None:
        if number == signal.SIGINT:
            os._exit(INTERRUPTED)
        signal.signal(number or signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), number or signal.SIGTERM)

    for each in WATCHED:  # from now on a signal ends the program at once, or is too late
        signal.signal(each, signal.SIG_IGN if number is None else end)
    if number is not None:
        _flush()
        end()


def _flush() -> None:
    """Flush the output, but wait only briefly for a pipe that nobody reads."""
    import contextlib

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, FLUSH_TIMEOUT)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed or missing
            stream.flush()
    signal.setitimer(signal.ITIMER_REAL, 0)
