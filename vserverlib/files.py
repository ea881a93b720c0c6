"""Files that hold a database: made beside their place and put there whole, and their owner's alone.

It owns names, permissions and what is on disk at which moment. What is in a file is storage.py's.

What SQLite keeps beside a database (SIDES) belongs to that database alone: a log that is left over would be applied to
whatever is put in its place. So nothing is put where one is.
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
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from vserverlib import Error, mounts, printable, signals
from vserverlib.drivers import peewee
from vserverlib.messages import notify

SIDES = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database
LOGS = ("-wal", "-journal")  # those of them whose content would be applied to another file
PUBLIC = ".example"  # the end of the name of a database that is meant to be read by all
OTHERS = 0o077  # what the mode of a file should not grant
_told: set[Path] = set()
_names_of_copies: dict[str, str] = {}  # by path: see shown_as()
_passing: dict[Path, int] = {}  # drafts and private folders that are there, with the process that made them


# In messages


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path as a message shows it."""
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


def reason(error: BaseException) -> str:
    """Return why something could not be done with a file."""
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror, 200)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return printable(error, 200) + ("; is the disk full?" if code == sqlite3.SQLITE_IOERR else "")


@contextlib.contextmanager
def as_error(what: str) -> Iterator[None]:
    """Have what goes wrong with a file become one line: what cannot be done, and why."""
    try:
        yield
    except (OSError, sqlite3.Error, peewee.PeeweeException) as error:
        raise Error(f"{what}: {reason(error)}") from error


# The names of a file


def real(path: Path) -> Path:
    """Return where a file is, without links: SQLite keeps what it needs beside the file itself, not beside a link."""
    return Path(os.path.realpath(path))


def other_names(file: Path) -> str:
    """Return what other names a file has, for a message; "" if it has none. file: where it is, without links.

    SQLite keeps a log beside each name. What is in one is not seen through the other, and is lost.
    """
    found = os.stat(file)
    if found.st_nlink > 1:
        return f"has {found.st_nlink} names (hard links{_twins(file, found)})"
    return "is mounted as a single file" if mounts.is_mount_point(file) else ""


def _twins(file: Path, found: os.stat_result) -> str:
    """Return the other names of a file in its folder, as far as it can be read."""
    names = list[str]()
    with contextlib.suppress(OSError), os.scandir(file.parent) as entries:
        names = sorted(each.name for each in entries if each.inode() == found.st_ino and each.name != file.name)
    return f": {', '.join(map(shown, names[:3]))}" if names else ""


def remove_draft_of(file: Path) -> None:
    """Remove the name of a draft that a killed program left: it had put the file in its place, and went no further."""
    found = os.stat(file)
    if found.st_nlink == 1:
        return
    with contextlib.suppress(OSError), os.scandir(file.parent) as entries:
        for each in entries:
            if each.inode() == found.st_ino and _is_draft_of(each.name, file) and os.path.samefile(each.path, file):
                os.unlink(each.path)


def _is_draft_of(name: str, file: Path) -> bool:
    """Whether a name is one that unfinished() gives."""
    return re.fullmatch(re.escape(f".{file.name[:100]}.") + r"[a-z0-9_]{8}\.new", name) is not None


# Making and putting


@contextlib.contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """A file beside the target, 0600, that is gone at the end unless it was put in the target's place."""
    import tempfile  # with shutil and random, 4 ms that most commands need not pay

    with signals.held():
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".new", dir=target.parent)
        os.close(handle)
        _passing[Path(name)] = os.getpid()
    try:
        yield Path(name)
    finally:
        _remove_draft(Path(name))


def _remove_draft(draft: Path) -> None:
    with signals.held():
        for ending in ("", *SIDES):
            Path(f"{draft}{ending}").unlink(missing_ok=True)
        _passing.pop(draft, None)


def put(draft: Path, target: Path, *, replace: bool = False) -> None:
    """Give the draft its name, and have both be on disk. Nothing is followed: a link of that name is what is replaced.

    Raises an Error where the name is taken (by another process meanwhile, or at all), unless it is to be replaced.
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
def written(target: Path, *, replace: bool = False) -> Iterator[TextIO]:
    """A text file that is its owner's alone, to be written to: in its place at the end, whole, or not at all."""
    with as_error(f"{shown(target)} cannot be made"), unfinished(target) as draft:
        with open(draft, "w", encoding="utf-8", newline="\n") as file:
            yield file
        put(draft, target, replace=replace)


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
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise
    finally:
        os.close(handle)


def refuse_taken(target: Path) -> None:
    """Raise an Error where a file of this name cannot be made: it is there already, or its folder is not."""
    if os.path.lexists(target):
        raise _taken(target)
    if not target.parent.is_dir():
        raise Error(f"the folder {shown(target.parent)} does not exist: make it first")
    refuse_leftovers(target)


def refuse_place(target: Path, database: Path | None, *, force: bool) -> None:
    """Raise an Error where what is made of a database cannot be put: the place is taken, or the database's own.

    database: its file; None for one on a server. force: a file that is there is to be replaced; what is no file, or
    belongs to the database, is refused all the same.
    """
    if not force:
        return refuse_taken(target)
    if database is not None and _is_of(target, database):
        raise Error(f"{shown(target)} is the database itself, or belongs to it: choose another name")
    if os.path.lexists(target) and not target.is_symlink() and not target.is_file():
        raise Error(f"{shown(target)} is no regular file: choose another name")
    if not target.parent.is_dir():
        raise Error(f"the folder {shown(target.parent)} does not exist: make it first")
    return refuse_side(target)


def _is_of(target: Path, database: Path) -> bool:
    own = [Path(f"{database}{ending}").absolute() for ending in ("", *SIDES)]
    return target.absolute() in own or (target.exists() and database.exists() and target.samefile(database))


def refuse_leftovers(target: Path) -> None:
    """Raise an Error where the log of another database would be applied to a file that is put here."""
    refuse_side(target)
    for ending in LOGS:
        log = Path(f"{target}{ending}")
        if log.exists() and log.stat().st_size:
            raise Error(f"{shown(log)} is left over from another database: choose another name, or move it away")


def refuse_side(target: Path) -> None:
    """Raise an Error where a name is that of what SQLite keeps beside a database: a log that is replaced is lost."""
    if target.name.endswith(SIDES):
        raise Error(f"{shown(target)} is what SQLite calls a file beside a database: choose another name")


def _taken(target: Path) -> Error:
    return Error(f"{shown(target)} is there already: choose another name, or remove it first")


# Its owner's alone


def private_folder(parent: Path | None = None, prefix: str = "vserver-") -> Path:
    """Return a new folder, 0700, in a parent or else under the system's folder for temporary files.

    It is removed by remove_folder(), or else when the process ends.
    """
    import tempfile

    with signals.held():
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        _passing[folder] = os.getpid()
    return folder


def dated(folder: Path, stem: str, ending: str) -> Path:
    """Return a name that is not taken for what nobody gave one: vserver-20260301-093000.db; the time is UTC."""
    name, number = f"{stem}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}", 1
    while os.path.lexists(found := folder / f"{name}{f'-{number}' if number > 1 else ''}{ending}"):
        number += 1
    return found


@contextlib.contextmanager
def passing_folder() -> Iterator[Path]:
    """A private folder that is gone at the end of the block."""
    folder = private_folder()
    try:
        yield folder
    finally:
        remove_folder(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder and all in it, as far as that can be done."""
    import shutil

    with signals.held():
        shutil.rmtree(folder, ignore_errors=True)
        _passing.pop(folder, None)


@atexit.register
def _remove_passing() -> None:
    """Remove what a signal has kept from being removed: one that came between a block and its end, for one."""
    for place in [place for place, process in _passing.items() if process == os.getpid()]:
        (remove_folder if place.is_dir() else _remove_draft)(place)


def make_private(path: Path) -> Path:
    """Make an empty file, 0600 whatever the umask, for what is to be written to it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return path


def tell_of_others(path: Path) -> None:
    """Tell, once for each file, that others than its owner may read a database or write to it."""
    mode = path.stat().st_mode & 0o777
    if mode & OTHERS and path.suffix != PUBLIC and path.absolute() not in _told:
        _told.add(path.absolute())
        owner, remedy = path.stat().st_uid, f"chmod 600 {shlex.quote(shown(path))}"
        if os.geteuid() not in (0, owner):
            remedy = f"{_user(owner)}, whose file it is, closes it by {remedy}, to you too"
        notify(f"{shown(path)} is open to others (mode {mode:03o}): {remedy}", "yellow")


def _user(id: int) -> str:
    try:
        import pwd

        return printable(pwd.getpwuid(id).pw_name)
    except (ImportError, KeyError):  # no POSIX; a user without a name, as in a container
        return f"user {id}"
