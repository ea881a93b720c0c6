"""The header of a SQLite file, read before the file is opened; recognizing other kinds of files by their beginning.

storage.py decides whether a database is ours.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from vserverlib import Damaged, NotADatabase, files
from vserverlib.databases import snapshots, sqlite_connections
from vserverlib.files import shown

_MAGIC = b"SQLite format 3\0"
HEAD = 65536  # bytes of a file that are read to recognize its format
EXPORT = b'{"vserver"'  # the beginning of our exports, without white space
DUMPS = (b"PGDMP", b"--\n-- PostgreSQL database")  # the beginnings of pg_dump's custom and plain formats


PACKED = {  # the beginnings of compressed files, by the command that unpacks them
    "gunzip -k": (b"\x1f\x8b",),
    "unzstd": (b"\x28\xb5\x2f\xfd",),
    "unxz -k": (b"\xfd7zXZ\0",),
    "bunzip2 -k": (b"BZh",),
    "unlz4": (b"\x04\x22\x4d\x18",),
    "unzip": (b"PK\x03\x04", b"PK\x05\x06"),
    "7z x": (b"7z\xbc\xaf\x27\x1c", b"Rar!"),
}


class Header(NamedTuple):
    """The fields of a SQLite file's header that matter here (sqlite.org/fileformat.html, 1.3)."""

    pages: int
    page_size: int
    schema: int
    application_id: int


def read_header(head: bytes) -> Header | None:
    """Return the header in the first 100 bytes of a file; None if it is not a SQLite database."""
    if not head.startswith(_MAGIC) or len(head) < 100:
        return None
    number = [int.from_bytes(head[at : at + 4]) for at in range(0, 100, 4)]
    page_size = int.from_bytes(head[16:18])
    counted = number[24 // 4] == number[92 // 4]  # otherwise an old SQLite wrote last, and the page count is stale
    size = 65536 if page_size == 1 else page_size
    return Header(number[28 // 4] if counted else 0, size, number[60 // 4], number[68 // 4])


def refuse_dump(path: Path, head: bytes) -> None:
    """Raise NotADatabase if the first bytes are those of a pg_dump file."""
    if head.startswith(DUMPS):
        use = "restore it on a server with pg_restore or psql, and name that database by its URL"
        raise NotADatabase(f"{shown(path)} is a dump of a PostgreSQL database: {use}")


def refuse_packed(path: Path, head: bytes, but: bytes = b"") -> None:
    """Raise NotADatabase if a file is compressed. but: the beginning of a format that is accepted."""
    for command, starts in PACKED.items():
        if head.startswith(starts) and not (but and head.startswith(but)):
            message = f"{shown(path)} is compressed, so it is neither a SQLite database nor a text file"
            raise NotADatabase(f"{message}: unpack it first, and name its content: {unpacking(path, command)}")


def unpacking(path: Path, command: str = "gunzip -k") -> str:
    """Return the command that unpacks a file."""
    import shlex  # rarely needed

    return f"{command} {shlex.quote(shown(path))}"


def refuse_cut_off(path: Path, header: Header, size: int) -> None:
    """Raise Damaged if a file is shorter than its header says, and no log has the rest.

    A file that is just being written may look so, so it is checked again after the writer has finished.
    """
    whole, file = header.pages * header.page_size, files.real(path)
    if size >= whole:
        return
    with files.as_error(f"{shown(path)} cannot be read"), snapshots.held(file) as descriptor:
        again, size = read_header(os.pread(descriptor, 100, 0)), os.fstat(descriptor).st_size
        has_log = any(
            os.path.exists(log) and os.path.getsize(log) for log in (f"{file}{each}" for each in files.LOG_SUFFIXES)
        )
    whole = again.pages * again.page_size if again is not None else whole
    if size < whole and not has_log:
        raise Damaged(f"{shown(path)} is cut off ({size:,} of {whole:,} bytes): use an earlier backup")


def immutable(path: Path) -> sqlite_connections.Connection:
    """Open a file without creating files beside it; the content of its write-ahead log is not visible."""
    return sqlite_connections.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
