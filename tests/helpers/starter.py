"""Starts `vserver` in a fifth of the time: a Python that has all modules imported forks for each start.

What starts is a process of its own, with its own arguments, environment, folder and streams. What imports hide is not
found this way, so the tests that docs/reliability.md names for a promise start a new Python each time (conftest.py).
With VSERVER_PLAIN_STARTS=1 all do.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

LONGEST = 100_000  # bytes of a request: a socket does not take much more at once
AT_START = ("LANG", "LC_", "PYTHON", "COVERAGE", "EDITOR")  # libraries read such variables when they are imported


def can_start(request: bytes, env: Mapping[str, str]) -> bool:
    """Whether a starter can do this, or only a new Python."""
    if "VSERVER_PLAIN_STARTS" in os.environ or "COVERAGE_PROCESS_CONFIG" in env or len(request) > LONGEST:
        return False
    return _at_start(env) == _at_start(_environment())


class Started:
    """A process that a starter has forked. pid: its id; streams: its standard input, output and error."""

    def __init__(self, request: bytes, streams: Sequence[int]) -> None:
        ours, reply = socket.socketpair()
        socket.send_fds(_starter(), [request], [*streams, reply.fileno()])
        reply.close()
        with ours:
            self._replies = ours.makefile()
        self.pid = int(self._replies.readline())
        self.status: int | None = None

    def wait(self) -> int:
        """Wait for its end and return its exit status; negative: the signal that ended it."""
        if self.status is None:
            with self._replies:
                self.status = int(self._replies.readline())
        return self.status

    def kill(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def run(request: bytes, given: str, seconds: float) -> tuple[int, str, str]:
    """Have a program started, and return its exit status and its output. Raises TimeoutExpired.

    request: as written by `request()`; given: its standard input; seconds: after which it is killed.
    """
    (stdin, typed), (out, stdout), (err, stderr) = os.pipe(), os.pipe(), os.pipe()
    started = Started(request, [stdin, stdout, stderr])
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    timer = threading.Timer(seconds, started.kill, [signal.SIGKILL])
    timer.start()
    with ThreadPoolExecutor(3) as threads:
        threads.submit(_write, typed, given)
        printed = [threads.submit(_read, descriptor) for descriptor in (out, err)]
        status = started.wait()
        texts = [future.result() for future in printed]
    if timer.finished.is_set():
        raise subprocess.TimeoutExpired(request, seconds, *texts)
    timer.cancel()
    return status, texts[0], texts[1]


def request(
    words: Sequence[str], folder: str, env: Mapping[str, str], code: str | None = None, has_terminal: bool = False
) -> bytes:
    """Return what a starter is sent: to run `vserver WORDS`, or `python -c CODE WORDS`.

    folder: the current folder; has_terminal: whether its standard input is the terminal of a new session.
    """
    asked = {"words": words, "folder": folder, "env": dict(env), "code": code, "has_terminal": has_terminal}
    return json.dumps(asked).encode()


def _read(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(BrokenPipeError), open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as to:
        to.write(text)


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(AT_START)}


def _environment() -> dict[str, str]:
    from pathlib import Path

    from helpers.terminal import environment

    return environment(Path("/"))


@cache
def _starter() -> socket.socket:
    """Return a socket to the starter of this process, which ends when the socket closes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, __file__, str(theirs.fileno())]
    process = subprocess.Popen(words, env=_environment(), pass_fds=[theirs.fileno()])
    theirs.close()

    @atexit.register
    def _end() -> None:
        ours.close()
        process.wait()

    return ours


# In the starter


def _serve(requests: socket.socket) -> None:
    """Fork for each request until the other end closes; in the new process, run the program."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, 2 * LONGEST, 4)
        if not data:
            return
        if os.fork() == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, reply = descriptors
    if child := os.fork():
        _wait_for(child, streams, socket.socket(fileno=reply))
    os.close(reply)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    _be_python(**json.loads(data))


def _wait_for(child: int, streams: Sequence[int], reply: socket.socket) -> None:
    """Send the id and the exit status of a process, and end."""
    for descriptor in (0, 1, 2, *streams):
        os.close(descriptor)
    with contextlib.suppress(BrokenPipeError):
        reply.send(b"%d\n" % child)
        reply.send(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(0)


def _import_all() -> None:
    """Import the modules of vserver, but for those that only some installations have libraries for."""
    import importlib
    import pkgutil
    import runpy  # noqa: F401  # used after the fork

    import vserverlib

    for module in pkgutil.walk_packages(vserverlib.__path__, "vserverlib."):
        if not module.name.startswith(("vserverlib.migrations", "vserverlib.notebooks", "vserverlib.serving")):
            importlib.import_module(module.name)


def _be_python(words: Sequence[str], folder: str, env: Mapping[str, str], code: str | None, has_terminal: bool) -> None:
    """Do what Python does, but for freeing all objects at the end: that takes half of the time."""
    import runpy

    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    if has_terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    program = ["-m", "vserver"] if code is None else ["-c", code]
    sys.path[0] = folder if code is None else ""
    sys.argv, sys.orig_argv = [program[0], *words], [sys.executable, *program, *words]
    try:
        if code is None:
            runpy._run_module_as_main("vserver")  # type: ignore[attr-defined]
        else:
            exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))
            sys.exit(0)
    except SystemExit as ended:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        if ended.code is not None and not isinstance(ended.code, int):
            raise
        os._exit((ended.code or 0) & 0xFF)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        _import_all()
        _serve(given)
