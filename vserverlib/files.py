"""Files that hold a database: created beside their destination, moved there complete, accessible to their owner only.

It owns names, permissions, and the order of writes to disk; storage.py owns the content.

SQLite's files beside a database (SIDE_SUFFIXES) belong to that database alone: SQLite would apply a leftover log to any
file that takes its place. So no file is put where one exists.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import errno
import os
import re
import shlex
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from vserverlib import Error, mounts, printable, signals
from vserverlib.drivers import peewee
from vserverlib.messages import notify

SIDE_SUFFIXES = ("-wal", "-shm", "-journal")  # SQLite's files beside a database
LOG_SUFFIXES = ("-wal", "-journal")  # SQLite would apply the content of these to another file
PUBLIC = ".example"  # the suffix of a database that everybody may read
ACCESS_BY_OTHERS = 0o077  # permission bits that a database should not have
LOCK_PAUSE = 0.05  # seconds between two attempts to lock
DRAFT = r"[a-z0-9_]{8}\.new"  # the end of a draft's name
_warned_of: set[Path] = set()
_names_of_copies: dict[str, str] = {}  # by path: see shown_as()
_temporary: dict[Path, int] = {}  # existing drafts and private folders, with the process that created them


# In messages


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path as messages show it."""
    name = os.fspath(path)
    return printable(_names_of_copies.get(name, name), 200)


@contextlib.contextmanager
def shown_as(copy: Path, name: str) -> Iterator[None]:
    """Make messages call a private copy by the name of its source."""
    paths = {str(copy), str(real(copy))}
    _names_of_copies.update(dict.fromkeys(paths, name))
    try:
        yield
    finally:
        for path in paths:
            _names_of_copies.pop(path, None)


def is_shown_as_another(path: Path) -> bool:
    """Whether a file is a private copy that messages call by the name of its source."""
    return str(path) in _names_of_copies


def reason(error: BaseException) -> str:
    """Return why a file operation failed."""
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror, 200)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return printable(error, 200) + ("; is the disk full?" if code == sqlite3.SQLITE_IOERR else "")


@contextlib.contextmanager
def as_error(what: str) -> Iterator[None]:
    """Turn what goes wrong with a file into an Error of one line. what: what cannot be done."""
    try:
        yield
    except (OSError, sqlite3.Error, peewee.PeeweeException) as error:
        raise Error(f"{what}: {reason(error)}") from error


# The names of a file


def real(path: Path) -> Path:
    """Return the path of a file without links: SQLite keeps its files beside the file itself, not beside a link."""
    return Path(os.path.realpath(path))


def other_names(file: Path) -> str:
    """Return the other names of a file, for a message; "" if it has none. file: its path without links.

    SQLite keeps a log beside each name, and changes in one log are invisible, and lost, under the other name.
    """
    found = os.stat(file)
    if found.st_nlink > 1:
        return f"has {found.st_nlink} names (hard links{_twins(file, found)})"
    return "is mounted as a single file" if mounts.is_mount_point(file) else ""


def _twins(file: Path, found: os.stat_result) -> str:
    """Return the other names of a file in its folder, as far as it is readable."""
    names = list[str]()
    with contextlib.suppress(OSError), os.scandir(file.parent) as entries:
        names = sorted(each.name for each in entries if each.inode() == found.st_ino and each.name != file.name)
    return f": {', '.join(map(shown, names[:3]))}" if names else ""


def remove_draft_of(file: Path) -> None:
    """Remove the draft's name of a file, which a killed program left after it had put the file in place."""
    found = os.stat(file)
    if found.st_nlink == 1:
        return
    with contextlib.suppress(OSError), os.scandir(file.parent) as entries:
        for each in entries:
            if each.inode() == found.st_ino and _is_draft_of(each.name, file) and os.path.samefile(each.path, file):
                os.unlink(each.path)


def _is_draft_of(name: str, file: Path) -> bool:
    """Whether a name is one that draft_for() gives to drafts of a file."""
    return re.fullmatch(re.escape(f".{file.name[:100]}.") + DRAFT, name) is not None


# Creating files and putting them in place


@contextlib.contextmanager
def draft_for(target: Path) -> Iterator[Path]:
    """Create a draft beside the target, mode 0600; remove it at the end unless it was moved to the target."""
    import tempfile  # with shutil and random 4 ms, which most commands do not need

    with signals.held():
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".new", dir=target.parent)
        os.close(handle)
        _temporary[Path(name)] = os.getpid()
    try:
        yield Path(name)
    finally:
        _remove_draft(Path(name))


def _remove_draft(draft: Path) -> None:
    with signals.held():
        for ending in ("", *SIDE_SUFFIXES):
            Path(f"{draft}{ending}").unlink(missing_ok=True)
        _temporary.pop(draft, None)


def move_into_place(draft: Path, target: Path, *, replace: bool = False) -> None:
    """Give the draft its final name, and flush both to disk. It follows no link: it replaces a link itself.

    Raises an Error if the name is taken, unless `replace` is set.
    """
    refuse_leftovers(target)
    with open(draft, "rb") as written:
        os.fsync(written.fileno())
    signals.check()
    if replace:
        os.replace(draft, target)
    else:
        _link(draft, target)
    _sync_folder(target.parent)


@contextlib.contextmanager
def new_text_file(target: Path, *, replace: bool = False) -> Iterator[TextIO]:
    """Open a text file for its owner only, to be written; at the end it is in place, complete or not at all."""
    with as_error(f"{shown(target)} cannot be created"), draft_for(target) as draft:
        with open(draft, "w", encoding="utf-8", newline="\n") as file:
            yield file
        move_into_place(draft, target, replace=replace)


def _link(draft: Path, target: Path) -> None:
    try:
        os.link(draft, target)
    except FileExistsError:
        raise _taken(target) from None
    except OSError:  # a file system without hard links
        refuse_taken(target)
        os.rename(draft, target)
    else:
        draft.unlink()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot flush a folder
            raise
    finally:
        os.close(handle)


def refuse_taken(target: Path) -> None:
    """Raise an Error if a file cannot be created: its name is taken, or its folder does not exist."""
    if os.path.lexists(target):
        raise _taken(target)
    if not target.parent.is_dir():
        raise Error(f"the folder {shown(target.parent)} does not exist: create it first")
    refuse_leftovers(target)


def refuse_place(target: Path, database: Path | None, *, force: bool) -> None:
    """Raise an Error if a copy of a database cannot be put at `target`: it is taken, or belongs to the database.

    database: its file; None for a database on a server. force: replace an existing file, if it is a regular one that
    does not belong to the database.
    """
    if not force:
        return refuse_taken(target)
    if database is not None and _is_of(target, database):
        raise Error(f"{shown(target)} is the database itself, or belongs to it: choose another name")
    if os.path.lexists(target) and not target.is_symlink() and not target.is_file():
        raise Error(f"{shown(target)} is not a regular file: choose another name")
    if not target.parent.is_dir():
        raise Error(f"the folder {shown(target.parent)} does not exist: create it first")
    return refuse_side(target)


def _is_of(target: Path, database: Path) -> bool:
    own = [Path(f"{database}{ending}").absolute() for ending in ("", *SIDE_SUFFIXES)]
    return target.absolute() in own or (target.exists() and database.exists() and target.samefile(database))


def refuse_leftovers(target: Path) -> None:
    """Raise an Error if the log of another database would be applied to a file put here."""
    refuse_side(target)
    for ending in LOG_SUFFIXES:
        log = Path(f"{target}{ending}")
        if log.exists() and log.stat().st_size:
            raise Error(f"{shown(log)} is left over from another database: choose another name, or move it away")


def refuse_side(target: Path) -> None:
    """Raise an Error if SQLite uses a name for a file beside a database: replacing a log would lose it."""
    if target.name.endswith(SIDE_SUFFIXES):
        raise Error(f"{shown(target)} is the name of a file that SQLite keeps beside a database: choose another name")


def _taken(target: Path) -> Error:
    return Error(f"{shown(target)} exists already: choose another name, or remove it first")


# Accessible to the owner only


def private_folder(parent: Path | None = None, prefix: str = "vserver-") -> Path:
    """Create a folder, mode 0700, in `parent` or else in the system's folder for temporary files.

    remove_folder() removes it, or else the end of the process.
    """
    import tempfile

    with signals.held():
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        _temporary[folder] = os.getpid()
    return folder


def dated_name(folder: Path, stem: str, ending: str) -> Path:
    """Return an unused default name: vserver-20260301-093000.db; the time is UTC."""
    name, number = f"{stem}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}", 1
    while os.path.lexists(found := folder / f"{name}{f'-{number}' if number > 1 else ''}{ending}"):
        number += 1
    return found


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a private folder for the duration of the block."""
    folder = private_folder()
    try:
        yield folder
    finally:
        remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder and its content, as far as possible."""
    import shutil

    with signals.held():
        shutil.rmtree(folder, ignore_errors=True)
        _temporary.pop(folder, None)


@atexit.register
def _remove_temporary() -> None:
    """Remove drafts and folders that a signal kept from being removed, between a block and its end for one."""
    for place in [place for place, process in _temporary.items() if process == os.getpid()]:
        (remove_folder if place.is_dir() else _remove_draft)(place)


def make_private(path: Path) -> Path:
    """Create an empty file, mode 0600 whatever the umask, and return its path."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return path


@contextlib.contextmanager
def alone_in(folder: Path, notice: str) -> Iterator[None]:
    """Have the block to this process among those that use this function; wait for another one, after a notice.

    Where the system or the file system has no such locks, it does not wait.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        yield
        return
    try:
        _wait_to_lock(handle, notice)
        yield
    finally:
        os.close(handle)


def _wait_to_lock(handle: int, notice: str) -> None:
    import fcntl

    is_noticed = False
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not is_noticed:
                notify(notice)
            is_noticed = True
            signals.check()
            time.sleep(LOCK_PAUSE)
        except OSError:  # a file system without locks
            return None


def warn_if_accessible(path: Path) -> None:
    """Warn, once for each file, that users other than the owner can access a database."""
    mode = path.stat().st_mode & 0o777
    if mode & ACCESS_BY_OTHERS and path.suffix != PUBLIC and path.absolute() not in _warned_of:
        _warned_of.add(path.absolute())
        owner, remedy = path.stat().st_uid, f"chmod 600 {shlex.quote(shown(path))}"
        if os.geteuid() not in (0, owner):
            remedy = f"its owner, {_user(owner)}, can deny all others access, you included, with: {remedy}"
        notify(f"{shown(path)} is open to others (mode {mode:03o}): {remedy}", "yellow")


def _user(id: int) -> str:
    try:
        import pwd

        return printable(pwd.getpwuid(id).pw_name)
    except (ImportError, KeyError):  # not POSIX, or a user without a name, as in a container
        return f"user {id}"
