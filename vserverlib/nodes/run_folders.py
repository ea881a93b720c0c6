"""The private folder of a run, and its environment.

The names of variables are those of vantage6's tools. The environment is clean: it has what any program needs, what the
node's file adds, and what describes the run.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vserverlib import Error, printable
from vserverlib.nodes.fork_server import REQUEST
from vserverlib.nodes.jobs import Job

WRAPPER = str(Path(__file__).with_name("wrapper.py"))
DEFAULTS = {"PATH": os.defpath, "LANG": "C.UTF-8"}  # of variables that a run has in any case
INHERITED = ("PATH", "LANG", "TZ")
PARAMETERS = ("query", "sheet_name", "preprocessing")  # of a task's database
MAX_RESULT = 48 * 1024 * 1024  # bytes: base64 makes 64 MiB of them, the most that a server takes


def create(root: Path, job: Job) -> Path:
    """Create the folder of a run, with its input and token."""
    folder = Path(tempfile.mkdtemp(prefix=f"run-{int(job.run_id)}-", dir=root))
    for name, content in (("input", job.input), ("token", job.token.encode()), ("output", b"")):
        _write(folder / name, content)
    (folder / "tmp").mkdir(0o700)
    return folder


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def shared(root: Path, job: Job) -> Path:
    """Return the folder that the runs of a job share at a node."""
    return root / f"job-{int(job.job_id)}-at-{int(job.node_id)}"


def write_request(folder: Path, request: dict[str, Any]) -> None:
    """Write what fork_server.py reads of a run."""
    _write(folder / REQUEST, json.dumps(request).encode())


def command(job: Job) -> tuple[str, str]:
    """Return the words for wrapper.py: a kind and a target."""
    package, file = job.algorithm.package, job.algorithm.file
    return ("package", package) if package else ("file", file)


def result(folder: Path) -> bytes | None:
    """Return what the algorithm has written; None if there is nothing. Raises an Error if it is too large."""
    try:
        handle = os.open(folder / "output", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:  # the algorithm has removed or replaced it
        return None
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return None
        if found.st_size > MAX_RESULT:
            raise Error(f"the result has {found.st_size:,} bytes; a server takes {MAX_RESULT:,}")
        return file.read(MAX_RESULT)


def inherited() -> dict[str, str]:
    """Return what any program needs of the node's environment, and what has Python write UTF-8 at once."""
    found = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {**DEFAULTS, **found, "PYTHONIOENCODING": "utf-8:backslashreplace", "PYTHONUNBUFFERED": "1"}


def environment(job: Job, root: Path, folder: Path) -> dict[str, str]:
    """Return the environment of a run. Raises an Error for a value that no environment holds."""
    host, port, path = job.server
    found = {
        **inherited(),
        "HOME": str(folder),
        **job.environment,
        "TMPDIR": str(folder / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "INPUT_FILE": str(folder / "input"),
        "OUTPUT_FILE": str(folder / "output"),
        "TOKEN_FILE": str(folder / "token"),
        "TEMPORARY_FOLDER": str(shared(root, job)),
        "HOST": host,
        "PORT": str(port),
        "API_PATH": path,
        **dict(_databases(job)),
    }
    for name, value in found.items():
        if "\0" in name + value or "=" in name or not name:
            raise Error(f'the variable {printable(name)} cannot be "{printable(value)}", which has a null character')
    return found


def _databases(job: Job) -> Iterator[tuple[str, str]]:
    """Yield the variables about databases. A requested one that the node does not have gets none."""
    yield "DB_LABELS", ",".join(job.databases)
    yield "USER_REQUESTED_DATABASE_LABELS", ",".join(str(each.get("label")) for each in job.requested)
    for label, database in job.databases.items():
        yield f"{label.upper()}_DATABASE_URI", database.uri
        yield f"{label.upper()}_DATABASE_TYPE", database.type
    for each in job.requested:
        label = str(each.get("label"))
        for name, value in _parameters(each).items() if label in job.databases else ():
            yield f"{label.upper()}_{name.upper()}", value


def _parameters(requested: dict[str, Any]) -> dict[str, str]:
    """Return the parameters of a requested database, which the API gives as JSON text or as keys."""
    try:
        inside = json.loads(requested.get("parameters") or "{}")
    except (ValueError, TypeError, RecursionError):
        inside = {}
    given = {**requested, **(inside if isinstance(inside, dict) else {})}
    found = {name: given[name] for name in PARAMETERS if given.get(name)}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
