"""A SQLite file that others may write to: held by SQLite's own lock, copied as it is at one moment, known again.

SQLite reads a database in WAL mode with the help of files beside it. Without the right to make them there is only the
copy, and a copy of a file that is written to meanwhile is of no moment at all. What makes it one moment is the shared
lock that every connection of SQLite's has:

* In rollback mode nobody writes to the file while it is held.
* In WAL mode nobody removes the log while it is held, as that takes the file for oneself. What is written meanwhile
  leaves a log, so where there is none at the end, nothing was written.

A file in WAL mode whose log grows all the time can be copied, too: see copied().

File systems without locks are left with a second look at sizes and times, and a wait before the first one, until a
write from then on has another time than the last.

It owns the lock and the copy. Who reads what, and when a copy is made anew, is sqlite_readers.py's.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vserverlib import Error, files
from vserverlib.files import shown

PENDING, SHARED, SHARED_SIZE = 0x40000000, 0x40000002, 510  # the bytes that SQLite locks (os_unix.c)
CONNECTED = 128  # the byte of -shm that every connection in WAL mode has locked (os_unix.c: DMS)
SALTS, COPIED, TO_COPY = 32, 96, 128  # in -shm: WalIndexHdr.aSalt, WalCkptInfo.nBackfill, .nBackfillAttempted (wal.c)
EDGE = 2 << 20  # bytes at each end of a file that are compared to see whether it was overwritten
WAL_MODE = b"\2\2"  # at offset 18 of the file
LOG_HEADER = 32  # bytes: the salts in it change when the log begins again (sqlite.org/fileformat2.html, 4.1)
TICK, COARSE = 0.02, 2.0  # seconds between two times that a file system tells apart; of those that have no fractions
TRIES = 5
PIECE = 1 << 20  # bytes that are copied between two looks for Ctrl-C
PATIENCE, STEP = 5.0, 0.05  # seconds that a writer is waited for here; between two attempts
POLL = 0.005  # seconds between two attempts to lock a file that a program may write to a hundred times a second
HOLDS = (0.05, 0.1, 0.2, 0.25, 0.25, 0.25)  # seconds that a writer waits for a copy at most, by attempt

State = tuple[tuple[int, ...], ...]


# SQLite's lock


@contextlib.contextmanager
def held(file: Path, patience: float = PATIENCE) -> Iterator[int]:
    """Hold SQLite's shared lock on a file in a block, and give the descriptor that has it.

    Raises an Error if a writer has the file for itself for so many seconds. Not for a file that this process has open
    by SQLite: closing the descriptor would end SQLite's locks.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _wait_for_lock(descriptor, shown(file), patience)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, title: str, patience: float) -> None:
    until = time.monotonic() + patience
    while not lock(descriptor):
        if time.monotonic() > until:
            raise Error(f"{title} is locked by a program that writes to it: try again later")
        time.sleep(POLL)


def lock(descriptor: int) -> bool:
    """Take SQLite's shared lock, and return whether nobody was in the way. A file system without locks has nobody."""
    import fcntl

    if not _set(descriptor, fcntl.F_RDLCK, PENDING, 1):
        return False
    try:
        return _set(descriptor, fcntl.F_RDLCK, SHARED, SHARED_SIZE)
    finally:
        _set(descriptor, fcntl.F_UNLCK, PENDING, 1)


def unlock(descriptor: int) -> None:
    """Give the lock back; the descriptor stays open."""
    import fcntl

    _set(descriptor, fcntl.F_UNLCK, PENDING, SHARED - PENDING + SHARED_SIZE)


def _set(descriptor: int, kind: int, start: int, size: int) -> bool:
    import fcntl

    try:
        if sys.platform == "linux":  # a lock of the descriptor: SQLite in this process neither sees nor ends it
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(kind, start, size))
        else:
            fcntl.lockf(
                descriptor, {fcntl.F_RDLCK: fcntl.LOCK_SH}.get(kind, fcntl.LOCK_UN) | fcntl.LOCK_NB, size, start
            )
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system that has no locks
        return True
    return True


def _flock(kind: int, start: int, size: int) -> bytes:
    return struct.pack("hhqqi", kind, os.SEEK_SET, start, size, 0)  # struct flock of Linux, fcntl(2)


def is_locked(file: Path, start: int = PENDING, size: int = SHARED - PENDING + SHARED_SIZE) -> bool | None:
    """Whether anybody has a lock on some bytes of a file; None if the system does not tell.

    Not for a file that this process has open by SQLite.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return others_lock(descriptor, start, size)
        finally:
            os.close(descriptor)
    return None


def others_lock(descriptor: int, start: int = PENDING, size: int = SHARED - PENDING + SHARED_SIZE) -> bool | None:
    """Whether anybody but the descriptor has a lock on some bytes of its file; None if the system does not tell."""
    import fcntl

    if sys.platform != "linux":
        return None
    try:
        message = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, start, size))
    except OSError:
        return None
    return bool(struct.unpack("hhqqi", message)[0] != fcntl.F_UNLCK)


def refuse_log_of_another(file: Path) -> None:
    """Raise an Error if what is beside a file belongs to another one, which a program has open.

    That one was called so until this file was put in its place. SQLite would take its log for this file's. A connection
    that has locked -shm has locked its file, too.
    """
    index = Path(f"{file}-shm")
    if not index.exists():
        return
    for _ in range(3):  # a connection may end, or begin, between the two questions
        if not is_locked(index, CONNECTED, 1) or is_locked(file) is not False:
            return
        time.sleep(STEP)
    message = f"a program has the file open that was there before, and {shown(index)} with its log is that one's"
    raise Error(f"{shown(file)} was replaced while it was open: {message}; end that program first")


# A file that is open


class Mark(NamedTuple):
    """What shows that a file was written to, and by what: see Watch.

    size, time: of the file; the time in nanoseconds.
    counter: SQLite's count of changes. It never counts down, and in WAL mode does not count every change up.
    edges: a hash of the first and the last bytes.
    log: what the index of the log said before size and time were read; None if there was no index.
    """

    size: int
    time: int
    counter: int
    edges: int
    log: bytes | None

    def is_of(self, found: os.stat_result) -> bool:
        """Whether a file was not written to since, by what the system reports of it now."""
        return (found.st_size, found.st_mtime_ns) == (self.size, self.time)


class Watch:
    """Notices that something else than SQLite writes to a file, as cp does, while SQLite has the file open.

    In WAL mode SQLite writes to the file only to copy pages from the log (a checkpoint), and counts these pages in the
    index of the log, -shm: before the first page, and again after the last. A file that changed while both counts are
    equal and stay the same was written to by another program. So was one whose count of changes is lower than before.

    Not noticed: what is written between a checkpoint by another process and the next look, or during a checkpoint, if
    its count of changes is not lower; a file of more than twice EDGE bytes that differs only in its middle; and, in
    rollback mode, everything whose count is not lower.

    It keeps the file and the index open, because closing them ends SQLite's locks: close it after SQLite.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.is_overwritten = file, False
        self.descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._index: int | None = None  # SQLite creates it when it first reads
        self._mark = _mark(self.descriptor, None)

    def look(self, found: os.stat_result) -> bool:
        """Return whether the file was overwritten; microseconds unless it has changed since the last look.

        found: what the system reports of the file by its name. The caller sees to it that it is the one watched.
        """
        log = self._log()
        if self._mark.is_of(found):
            self._mark = self._mark._replace(log=log)
        elif not self.is_overwritten:
            now, was = _mark(self.descriptor, log), self._mark
            is_foreign = _is_settled(log) and was.log == log == self._log() and now.edges != was.edges
            self.is_overwritten = now.counter < was.counter or is_foreign
            self._mark = now
        return self.is_overwritten

    def _log(self) -> bytes | None:
        """Return the salts of the log and how many of its pages were copied to the file, from its index."""
        if self._index is None:
            with contextlib.suppress(OSError):
                self._index = os.open(f"{self.file}-shm", os.O_RDONLY | os.O_CLOEXEC)
        if self._index is None:
            return None
        return os.pread(self._index, 8, SALTS) + os.pread(self._index, 4, COPIED) + os.pread(self._index, 4, TO_COPY)

    def owns_log(self) -> bool:
        """Whether the log beside the name is that of the file watched, by the index that was beside it then."""
        with contextlib.suppress(OSError):
            return self._index is not None and os.path.samestat(os.fstat(self._index), os.stat(f"{self.file}-shm"))
        return False

    def is_removed(self) -> bool:
        """Whether the file has no name any more."""
        return os.fstat(self.descriptor).st_nlink == 0

    def descriptors(self) -> list[int]:
        """Return what is to be closed after SQLite has closed the file."""
        return [self.descriptor] + ([] if self._index is None else [self._index])


def _is_settled(log: bytes | None) -> bool:
    """Whether no checkpoint is under way, nor was one broken off."""
    return log is not None and log[8:12] == log[12:16]


def _mark(descriptor: int, log: bytes | None) -> Mark:
    found = os.fstat(descriptor)
    counter = int.from_bytes(os.pread(descriptor, 4, 24))
    ends = (os.pread(descriptor, EDGE, 0), os.pread(descriptor, EDGE, max(EDGE, found.st_size - EDGE)))
    return Mark(found.st_size, found.st_mtime_ns, counter, hash(ends), log)


def put_log_aside(file: Path) -> Path | None:
    """Give the log beside a file another name, and return that, unless somebody has the log open or there is none.

    Not while this process has the file, or another of its name, open by SQLite.
    """
    log, index = Path(f"{file}-wal"), Path(f"{file}-shm")
    with contextlib.suppress(OSError):
        if is_locked(index, CONNECTED, 1) is False and log.stat().st_size:
            aside = files.dated(file.parent, log.name, ".old")
            os.rename(log, aside)
            index.unlink()
            return aside
    return None


# One moment


def is_wal(descriptor: int) -> bool:
    """Whether the header of a file says that it is in WAL mode."""
    return os.pread(descriptor, 2, 18) == WAL_MODE


def state(file: Path) -> State:
    """Return what the system tells of a file and its logs: which files, their sizes, when they were changed.

    Raises FileNotFoundError if there is no such file.
    """
    found = [os.stat(file)]
    for ending in files.LOGS:
        with contextlib.suppress(FileNotFoundError):
            found.append(os.stat(f"{file}{ending}"))
    return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)


def settled(file: Path) -> State:
    """Return the state of a file from which any change that comes after this differs, after a wait if need be."""
    for _ in range(TRIES):
        now = state(file)
        if not (wait := unsettled(now)):
            break
        time.sleep(wait)
    return now


def unsettled(now: State) -> float:
    """Return for how many seconds a change may leave the state of a file as it is: 0 if any change shows."""
    newest = max(max(times) for _, _, _, *times in now)
    grain = TICK if newest % 1_000_000_000 else COARSE
    since = time.time() - newest / 1e9
    return grain - since if 0 <= since < grain else 0


def copy(file: Path, folder: Path, descriptor: int) -> Path:
    """Copy a file, through a descriptor that holds it, and its logs into a private folder; return the copy.

    Whether that is one moment is seen by the state of the file, before and after.
    """
    target = files.make_private(folder / file.name)
    _copy(descriptor, target)
    _copy_logs(file, folder)
    return target


def _copy_logs(file: Path, folder: Path) -> None:
    for ending in files.LOGS:
        with contextlib.suppress(FileNotFoundError):
            log = os.open(f"{file}{ending}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _copy(log, files.make_private(folder / f"{file.name}{ending}"))
            finally:
                os.close(log)


def _copy(descriptor: int, target: Path) -> None:
    place = 0
    with open(target, "wb") as out:
        while piece := os.pread(descriptor, PIECE, place):
            out.write(piece)
            place += len(piece)


# One moment, while others write


def copied(file: Path, folder: Path, title: str) -> Path:
    """Copy a file and its logs, as they are at one moment, into a private folder while others write; return the copy.

    A writer waits for a quarter of a second at most. title: the file's name in messages. Raises an Error if it was
    written to again and again. Not of a file that this process has open by SQLite.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for hold in HOLDS:
            _wait_for_lock(descriptor, title, PATIENCE)
            target = files.make_private(folder / file.name)
            copy = _copy_with_log if is_wal(descriptor) else partial(_copy_in_turns, hold=hold, title=title)
            if copy(file, target, descriptor) and os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return target
            unlock(descriptor)
            for ending in ("", *files.LOGS):
                Path(f"{target}{ending}").unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    raise changing(title)


def _copy_with_log(file: Path, target: Path, descriptor: int) -> bool:
    """Copy a file in WAL mode and its log; return whether the copy is of one moment. Nobody waits for it.

    Pages that a checkpoint copies into the file meanwhile are in the log too, which is copied later and only grows,
    until it begins again with another header. SQLite ignores a transaction at its end that is not complete.
    """
    log = _log_header(file)
    _copy(descriptor, target)
    _copy_logs(file, target.parent)
    return _log_header(file) == log


def _log_header(file: Path) -> bytes:
    try:
        with open(f"{file}-wal", "rb") as log:
            return log.read(LOG_HEADER)
    except FileNotFoundError:
        return b""


def _copy_in_turns(file: Path, target: Path, descriptor: int, hold: float, title: str) -> bool:
    """Copy a file in rollback mode; return whether the copy is of one moment.

    hold: seconds after which waiting writers get their turn. The journal of a program that was killed is copied, too.
    """
    change, until, place = _last_change(descriptor), time.monotonic() + hold, 0
    with open(target, "wb") as out:
        while piece := os.pread(descriptor, PIECE, place):
            out.write(piece)
            place += len(piece)
            if time.monotonic() > until:
                unlock(descriptor)
                _wait_for_lock(descriptor, title, PATIENCE)
                if _last_change(descriptor) != change:
                    return False
                until = time.monotonic() + hold
    _copy_logs(file, target.parent)
    return _last_change(descriptor) == change


def _last_change(descriptor: int) -> tuple[int, int, bytes]:
    """Return the size and the time of a file, and from its header the mode and the count of changes."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns, os.pread(descriptor, 10, 18)


def changing(name: Path | str) -> Error:
    """Return the error that no copy of one moment could be made."""
    title = name if isinstance(name, str) else shown(name)
    return Error(f"{title} is written to again and again, so that no copy is of one moment: try again later")
