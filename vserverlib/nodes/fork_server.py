"""Starts runs in the Python that their algorithm needs, and ends each as a whole. A program of its own.

It runs in any Python from 3.10 on, without vserver. It imports slow libraries once, and forks for each run; the
algorithm and its data are read anew each time. The processes, each the parent of the next:

    node         sends messages, each with a run's folder, control socket and log pipe: see fork_servers.py
    fork server  forks a supervisor for each run, unless something was installed meanwhile
    supervisor   waits for the end of the run, of its time, or of its control socket, and kills all that is left
    run          the leader of a session of its own; it becomes the wrapper, or executes a command (`run_with`)

The sockets of a node close when it ends, however it ends. Then each supervisor kills its run. If the node has not said
that it ends, the fork server removes all folders.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import importlib.util
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REQUEST = "request.json"  # in a run's folder
MAX_MESSAGE = 8192  # bytes: a path
BEGUN = b"+"  # the first message of a supervisor; the other is JSON, see _wait()
END = b"."  # the last message of a node
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
START_FAILED = 127  # the exit status of a command that cannot be executed, as in shells


# What the system does for us


@functools.cache
def _prctl() -> Callable[[int, int], object]:
    """Return the function that sets an option of this process on Linux; other systems have only the process group."""
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError, ImportError):
        return lambda *_: None
    return lambda option, value: prctl(option, value, 0, 0, 0)


def _close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/dev/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the one that lists the folder
                os.close(int(name))


def _read_nothing() -> None:
    """Have standard input be empty."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _descendants() -> set[int]:
    """Return the processes that this one and its descendants have started, on Linux; a supervisor adopts orphans."""
    try:
        parents = {int(name): _parent(name) for name in os.listdir("/proc") if name.isdecimal()}
    except OSError:
        return set()
    found: set[int] = set()
    generation = {os.getpid()}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        found |= generation
    return found


def _parent(pid: str) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # it has ended
        return 0
    return int(text.rpartition(b")")[2].split()[1])


# The run


def _become_run(request: dict[str, Any], folder: str, log: int, wrapper: Any) -> None:
    """Turn this process into the run. Never returns."""
    code = 1
    try:
        _isolate(request, folder, log)
        if request["command"]:
            _execute(request["command"])
        code = _wrap(request, wrapper)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def _isolate(request: dict[str, Any], folder: str, log: int) -> None:
    """Give this process its session, limits, environment, folder and streams, and nothing of the fork server's."""
    os.setsid()
    _prctl()(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for target in (1, 2):
        os.dup2(log, target)
    _close_all_but({0, 1, 2})
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if request["memory"]:
        resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))


def _execute(command: list[str]) -> None:
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be executed: {error.strerror}\n".encode())
        os._exit(START_FAILED)


def _wrap(request: dict[str, Any], wrapper: Any) -> int:
    """Call the wrapper in this process, and return the exit status."""
    streams: Any = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.reconfigure(line_buffering=True)
    sys.dont_write_bytecode = True  # which would be taken for current if the code changes within a second
    importlib.invalidate_caches()
    if "numpy.random" in sys.modules:  # or each run would draw the same numbers
        sys.modules["numpy.random"].seed()
    code: Any = 0
    try:
        wrapper.main([request["kind"], request["target"]])
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    with contextlib.suppress(BaseException):  # as the interpreter ends, but without taking modules apart
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    for stream in streams:
        with contextlib.suppress(Exception):
            stream.flush()
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    os.write(2, f"{code}\n".encode())
    return 1


# The supervisor


def _supervise(folder: str, control: socket.socket, log: int, wrapper: Any) -> None:
    """Start a run, wait for its end, report it, and remove its folder."""
    _read_nothing()  # in place of the fork server's socket
    request = json.loads(Path(folder, REQUEST).read_text())
    _prctl()(PR_SET_CHILD_SUBREAPER, 1)
    read, write = os.pipe()
    for each in (read, write):
        os.set_blocking(each, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    run = os.fork()
    if run == 0:
        _become_run(request, folder, log, wrapper)
    _close_all_but({0, 1, 2, read, write, control.fileno()})
    with contextlib.suppress(OSError):  # the node has ended
        control.sendall(BEGUN)
    ended = _wait(run, control, read, request["seconds"])
    _kill_all(run)
    with contextlib.suppress(OSError):  # the node has ended
        control.sendall(json.dumps(ended).encode())
        control.recv(1)  # returns when it has read the result
    if not request["keep"]:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(run: int, control: socket.socket, wake: int, seconds: float) -> dict[str, Any]:
    """Return how a run ended: `exit`, its status, negative for a signal; or `ended`: by "time" or "order"."""
    end = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(run, os.WNOHANG)
        if pid:
            return {"exit": os.waitstatus_to_exitcode(status)}
        left = end - time.monotonic()
        if left <= 0:
            return {"ended": "time"}
        ready = select.select([control.fileno(), wake], [], [], min(left, 3600))[0]
        if control.fileno() in ready:
            return {"ended": "order"}
        if wake in ready:
            os.read(wake, 4096)


def _kill_all(run: int) -> None:
    """Kill the group of a run, and what has left it; and wait for all."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(run, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):  # there are no more
        while True:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            for pid in _descendants():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


# The fork server


def _receive(node: socket.socket) -> tuple[str, list[int]]:
    """Return the folder of the next run, and its control socket and log pipe; END or nothing after the last."""
    message, ancillary, _, _ = node.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(2 * struct.calcsize("i")))
    found = [list(struct.unpack("2i", data)) for _, _, data in ancillary]
    return os.fsdecode(message), found[0] if found else []


def _load(name: str) -> Any:
    """Import a module beside this file, under a name that no algorithm has."""
    spec = importlib.util.spec_from_file_location(f"vserver_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(root: str, keep: str, kind: str, target: str) -> None:
    """Start runs until the node closes its end of the socket, which is standard input.

    keep: "keep" or "remove", the folders. kind: "package" or "file", as for the wrapper; "command" forks for commands.
    """
    sys.path.pop(0)  # this file's folder, whose modules are not the algorithm's
    node = socket.socket(fileno=os.dup(0))
    slow_imports, wrapper = _load("slow_imports"), None
    installed = slow_imports.installed()
    if kind != "command":
        wrapper = _load("wrapper")
        slow_imports.import_slow(kind, target)
    _prctl()  # once for all runs, because it takes time to find
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no supervisor has to be waited for
    while True:
        folder, descriptors = _receive(node)
        if not descriptors:
            break
        if installed == slow_imports.installed() and os.fork() == 0:  # else the node starts another fork server
            node.close()
            _become_supervisor(folder, descriptors, wrapper)
        for each in descriptors:
            os.close(each)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, 0)  # returns when all have ended
    if keep != "keep" and folder != END.decode():  # the node was killed
        shutil.rmtree(root, ignore_errors=True)


def _become_supervisor(folder: str, descriptors: list[int], wrapper: Any) -> None:
    """Turn this process into a supervisor. Never returns."""
    try:
        control, log = descriptors
        _supervise(folder, socket.socket(fileno=control), log, wrapper)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
