"""A SQLite file that others may write to: holding SQLite's own lock, copying a snapshot, noticing changes.

SQLite reads a database in WAL mode with the help of files beside it. Without permission to create them only a copy can
be read, and a copy that is made during a write is inconsistent. SQLite's shared lock makes it consistent:

* In rollback mode nobody writes to the file while it is held.
* In WAL mode nobody removes the log while it is held, because that takes an exclusive lock. A write meanwhile leaves a
  log, so without a log at the end, nothing was written.

A file in WAL mode whose log grows all the time can be copied, too: see copied().

On file systems without locks, sizes and times are compared before and after, and first it waits until a later write
will have a different time.

It owns the lock and the copy; sqlite_readers.py decides who reads what, and when to renew a copy.
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

from vserverlib import Error, Locked, files
from vserverlib.files import shown

PENDING, SHARED, SHARED_SIZE = 0x40000000, 0x40000002, 510  # the byte ranges that SQLite locks (os_unix.c)
CONNECTED = 128  # the byte of -shm that every connection in WAL mode locks (os_unix.c: DMS)
SALTS, COPIED, TO_COPY = 32, 96, 128  # in -shm: WalIndexHdr.aSalt, WalCkptInfo.nBackfill, .nBackfillAttempted (wal.c)
EDGE = 2 << 20  # bytes at each end of a file that are compared
WAL_MODE = b"\2\2"  # at offset 18 of the file
LOG_HEADER = 32  # bytes: the salts in it change when the log begins again (sqlite.org/fileformat2.html, 4.1)
FINE, COARSE = 0.02, 2.0  # seconds: the resolution of a file system's times, with and without fractions
TRIES = 5
CHUNK = 1 << 20  # bytes copied between two checks for Ctrl-C
TIMEOUT, STEP = 5.0, 0.05  # seconds to wait for a writer; between two attempts
POLL = 0.005  # seconds between two attempts to lock a file that a program may write to a hundred times a second
HOLDS = (0.05, 0.1, 0.2, 0.25, 0.25, 0.25)  # seconds that a writer waits for a copy at most, by attempt

State = tuple[tuple[int, ...], ...]


# SQLite's lock


@contextlib.contextmanager
def held(file: Path, timeout: float = TIMEOUT) -> Iterator[int]:
    """Hold SQLite's shared lock on a file within this block, and yield the descriptor that has it.

    Raises Locked if a writer holds the file exclusively for `timeout` seconds. Not for a file that SQLite has open in
    this process: closing the descriptor would release SQLite's locks.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _wait_for_lock(descriptor, shown(file), timeout)
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, title: str, timeout: float) -> None:
    until = time.monotonic() + timeout
    while not lock(descriptor):
        if time.monotonic() > until:
            raise Locked(f"{title} is locked by a program that is writing to it: try again later")
        time.sleep(POLL)


def lock(descriptor: int) -> bool:
    """Take SQLite's shared lock; return False if another lock is in the way. File systems without locks return True."""
    import fcntl

    if not _set(descriptor, fcntl.F_RDLCK, PENDING, 1):
        return False
    try:
        return _set(descriptor, fcntl.F_RDLCK, SHARED, SHARED_SIZE)
    finally:
        _set(descriptor, fcntl.F_UNLCK, PENDING, 1)


def unlock(descriptor: int) -> None:
    """Release the lock; the descriptor stays open."""
    import fcntl

    _set(descriptor, fcntl.F_UNLCK, PENDING, SHARED - PENDING + SHARED_SIZE)


def _set(descriptor: int, kind: int, start: int, size: int) -> bool:
    import fcntl

    try:
        if sys.platform == "linux":  # a lock of the descriptor, independent of SQLite's in this process
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _flock(kind, start, size))
        else:
            fcntl.lockf(
                descriptor, {fcntl.F_RDLCK: fcntl.LOCK_SH}.get(kind, fcntl.LOCK_UN) | fcntl.LOCK_NB, size, start
            )
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _flock(kind: int, start: int, size: int) -> bytes:
    return struct.pack("hhqqi", kind, os.SEEK_SET, start, size, 0)  # struct flock of Linux, fcntl(2)


def is_locked(file: Path, start: int = PENDING, size: int = SHARED - PENDING + SHARED_SIZE) -> bool | None:
    """Whether anybody holds a lock on some bytes of a file; None if the system does not say.

    Not for a file that SQLite has open in this process.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return others_lock(descriptor, start, size)
        finally:
            os.close(descriptor)
    return None


def others_lock(descriptor: int, start: int = PENDING, size: int = SHARED - PENDING + SHARED_SIZE) -> bool | None:
    """Whether anybody but the descriptor holds a lock on some bytes of its file; None if the system does not say."""
    import fcntl

    if sys.platform != "linux":
        return None
    try:
        message = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, start, size))
    except OSError:
        return None
    return bool(struct.unpack("hhqqi", message)[0] != fcntl.F_UNLCK)


def refuse_log_of_another(file: Path) -> None:
    """Raise an Error if the files beside a database belong to another one, which a program has open.

    That one had this name until this file replaced it, and SQLite would take its log for this file's. A connection that
    has locked -shm has also locked its database.
    """
    index = Path(f"{file}-shm")
    if not index.exists():
        return
    for _ in range(3):  # a connection may close or open between the two checks
        if not is_locked(index, CONNECTED, 1) or is_locked(file) is not False:
            return
        time.sleep(STEP)
    message = f"a program has the previous file open, to which {shown(index)} and the log belong"
    raise Error(f"{shown(file)} was replaced while it was open: {message}; end that program first")


# A file that is open


class Mark(NamedTuple):
    """The state of a file that shows whether, and by what, it was written to: see Watch.

    size, time: the file's; the time in nanoseconds. counter: SQLite's change counter, which never decreases, and in WAL
    mode does not count every change. edges: a hash of the first and last bytes. log: the state of the log's index
    before size and time were read; None if there was no index.
    """

    size: int
    time: int
    counter: int
    edges: int
    log: bytes | None

    def is_of(self, found: os.stat_result) -> bool:
        """Whether a file was not written to since, by its current size and time."""
        return (found.st_size, found.st_mtime_ns) == (self.size, self.time)


class Watch:
    """Notices when another program than SQLite, such as cp, writes to a file that SQLite has open.

    In WAL mode SQLite writes to the file only in a checkpoint, which copies pages from the log, and counts these pages
    in the log's index, -shm: before the first page, and again after the last. If a file changed while both counts are
    equal and unchanged, another program wrote to it. The same holds if its change counter decreased.

    Not noticed: a write between a checkpoint of another process and the next check, or during a checkpoint, unless the
    change counter decreases; a file over twice EDGE bytes that differs only in its middle; in rollback mode, every
    write that does not decrease the counter.

    It keeps the file and the index open, because closing them releases SQLite's locks: close it after SQLite.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.is_overwritten = file, False
        self.descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._index: int | None = None  # SQLite creates it on the first read
        self._mark = _mark(self.descriptor, None)

    def look(self) -> bool:
        """Return whether the file was overwritten; takes microseconds if it has not changed."""
        log = self._log()  # before the file: pages that are copied meanwhile change the counts once more
        if self._mark.is_of(os.fstat(self.descriptor)):
            self._mark = self._mark._replace(log=log)
        elif not self.is_overwritten:
            now, was = _mark(self.descriptor, log), self._mark
            is_foreign = _is_settled(log) and was.log == log == self._log() and now.edges != was.edges
            self.is_overwritten = now.counter < was.counter or is_foreign
            self._mark = now
        return self.is_overwritten

    def _log(self) -> bytes | None:
        """Return the log's salts and its counts of copied pages, from its index."""
        if self._index is None:
            with contextlib.suppress(OSError):
                self._index = os.open(f"{self.file}-shm", os.O_RDONLY | os.O_CLOEXEC)
        if self._index is None:
            return None
        return os.pread(self._index, 8, SALTS) + os.pread(self._index, 4, COPIED) + os.pread(self._index, 4, TO_COPY)

    def owns_log(self) -> bool:
        """Whether the log beside the file belongs to the watched file, by its index."""
        with contextlib.suppress(OSError):
            return self._index is not None and os.path.samestat(os.fstat(self._index), os.stat(f"{self.file}-shm"))
        return False

    def is_removed(self) -> bool:
        """Whether the file has no name any more."""
        return os.fstat(self.descriptor).st_nlink == 0

    def descriptors(self) -> list[int]:
        """Return the descriptors to close after SQLite has closed the file."""
        return [self.descriptor] + ([] if self._index is None else [self._index])


def _is_settled(log: bytes | None) -> bool:
    """Whether no checkpoint is running or was interrupted."""
    return log is not None and log[8:12] == log[12:16]


def _mark(descriptor: int, log: bytes | None) -> Mark:
    found = os.fstat(descriptor)
    counter = int.from_bytes(os.pread(descriptor, 4, 24))
    ends = (os.pread(descriptor, EDGE, 0), os.pread(descriptor, EDGE, max(EDGE, found.st_size - EDGE)))
    return Mark(found.st_size, found.st_mtime_ns, counter, hash(ends), log)


def put_log_aside(file: Path) -> Path | None:
    """Rename the log beside a file and return its new name; None if there is no log, or somebody has it open.

    Not while SQLite has the file open in this process.
    """
    log, index = Path(f"{file}-wal"), Path(f"{file}-shm")
    with contextlib.suppress(OSError):
        if is_locked(index, CONNECTED, 1) is False and log.stat().st_size:
            aside = files.dated_name(file.parent, log.name, ".old")
            os.rename(log, aside)
            index.unlink()
            return aside
    return None


# Consistent copies


def is_wal(descriptor: int) -> bool:
    """Whether a file's header says WAL mode."""
    return os.pread(descriptor, 2, 18) == WAL_MODE


def state(file: Path) -> State:
    """Return the state of a file and its logs: identities, sizes and times.

    Raises FileNotFoundError if the file does not exist.
    """
    found = [os.stat(file)]
    for ending in files.LOG_SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            found.append(os.stat(f"{file}{ending}"))
    return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)


def settled(file: Path) -> State:
    """Return the state of a file, if need be after a wait, so that every later change gives a different state."""
    for _ in range(TRIES):
        now = state(file)
        if not (wait := unsettled(now)):
            break
        time.sleep(wait)
    return now


def unsettled(now: State) -> float:
    """Return for how many seconds a change may leave the state of a file as it is: 0 if any change shows."""
    newest = max(max(times) for _, _, _, *times in now)
    grain = FINE if newest % 1_000_000_000 else COARSE
    since = time.time() - newest / 1e9
    return grain - since if 0 <= since < grain else 0


def copy(file: Path, folder: Path, descriptor: int) -> Path:
    """Copy a file, through a descriptor that holds it, and its logs to a private folder; return the copy.

    Compare the file's state before and after to know whether the copy is consistent.
    """
    target = files.make_private(folder / file.name)
    _copy(descriptor, target)
    _copy_logs(file, folder)
    return target


def _copy_logs(file: Path, folder: Path) -> None:
    for ending in files.LOG_SUFFIXES:
        with contextlib.suppress(FileNotFoundError):
            log = os.open(f"{file}{ending}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _copy(log, files.make_private(folder / f"{file.name}{ending}"))
            finally:
                os.close(log)


def _copy(descriptor: int, target: Path) -> None:
    place = 0
    with open(target, "wb") as out:
        while piece := os.pread(descriptor, CHUNK, place):
            out.write(piece)
            place += len(piece)


# Consistent copies, while others write


def copied(file: Path, folder: Path, title: str) -> Path:
    """Copy a file and its logs, as they are at one moment, into a private folder while others write; return the copy.

    A writer waits for a quarter of a second at most. title: the file's name in messages. Raises an Error if it was
    written to again and again. Not for a file that SQLite has open in this process.
    """
    descriptor, target = os.open(file, os.O_RDONLY | os.O_CLOEXEC), files.make_private(folder / file.name)
    try:
        for hold in HOLDS:
            _wait_for_lock(descriptor, title, TIMEOUT)
            copy = _copy_with_log if is_wal(descriptor) else partial(_copy_in_turns, hold=hold, title=title)
            if copy(file, target, descriptor) and os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return target
            unlock(descriptor)
            for ending in files.LOG_SUFFIXES:
                Path(f"{target}{ending}").unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    target.unlink()
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

    hold: seconds after which waiting writers get their turn. Only the pieces that differ from an earlier attempt are
    written, which takes less time. The journal of a program that was killed is copied, too.
    """
    change, until, place = _last_change(descriptor), time.monotonic() + hold, 0
    with open(target, "r+b") as out:
        while piece := os.pread(descriptor, CHUNK, place):
            if os.pread(out.fileno(), len(piece), place) != piece:
                out.seek(place)
                out.write(piece)
            place += len(piece)
            if time.monotonic() > until:
                unlock(descriptor)
                _wait_for_lock(descriptor, title, TIMEOUT)
                if _last_change(descriptor) != change:
                    return False
                until = time.monotonic() + hold
        out.truncate(place)
    _copy_logs(file, target.parent)
    return _last_change(descriptor) == change


def _last_change(descriptor: int) -> tuple[int, int, bytes]:
    """Return the size and the time of a file, and from its header the mode and the count of changes."""
    found = os.fstat(descriptor)
    return found.st_size, found.st_mtime_ns, os.pread(descriptor, 10, 18)


def changing(name: Path | str) -> Locked:
    """Return the error that no consistent copy could be made."""
    title = name if isinstance(name, str) else shown(name)
    return Locked(f"{title} is written to all the time, so no consistent copy could be made: try again later")
