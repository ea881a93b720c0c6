"""The mount table of Linux (/proc/self/mountinfo, see proc(5)): whether a file system is read-only, or a file mounted.

On other systems neither is ever reported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TABLE = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """One line of the table: the device (major, minor), the mount point, and the options of the file system."""

    device: tuple[int, int]
    point: bytes
    options: frozenset[bytes]


def _mounts() -> Iterator[Mount]:
    try:
        lines = TABLE.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:  # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
        ours, _, of_file_system = line.partition(b" - ")
        fields = ours.split(b" ")
        major, _, minor = fields[2].partition(b":")
        point = _ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), fields[4])
        yield Mount((int(major), int(minor)), point, frozenset(of_file_system.split(b" ")[-1].split(b",")))


def is_mount_point(file: Path) -> bool:
    """Whether a file (a path without links) is itself a mount point: others see other files beside it."""
    name = os.fsencode(file)
    return any(mount.point == name for mount in _mounts())


def is_on_read_only_disk(file: Path) -> bool:
    """Whether nobody can write to a file, whatever their permissions: its file system itself is read-only.

    A read-only mount is not enough, because the file system may also be mounted read-write elsewhere. Nor are network
    and overlay file systems, which are written to from outside: they have no block device, so their major number is 0.
    """
    device = os.stat(file).st_dev
    numbers = os.major(device), os.minor(device)
    found = [mount for mount in _mounts() if mount.device == numbers]
    return numbers[0] != 0 and bool(found) and all(b"ro" in mount.options for mount in found)
