"""Starts Python programs in a fraction of the time: a Python that has modules imported forks for each start.

What starts is a process of its own, with its own arguments, environment, folder and streams. There are two starters:
one has all our modules, for `vserver`, and hashes secrets with the fewest rounds; the other has the libraries only, for
scripts, which import ours anew.

What imports hide is not found this way, so the tests that docs/reliability.md names for a promise start a new Python
each time (conftest.py). With VSERVER_PLAIN_STARTS=1 all do.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import marshal
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

LONGEST = 100_000  # bytes of a request: a socket does not take much more at once
AT_START = ("LANG", "LC_", "PYTHON")  # Python and libraries read such variables when they start
MODULES = ("vserver", "IPython")  # that are started by -m
LIBRARIES = (
    *("IPython.core.interactiveshell", "bcrypt", "click", "peewee", "playhouse.migrate", "prompt_toolkit"),
    *("psycopg", "rich.console", "rich.panel", "rich.progress", "rich.table", "rich.tree", "sqlite3", "yaml"),
)
# What `vserver` is in a folder of programs: it asks the starter at SOCKET, or else starts CODE in this Python. Without
# `site` and `socket`, whose import takes longer than all of the rest.
PROGRAM = """#!{python} -IS
import _signal, _socket, marshal, posix, sys
CODE, SOCKET = {code!r}, {path!r}
asking = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
request = marshal.dumps((["-c", CODE, *sys.argv[1:]], posix.getcwd(), posix.environ, False))
streams = b"".join(number.to_bytes(4, sys.byteorder) for number in range(3))
pid = b""
if len(request) < {longest}:
    try:
        asking.connect(SOCKET)
        asking.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
        pid = asking.recv(100)
    except OSError:  # the starter has ended, or a stream is closed
        pass
if not pid:
    posix.execv({python!r}, [{python!r}, "-c", CODE, *sys.argv[1:]])
for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGTERM):
    _signal.signal(number, lambda number, _: posix.kill(int(pid), number))
status = int(asking.recv(100))
if status < 0:
    _signal.signal(-status, _signal.SIG_DFL)
    posix.kill(posix.getpid(), -status)
posix._exit(status)
"""
CODE = "import sys, vserver; sys.argv[0] = sys.orig_argv[0] = 'vserver'; vserver.main(prog_name='vserver')"


class Request(NamedTuple):
    """What a starter is asked: to do what Python does with words, in a folder and an environment.

    has_terminal: whether the standard input is the terminal of a new session; has_ours: whether our modules may be
    imported already.
    """

    words: list[str]
    folder: str
    env: Mapping[str, str]
    has_terminal: bool = False
    has_ours: bool = True

    @property
    def encoded(self) -> bytes:
        env = {os.fsencode(name): os.fsencode(value) for name, value in self.env.items()}
        return marshal.dumps((self.words, self.folder, env, self.has_terminal))

    @property
    def can_be_forked(self) -> bool:
        """Whether a starter can do this, or only a new Python."""
        return (
            "VSERVER_PLAIN_STARTS" not in os.environ
            and (self.words[0] in ("-c", "-m") or not self.words[0].startswith("-"))
            and (self.words[0] != "-m" or self.words[1] in MODULES)
            and len(self.encoded) < LONGEST
            and _at_start(self.env) == _at_start(_environment())
        )


class Started:
    """A process that a starter has forked. pid: its id."""

    def __init__(self, request: Request, streams: Sequence[int]) -> None:
        self._asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking.connect(_starter(request.has_ours and request.words[:2] == ["-m", "vserver"]))
        socket.send_fds(self._asking, [request.encoded], streams)
        self.pid = int(self._asking.recv(100))
        self.status: int | None = None

    def __del__(self) -> None:
        self._asking.close()

    def wait(self) -> int:
        """Wait for its end and return its exit status; negative: the signal that ended it."""
        if self.status is None:
            self.status = int(self._asking.recv(100))
        return self.status

    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self.status is not None or bool(select.select([self._asking], [], [], 0)[0])

    def kill(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Popen(subprocess.Popen[Any]):
    """What subprocess.Popen is, for a process that a starter forks. Takes neither preexec_fn nor pass_fds."""

    def _execute_child(self, args: Any, *more: Any) -> None:
        cwd, env, pipes = more[4], more[5], more[9:15]
        theirs = [number if pipe == -1 else pipe for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        self._started = Started(Request(list(args[1:]), str(cwd or os.getcwd()), env), theirs)
        self.pid, self._child_created = self._started.pid, True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        if self.returncode is None and self._started.has_ended():
            self.returncode = self._started.wait()
        return self.returncode

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if flags == os.WNOHANG and not self._started.has_ended():
            return 0, 0
        status = self._started.wait()
        return self.pid, -status if status < 0 else status << 8


def run(request: Request, given: str, seconds: float) -> tuple[int, str, str]:
    """Have a program started, and return its exit status and its output. Raises TimeoutExpired.

    given: its standard input; seconds: after which it is killed.
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
        raise subprocess.TimeoutExpired(request.words, seconds, *texts)
    timer.cancel()
    return status, texts[0], texts[1]


def write_program(file: Path) -> None:
    """Write the program `vserver`, which a shell finds in a folder of its PATH."""
    if "VSERVER_PLAIN_STARTS" in os.environ:
        text = f"#!{sys.executable}\n{CODE}\n"
    else:
        text = PROGRAM.format(python=sys.executable, code=CODE, path=_starter(True), longest=LONGEST)
    file.write_text(text)
    file.chmod(0o755)


def _read(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(BrokenPipeError), open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as to:
        to.write(text)


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(AT_START)}


def _environment() -> dict[str, str]:
    from helpers.terminal import environment

    return environment(Path("/"))


@cache
def _starter(has_ours: bool) -> str:
    """Return the path of the socket of a starter, which ends with this process."""
    folder = tempfile.mkdtemp(prefix="vserver-", dir="/tmp")  # the path of a socket is short
    words = [sys.executable, __file__, f"{folder}/socket", "ours" if has_ours else "libraries"]
    words += ["coverage"] if "COVERAGE_PROCESS_CONFIG" in os.environ else []
    env = {name: value for name, value in _environment().items() if not name.startswith("COVERAGE")}
    process = subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None

    @atexit.register
    def _end() -> None:
        for stream in (process.stdin, process.stdout):
            stream.close()  # type: ignore[union-attr]
        process.wait()
        shutil.rmtree(folder)

    process.stdout.readline()
    return f"{folder}/socket"


# In the starter


def _serve(path: str) -> None:
    """Fork for each request, and send the id and then the exit status, until the standard input closes."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(100)
    ended, ends = os.pipe()
    for descriptor in (ended, ends):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(ends)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    asking: dict[int, socket.socket] = {}
    os.write(1, b"it listens\n")
    while True:
        ready, _, _ = select.select([0, listener, ended], [], [])
        if 0 in ready:
            return
        if ended in ready:
            os.read(ended, 1000)
            _reap(asking)
        if listener in ready and (program := _forked(listener.accept()[0], asking)):
            break
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for each in (listener, *asking.values()):
        each.close()
    os.close(ended)
    os.close(ends)
    program()


def _forked(connection: socket.socket, asking: dict[int, socket.socket]) -> Callable[[], None] | None:
    """Fork for the request of a connection. Return what the new process does, in that process only."""
    data, streams, _, _ = socket.recv_fds(connection, 2 * LONGEST, 3)
    words, folder, env, has_terminal = marshal.loads(data) if data else ([], "", {}, False)
    decoded = {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()}
    pid = -1
    if words and _at_start(decoded) == _at_start(os.environ):
        pid = os.fork()
    if pid == 0:
        connection.close()
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
    for descriptor in streams:
        os.close(descriptor)
    if pid == 0:
        return lambda: _be_python(words, folder, decoded, has_terminal)
    if pid > 0:
        asking[pid] = connection
        with contextlib.suppress(BrokenPipeError):
            connection.send(b"%d" % pid)
    else:
        connection.close()
    return None


def _reap(asking: dict[int, socket.socket]) -> None:
    """Send the exit statuses of processes that have ended."""
    while asking:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with asking.pop(pid) as connection, contextlib.suppress(BrokenPipeError):
            connection.send(b"%d" % os.waitstatus_to_exitcode(status))


def _import(has_ours: bool) -> None:
    """Import the libraries, and those modules of vserver that every installation has the libraries for."""
    import importlib
    import pkgutil
    import runpy  # noqa: F401  # used after the fork

    for name in (*LIBRARIES, *sys.argv[3:]):
        importlib.import_module(name)
    if has_ours:
        import vserverlib
        from vserverlib import hashing

        for module in pkgutil.walk_packages(vserverlib.__path__, "vserverlib."):
            if not module.name.startswith(("vserverlib.migrations", "vserverlib.notebooks")):
                importlib.import_module(module.name)
        hashing.ROUNDS = 4


def _be_python(words: Sequence[str], folder: str, env: Mapping[str, str], has_terminal: bool) -> None:
    """Do what Python does, but for freeing all objects at the end: that takes half of the time."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    if has_terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if "COVERAGE_PROCESS_CONFIG" in env:
        import coverage

        coverage.process_startup()
    status = 0
    try:
        _run(words, folder)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if ended.code is not None and not isinstance(ended.code, int):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException as error:
        status = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        while error.__traceback__ and error.__traceback__.tb_frame.f_code.co_filename == __file__:
            error.__traceback__ = error.__traceback__.tb_next
        sys.excepthook(type(error), error, error.__traceback__)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 0xFF)


def _run(words: Sequence[str], folder: str) -> None:
    """Run a module, code or a file as `__main__`."""
    import runpy

    main = sys.modules["__main__"] = ModuleType("__main__")
    first, *more = words
    sys.orig_argv = [sys.executable, *words]
    if first == "-m":
        sys.path[0], sys.argv = folder, ["-m", *more[1:]]
        runpy._run_module_as_main(more[0])  # type: ignore[attr-defined]
    elif first == "-c":
        sys.path[0], sys.argv = "", ["-c", *more[1:]]
        exec(compile(more[0], "<string>", "exec"), vars(main))
    else:
        sys.path[0], sys.argv = os.path.dirname(os.path.abspath(first)), list(words)
        vars(main)["__file__"] = first
        exec(compile(Path(first).read_bytes(), first, "exec"), vars(main))


if __name__ == "__main__":
    _import(has_ours=sys.argv[2] == "ours")
    _serve(sys.argv[1])
