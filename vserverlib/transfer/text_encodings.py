"""Converts text files to plain UTF-8 in a private copy: byte order marks, UTF-16 (as PowerShell writes it), gzip.

Any other encoding or compression is refused with a remedy. The copy has a limit (MAX_RATIO, ALWAYS_ALLOWED), so a small
compressed file cannot fill the disk. detection.py finds out which kind of file the text is.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import itertools
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from vserverlib import Damaged, Error, files
from vserverlib.databases import sqlite_headers
from vserverlib.files import shown

BYTES_PER_READ = 1024 * 1024
MAX_RATIO, ALWAYS_ALLOWED = 200, 64 * 1024 * 1024  # of the sizes of copy and file; bytes allowed at any ratio
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
GZIP = b"\x1f\x8b"
SAVE = "save it as UTF-8"


def is_wrapped(head: bytes) -> bool:
    """Whether unwrap() converts a file with these first bytes."""
    return head.startswith((GZIP, codecs.BOM_UTF8, *UTF_16)) and not head.startswith(UTF_32)


def refuse_others(named: Path, head: bytes) -> None:
    """Raise an Error for a compression or an encoding that is not supported."""
    sqlite_headers.refuse_packed(named, head, but=GZIP)
    if head.startswith(UTF_32):
        raise Error(f"{shown(named)} is UTF-32: {SAVE}")
    if [byte == 0 for byte in head[:4]] in ([True, False] * 2, [False, True] * 2):
        raise Error(f"{shown(named)} is UTF-16 without a byte order mark: {SAVE}")


def unwrap(path: Path, place: Path, longest: int, may_be_longer: Callable[[bytes], bool]) -> None:
    """Write the text of a file to the private file `place`, in UTF-8.

    longest: bytes that the reader accepts, so one more is written at most. It does not hold if may_be_longer(first
    bytes) is true. Raises an Error if the file is damaged or truncated, or the text is more than MAX_RATIO times as
    large.
    """
    with files.as_error(f"{shown(path)} cannot be read"), contextlib.ExitStack() as stack:
        chunks = _chunks(stack.enter_context(open(path, "rb")), path)
        target = stack.enter_context(open(files.make_private(place), "wb"))
        first = next(chunks, b"")
        is_long = may_be_longer(first)
        left = max(ALWAYS_ALLOWED, MAX_RATIO * os.path.getsize(path)) if is_long else longest + 1
        for chunk in itertools.chain([first], chunks):
            target.write(chunk[:left])
            left -= len(chunk)
            if left <= 0:
                break
    if left <= 0 and is_long:  # the reader refuses any other text that is too long
        message = f"is more than {MAX_RATIO} times as large when unpacked"
        raise Error(f"{shown(path)} {message}: if you trust it, unpack it first: {sqlite_headers.unpacking(path)}")


def _chunks(file: BinaryIO, named: Path) -> Iterator[bytes]:
    """Yield the text of a file in UTF-8."""
    try:
        head = file.read(2)
        file.seek(0)
        raw: BinaryIO = gzip.GzipFile(fileobj=file) if head == GZIP else file  # type: ignore[assignment]  # it has the same methods
        yield from _decoded(raw, named, is_packed=raw is not file)
    except EOFError:
        raise Damaged(f"{shown(named)} is truncated: the compressed data ends early: copy it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Damaged(f"{shown(named)} is damaged ({error}): nothing was imported") from None


def _decoded(raw: BinaryIO, named: Path, is_packed: bool) -> Iterator[bytes]:
    first = raw.read(BYTES_PER_READ)
    if is_packed:
        _refuse_packed(named, first)
    decoder = None
    if first.startswith(UTF_16):
        decoder = codecs.getincrementaldecoder("utf-16")()
    parts = itertools.chain([first.removeprefix(codecs.BOM_UTF8)], iter(lambda: raw.read(BYTES_PER_READ), b""))
    try:
        for part in parts:
            yield decoder.decode(part).encode() if decoder else part
        yield decoder.decode(b"", final=True).encode() if decoder else b""
    except UnicodeError:
        raise Error(f"{shown(named)} begins with a UTF-16 byte order mark, but is not UTF-16: {SAVE}") from None


def _refuse_packed(named: Path, head: bytes) -> None:
    """Raise an Error if the compressed data is not a text."""
    sqlite_headers.refuse_dump(named, head)
    sqlite_headers.refuse_packed(named, head)
    refuse_others(named, head)
    if sqlite_headers.read_header(head[:100]) is not None:
        message = "is a SQLite database compressed with gzip: unpack it first"
        raise Error(f"{shown(named)} {message}: {sqlite_headers.unpacking(named)}")
