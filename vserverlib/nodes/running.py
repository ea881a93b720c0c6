"""Runs the nodes of files in this process, until a signal comes: their folder, their locks, what they print.

`vserver node` and `vserver start --nodes` start here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from vserverlib import Error, files, home, pluralize, signals
from vserverlib.files import shown
from vserverlib.messages import notify
from vserverlib.nodes.changed_files import ChangedFiles
from vserverlib.nodes.client import Identity
from vserverlib.nodes.node import Node
from vserverlib.nodes.settings import Server, Settings
from vserverlib.nodes.team import Team
from vserverlib.nodes.workshop import Workshop

SIGNALS_EVERY = 0.25  # seconds: a signal that another thread got is noticed between two waits only
MOST_NAMED = 6  # nodes that are named at the start
RUNS = "runs-"  # begins the names of folders for runs
LEFT = re.compile(RUNS + r".+")
FOLDER = "nodes"  # in the folder of the application
WARNING = "an algorithm is a program with your rights: a container would keep it from your files, these nodes do not"
ONE_BY_ONE = "run_with is set: each run starts an interpreter of its own, which takes longer"
NO_PLACE = "runs have no place for their files, set VSERVER_HOME to a folder of yours"


@dataclass
class Options:
    """keep: the folders of runs. watch: report changes of files. level: 0 prints only warnings, 2 details too.

    ends_with_stdin: beside a server. hint: lines that are printed once all nodes are online.
    """

    keep: bool = False
    watch: bool = False
    level: int = 1
    ends_with_stdin: bool = False
    hint: str = ""


@dataclass
class Reporter:
    """Prints what the nodes of a file report."""

    options: Options
    server: Server
    _is_away: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def line(self, text: str, colour: str = "dim") -> None:
        """Print a line; a dim one unless only warnings are wanted."""
        if self.options.level > 0 or colour != "dim":
            notify(text, colour)

    def detail(self, text: str) -> None:
        """Print a line if details are wanted."""
        if self.options.level > 1:
            notify(text)

    def away(self, error: Error) -> None:
        """Print once that the server is away."""
        with self._lock:
            was_away, self._is_away = self._is_away, True
        if not was_away:
            notify(f"{error}; trying again (Ctrl-C stops)", "yellow")

    def back(self) -> None:
        """Print that the server is back, if it was away."""
        with self._lock:
            was_away, self._is_away = self._is_away, False
        if was_away:
            self.line(f"{self.server.url} answers")


class Nodes:
    """The nodes of some files."""

    def __init__(self, files: Sequence[Settings], options: Options) -> None:
        self._files, self._options = files, options
        self._stack = contextlib.ExitStack()
        self._workshops: list[Workshop] = []
        self._nodes: list[tuple[Node, Reporter]] = []

    def start(self) -> None:
        """Start all nodes; they log in meanwhile. Raises an Error if their runs have no place."""
        notify(WARNING, "yellow")
        folder = self._stack.enter_context(_folder_of_runs(self._options.keep))
        if self._options.keep:
            notify(f"the folders of runs stay in {shown(folder)}")
        for number, settings in enumerate(self._files):
            place = folder / str(number)
            place.mkdir(mode=0o700)
            self._start(settings, Workshop(place, settings.limits, settings.run_with, self._options.keep))

    def _start(self, settings: Settings, workshop: Workshop) -> None:
        self._workshops.append(workshop)
        if settings.run_with:
            notify(f"{shown(settings.path)}: {ONE_BY_ONE}")
        report = Reporter(self._options, settings.server)
        team = Team(settings, workshop, report, partial(self._claim, settings.server))
        for own in settings.nodes:
            node = Node(team, own)
            self._nodes.append((node, report))
            node.start()

    def _claim(self, server: Server, who: Identity) -> None:
        """Lock a node until its process ends. Raises an Error if another process of this user has it."""
        words = (server.port, server.path, who.id, who.name, who.organization, who.collaboration)
        name = hashlib.sha256(repr(words).encode()).hexdigest()[:32]
        with files.as_error(NO_PLACE):
            path = home.own_file(home.folder() / FOLDER / f"{name}.lock")
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Error(f"{who.title} of {server.url} runs in another process already: stop that one first") from None
        if not _is_at(path, descriptor):  # the process that had it has just removed it
            self._claim(server, who)
            return
        self._stack.callback(path.unlink, missing_ok=True)

    def wait(self) -> None:
        """Wait until all nodes have logged in, and print who they are. Raises the Error of one that cannot."""
        while waiting := [node for node, _ in self._nodes if not node.is_ready.is_set()]:
            self._raise_failure()
            waiting[0].is_ready.wait(SIGNALS_EVERY)
        self._raise_failure()
        for node, report in self._nodes:
            who, say = node.who, report.line if len(self._nodes) <= MOST_NAMED else report.detail
            say(f"{who.title} of {who.organization} works in collaboration {who.collaboration}")

    def _raise_failure(self) -> None:
        for node, _ in self._nodes:
            if node.failure is not None:
                raise node.failure

    def close(self) -> None:
        """End all runs and nodes. What its runs left is delivered, if the server answers within seconds."""
        for node, _ in self._nodes:
            node.stop()
        for workshop in self._workshops:
            workshop.close()
        for node, _ in self._nodes:
            node.join()
        self._stack.close()


@contextlib.contextmanager
def _folder_of_runs(keep: bool) -> Iterator[Path]:
    """Give a private folder, which is removed at the end unless it is kept. Removes those of killed processes."""
    with files.as_error(NO_PLACE):
        parent = home.own_folder(home.folder() / FOLDER)
        with files.alone_in(parent, "waiting for another vserver that starts nodes"):
            for left in home.own_entries(parent, LEFT):
                _remove_if_left(left)
            folder = files.private_folder(parent, RUNS) if not keep else _kept_folder(parent)
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield folder
    finally:
        os.close(descriptor)
        if not keep:
            files.remove_folder(folder)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _kept_folder(parent: Path) -> Path:
    folder = files.dated_name(parent, "kept", "")
    folder.mkdir(mode=0o700)
    return folder


def _remove_if_left(folder: Path) -> None:
    """Remove a folder unless a living process has it locked."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        files.remove_folder(folder)
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)


def _wait_for_a_signal(watched: ChangedFiles | None) -> None:
    """Wait until a signal raises its exception; print which of the watched files change."""
    while True:
        time.sleep(SIGNALS_EVERY)
        for path in watched.changed() if watched is not None else ():
            notify(f"{shown(path)} has changed: the next run reads it anew")


def _terminate_after_stdin() -> None:
    """End the nodes at the end of stdin: a pipe of the server beside them, which may be killed."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def serve(settings: Sequence[Settings], options: Options) -> None:
    """Run the nodes of some files until a signal comes; after another one than Ctrl-C, its exception goes on."""
    nodes = Nodes(settings, options)
    if options.ends_with_stdin:
        threading.Thread(target=_terminate_after_stdin, name="stdin", daemon=True).start()
    try:
        nodes.start()
        nodes.wait()
        if options.level > 0:
            notify(f"{pluralize(sum(len(each.nodes) for each in settings), 'node')} online (Ctrl-C stops)")
        for line in options.hint.splitlines():
            notify(line)
        _wait_for_a_signal(ChangedFiles(settings) if options.watch else None)
    except signals.Terminated:
        raise
    except KeyboardInterrupt:
        notify("stopping")
    finally:
        with signals.held():
            nodes.close()
