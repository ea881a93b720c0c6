"""How a run ended, in the API's words and in a line for its log."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import Any

from vserverlib.nodes.jobs import Limits

MEMORY_ERROR = re.compile(r"\b_?(Array)?MemoryError\b|std::bad_alloc|Cannot allocate memory")
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def described(ended: Mapping[str, Any], limits: Limits, tail: str) -> tuple[str, str]:
    """Return the status of a run, and a line for its log, which may be empty.

    ended: what the supervisor said: `exit`, or `ended` by "time" or "order". tail: the end of the log.
    """
    if ended.get("ended") == "time":
        return "failed", f"the run was ended: it exceeded {limits.seconds:g} s"
    if ended.get("ended") == "order":
        return "killed by user", ""
    if not ended:
        return "failed", "the run was lost: its processes were killed from outside"
    code = ended["exit"]
    if code == 0:
        return "completed", ""
    if limits.memory and MEMORY_ERROR.search(tail):
        return "crashed", f"the run exceeded {_size(limits.memory)} of memory"
    if code < 0:
        return "crashed", f"the run was ended by signal {-code} ({_name(-code)})"
    return "crashed", ""


def _size(number: int) -> str:
    unit, name = next(((unit, name) for unit, name in UNITS if number >= unit), (1, "bytes"))
    return f"{number / unit:.1f} {name}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return "unknown"
