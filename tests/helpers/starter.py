"""Starts `vserver` in a fifth of the time: a Python that has all modules imported forks for each start.

What starts is a process of its own, with its own arguments, environment, folder and streams. What imports hide is not
found this way, so modules that test promises of a fresh process use the fixture `plain_starts`, and .ci/run has
VSERVER_PLAIN_STARTS=1 for the whole suite on the newest Python.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

LONGEST = 100_000  # bytes of a request: a socket does not take much more at once
AT_START = ("LANG", "LC_", "PYTHON", "COVERAGE")  # Python reads variables that begin so before anything runs


def can_start(request: bytes, env: Mapping[str, str]) -> bool:
    """Whether a starter can do this, or only a new Python."""
    if "VSERVER_PLAIN_STARTS" in os.environ or "COVERAGE_PROCESS_CONFIG" in env or len(request) > LONGEST:
        return False
    return _at_start(env) == _at_start(_environment())


def run(request: bytes, given: str, seconds: float) -> tuple[int, str, str]:
    """Have a program started, and return its exit status and its output. Raises TimeoutExpired.

    request: as written by `request()`; given: its standard input; seconds: after which it is killed.
    """
    (stdin, typed), (out, stdout), (err, stderr), (ours, reply) = os.pipe(), os.pipe(), os.pipe(), socket.socketpair()
    socket.send_fds(_starter(), [request], [stdin, stdout, stderr, reply.fileno()])
    reply.close()
    for descriptor in (stdin, stdout, stderr):
        os.close(descriptor)
    with ours.makefile() as replies, ours, ThreadPoolExecutor(3) as threads:
        pid = int(replies.readline())
        timer = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
        timer.start()
        threads.submit(_write, typed, given)
        printed = [threads.submit(_read, descriptor) for descriptor in (out, err)]
        status = int(replies.readline())
        texts = [future.result() for future in printed]
        if timer.finished.is_set():
            raise subprocess.TimeoutExpired(request, seconds, *texts)
        timer.cancel()
    return status, texts[0], texts[1]


def request(words: Sequence[str], folder: str, env: Mapping[str, str]) -> bytes:
    """Return what a starter is sent: to run `vserver WORDS` in a folder and an environment."""
    return json.dumps({"words": words, "folder": folder, "env": dict(env)}).encode()


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
    _be_vserver(**json.loads(data))


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


def _be_vserver(words: Sequence[str], folder: str, env: Mapping[str, str]) -> None:
    """Do what `python -m vserver WORDS` does, but for freeing all objects at the end: that takes half of the time."""
    import runpy

    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = ["-m", *words]
    sys.orig_argv = [sys.executable, "-m", "vserver", *words]
    try:
        runpy._run_module_as_main("vserver")  # type: ignore[attr-defined]
    except SystemExit as ended:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        if not isinstance(ended.code, int):
            raise
        os._exit(ended.code & 0xFF)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        _import_all()
        _serve(given)
