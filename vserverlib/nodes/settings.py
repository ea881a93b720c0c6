"""Reads a node's file: which server, which nodes with which data, which algorithms may run, and their limits.

The file is YAML. Paths in it are relative to its folder. Each fault is one line with its place; all are reported at
once. jobs.py owns what is run with these settings; client.py checks the API keys.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import stat
import sys
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from vserverlib import Error, did_you_mean, documents, files, printable
from vserverlib.documents import Faults, List, Mapping, Text, Unread, Value
from vserverlib.files import shown
from vserverlib.messages import notify
from vserverlib.nodes.environments import default_python
from vserverlib.nodes.jobs import Algorithm, Database, Limits

MAX_BYTES = 1024 * 1024  # of a node's file
MAX_KEY_BYTES = 1000  # of a file with an API key
MAX_NODES = 100  # in a file: each has a connection of its own
MAX_SECONDS = 366 * 86400
MAX_PARALLEL = 1000
DEFAULT_LIMITS = Limits(seconds=600, memory=0, parallel=4)
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
MEMORY = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # of a label or a variable
PACKAGE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
SPARQL = ("http://", "https://")
TYPES = {".csv": "csv", ".xlsx": "excel", ".xls": "excel", ".ods": "excel", ".parquet": "parquet"}
ALL_TYPES = ("csv", "excel", "parquet", "sql", "sparql")
FILE_TYPES = ("csv", "excel", "parquet")
HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
API_PATH = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?")
CONSEQUENCE = "no node was started"
TOP = ("server", "nodes", "algorithms", "python", "limits", "run_with", "environment")
NODE = ("api_key", "api_key_file", "databases")
ALGORITHM = ("package", "file", "python")

EXAMPLE = """\
# The nodes of this machine: `vserver node FILE` runs them. Paths are relative to this file.
# Beside `vserver start --nodes FILE`, the server is that one, whatever is written here.
server: http://127.0.0.1:7601/api

nodes:
  - api_key: PUT-THE-KEY-HERE        # as `vserver create node` printed it; or api_key_file: site1.key
    databases:
      default: site1.csv             # label: a CSV, Excel or Parquet file, or the URI of an SQL database

# Only these images run. Each is a Python file with functions, or an installed package:
algorithms:
  demo/average:1: {file: average.py}
#  harbor2.vantage6.ai/demo/average: {package: v6-average-py, python: venv/bin/python}

# A run that exceeds one of the first two is ended. parallel: runs at once; more runs wait.
limits: {seconds: 600, memory: 2G, parallel: 4}

# Words before the command of each run, such as [bwrap, --unshare-net, ...]
run_with: []

# Variables for all algorithms.
environment: {}
"""


class Server(NamedTuple):
    """Where a server is. host: with its scheme, such as http://127.0.0.1; path: of the API, such as /api.

    is_beside: whether it has started these nodes, on this machine.
    """

    host: str
    port: int
    path: str
    is_beside: bool = False

    @property
    def url(self) -> str:
        """The URL of the API."""
        return f"{self.host}:{self.port}{self.path}"


NO_SERVER = Server("", 0, "")  # of a file with a fault


@dataclass(frozen=True)
class NodeSettings:
    """A node. title: how messages name it. The key is in no message and no repr()."""

    title: str
    api_key: str = field(repr=False)
    databases: dict[str, Database]


@dataclass(frozen=True)
class Settings:
    """What a node's file says."""

    path: Path
    server: Server
    nodes: tuple[NodeSettings, ...]
    algorithms: dict[str, Algorithm]
    limits: Limits = DEFAULT_LIMITS
    run_with: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def read(path: Path, server: str | None = None, *, warns: bool = True) -> Settings:
    """Return what a node's file says. Raises an Error with each fault. Warns if others can read secrets or edit it.

    server: the URL of the server beside which the nodes run, in place of the file's, which may be left out.
    """
    reader = _Reader(path, server)
    found = reader.settings()
    for file in sorted({path, *reader.secret_files} if warns else ()):
        _warn_if_open(file, file in reader.secret_files)
    return found


def write_example(path: Path) -> None:
    """Write a commented example, readable by its owner only. Raises an Error if the file exists."""
    with files.new_text_file(path) as file:
        file.write(EXAMPLE)


def refuse_repeated(settings: list[Settings]) -> None:
    """Raise an Error if two files have a node with the same key."""
    seen: dict[str, NodeSettings] = {}
    for node in (node for each in settings for node in each.nodes):
        if node.api_key in seen:
            raise Error(f"{node.title} has the api_key of {seen[node.api_key].title}: a node runs once, remove one")
        seen[node.api_key] = node


# Reading


class _Reader:
    """Reads one file, and collects its faults."""

    def __init__(self, path: Path, server: str | None) -> None:
        self._path, self._folder, self._beside = path, path.absolute().parent, server
        self._faults = Faults(path, CONSEQUENCE)
        self.secret_files: set[Path] = set()

    def settings(self) -> Settings:
        """Return what the file says."""
        self._refuse_large()
        settings = self._top(documents.read(self._path, self._faults))
        for remarks in (self._faults.lost, self._faults.unusual):
            for place, text in remarks.first:
                self._faults.add(place, text)
        self._faults.refuse()
        return settings

    def _refuse_large(self) -> None:
        with files.as_error(f"{shown(self._path)} cannot be read"):
            found = self._path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size > MAX_BYTES:
            raise Error(f"{shown(self._path)} is larger than {MAX_BYTES // 2**20} MiB: a node's file has a few lines")

    def _top(self, value: Value) -> Settings:
        needed = ("nodes", "algorithms") if self._beside is not None else ("server", "nodes", "algorithms")
        given = self._mapping(value, "the file", TOP, needed)
        python = self._python(given["python"], "python") if "python" in given else ""
        return Settings(
            self._path,
            self._server(given.get("server")) if self._beside is None else _server_beside(self._beside),
            tuple(self._nodes(given.get("nodes"))),
            dict(self._algorithms(given.get("algorithms"), python)),
            self._limits(given.get("limits")),
            tuple(self._run_with(given.get("run_with"))),
            dict(self._environment(given.get("environment"))),
        )

    # Values

    def _fault(self, value: Value, text: str) -> None:
        self._faults.add(value.place, text)

    def _mapping(
        self, value: Value | None, name: str, known: Iterable[str] | None = None, needed: Iterable[str] = ()
    ) -> dict[str, Value]:
        """Return a mapping with known keys only; None for known: any. An empty one if it is something else."""
        if value is None or isinstance(value, Unread) or (isinstance(value, Text) and value.is_null and not needed):
            return {}
        if not isinstance(value, Mapping):
            self._fault(value, f"{name} is a mapping (KEY: VALUE), not {_described(value)}")
            return {}
        for key, place in value.keys.items():
            if known is not None and key not in known:
                remedy = did_you_mean(key, known) or f": it has {', '.join(known)}"
                self._faults.add(place, f'{name} has no "{printable(key)}"{remedy}')
        for key in needed:
            if key not in value.values:
                self._fault(value, f'{name} needs "{key}"')
        return {key: each for key, each in value.values.items() if known is None or key in known}

    def _list(self, value: Value | None, name: str) -> list[Value]:
        if value is None or isinstance(value, Unread) or _is_empty(value):
            return []
        if not isinstance(value, List):
            self._fault(value, f"{name} is a list (- ITEM, or [ITEM, ITEM]), not {_described(value)}")
            return []
        return value.items

    def _text(self, value: Value, name: str) -> str:
        """Return a text that is not empty; "" after a fault."""
        if isinstance(value, Text) and value.text and not value.is_null:
            return value.text
        if not isinstance(value, Unread):
            self._fault(value, f"{name} is a text, not {_described(value)}")
        return ""

    def _number(self, value: Value, name: str, lowest: float, highest: float) -> float | None:
        text = self._text(value, name)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if lowest <= number <= highest:
            return number
        if text:
            self._fault(value, f'{name} is a number from {lowest:g} to {highest:g}, not "{printable(text)}"')
        return None

    # The parts of the file

    def _server(self, value: Value | None) -> Server:
        text = "" if value is None else self._text(value, "server")
        if value is None or not text:
            return NO_SERVER
        found = _server(text)
        if found is None:
            message = "is the URL of the server's API, such as http://127.0.0.1:7601/api, without a user or a query"
            self._fault(value, f'server {message}, not "{printable(text.rpartition("@")[2])}"')
        return found or NO_SERVER

    def _nodes(self, value: Value | None) -> Iterator[NodeSettings]:
        items = self._list(value, "nodes")
        if value is not None and _is_empty(value):
            self._fault(value, "nodes is empty: it needs a node (- api_key: KEY)")
        if value is not None and len(items) > MAX_NODES:
            self._fault(value, f"nodes has {len(items):,} nodes: a file has at most {MAX_NODES}, use several")
        seen: dict[str, str] = {}
        for number, each in enumerate(items[:MAX_NODES], 1):
            title = f"node {number} of {shown(self._path)}"
            given = self._mapping(each, f"node {number}", NODE)
            key = self._api_key(each, given, f"node {number}")
            if key in seen:
                self._fault(each, f"node {number} has the same api_key as {seen[key]}: a node runs once, remove one")
            elif key:
                seen[key] = f"node {number}"
            yield NodeSettings(title, key, dict(self._databases(given.get("databases"), f"node {number}")))

    def _api_key(self, node: Value, given: dict[str, Value], name: str) -> str:
        """Return the API key of a node, in the form in which all keys compare; "" after a fault."""
        if isinstance(node, Mapping) and ("api_key" in given) == ("api_key_file" in given):
            self._fault(node, f'{name} needs one of "api_key" and "api_key_file"')
        elif "api_key" in given:
            self.secret_files.add(self._path)
            text = self._text(given["api_key"], f"api_key of {name}")
            return self._uuid(given["api_key"], f"api_key of {name}", text) if text else ""
        elif "api_key_file" in given and (path := self._file(given["api_key_file"], f"api_key_file of {name}")):
            self.secret_files.add(path)
            with open(path, "rb") as file:
                text = file.read(MAX_KEY_BYTES).decode(errors="replace").strip()
            return self._uuid(given["api_key_file"], f"the content of api_key_file of {name}", text)
        return ""

    def _uuid(self, value: Value, name: str, text: str) -> str:
        try:
            return str(uuid.UUID(text))
        except ValueError:
            self._fault(value, f"{name} is no API key: take the UUID that `vserver create node` prints")
            return ""

    def _file(self, value: Value, name: str) -> Path | None:
        """Return the path of a file that can be read; None after a fault."""
        text = self._text(value, name)
        if not text:
            return None
        path = self._folder / os.path.expanduser(text)
        if path.is_file() and os.access(path, os.R_OK):
            return path
        problem = "cannot be read" if os.path.lexists(path) else "does not exist"
        self._fault(value, f"{name} is a file, but {shown(path)} {problem}")
        return None

    def _databases(self, value: Value | None, name: str) -> Iterator[tuple[str, Database]]:
        seen: set[str] = set()
        for label, each in self._mapping(value, f"databases of {name}").items():
            if not NAME.fullmatch(label):
                self._fault(each, f'"{printable(label)}" is no label: use ASCII letters, digits and _, such as default')
            elif label.upper() in seen:
                self._fault(each, f'two databases of {name} are "{printable(label)}", but for capitals: rename one')
            elif (found := self._database(each, f"database {label} of {name}")) is not None:
                yield label, found
            seen.add(label.upper())

    def _database(self, value: Value, name: str) -> Database | None:
        """Return a database; None after a fault. Its URI is in no message: it may have a password."""
        given = self._mapping(value, name, ("uri", "type"), ("uri",)) if not isinstance(value, Text) else {"uri": value}
        if "uri" not in given:
            return None
        uri = self._text(given["uri"], name)
        kind = self._text(given["type"], f"type of {name}") if "type" in given else _type_of(uri)
        if uri and kind not in ALL_TYPES:
            what = f'has the type "{printable(kind)}"' if kind else "is of an unknown type"
            self._fault(value, f"{name} {what}: write {{uri: ..., type: ...}} with one of {', '.join(ALL_TYPES)}")
            return None
        if URI.match(uri):
            self.secret_files.add(self._path)
            return Database(uri, kind)
        if uri and kind not in FILE_TYPES:
            self._fault(value, f"{name} is not a URI, as a database of type {kind} is: SCHEME://...")
            return None
        path = self._file(given["uri"], name) if uri else None
        return None if path is None else Database(str(path), kind)

    def _algorithms(self, value: Value | None, python: str) -> Iterator[tuple[str, Algorithm]]:
        for image, each in self._mapping(value, "algorithms").items():
            if (found := self._algorithm(each, f"algorithm {printable(image)}", python)) is not None:
                yield image, found

    def _algorithm(self, value: Value, name: str, python: str) -> Algorithm | None:
        """Return an algorithm; None after a fault. python: that of the file, if it names one."""
        given = self._mapping(value, name, ALGORITHM) if not isinstance(value, Text) else {"package": value}
        if isinstance(value, Unread):
            return None
        if ("package" in given) == ("file" in given):
            self._fault(value, f'{name} needs one of "package" and "file"')
            return None
        own = self._python(given["python"], f"python of {name}") if "python" in given else python
        if "package" in given:
            return Algorithm(own or default_python(), package=self._package(given["package"], f"package of {name}"))
        path = self._file(given["file"], f"file of {name}")
        return None if path is None else Algorithm(own or sys.executable, file=str(path))

    def _package(self, value: Value, name: str) -> str:
        text = self._text(value, name)
        if text and not PACKAGE.fullmatch(text):
            self._fault(value, f'{name} is the name of a module, not "{printable(text)}"; for a file, use "file"')
        return text

    def _python(self, value: Value, name: str) -> str:
        """Return the path of an interpreter, without following links: an environment is found by them."""
        text = self._text(value, name)
        return self._program(value, name, text, "an interpreter") if text else ""

    def _program(self, value: Value, name: str, text: str, what: str) -> str:
        path = self._folder / os.path.expanduser(text) if os.sep in text else Path(shutil.which(text) or "")
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
        self._fault(value, f'{name} is {what}, but "{printable(text, 200)}" is no program that can be run')
        return ""

    def _limits(self, value: Value | None) -> Limits:
        given = self._mapping(value, "limits", Limits._fields)
        found: dict[str, Any] = {}
        if "seconds" in given:
            found["seconds"] = self._number(given["seconds"], "seconds of limits", 1, MAX_SECONDS) or 0
        if "parallel" in given:
            found["parallel"] = int(self._number(given["parallel"], "parallel of limits", 1, MAX_PARALLEL) or 1)
        if "memory" in given:
            found["memory"] = self._memory(given["memory"])
        return DEFAULT_LIMITS._replace(**found)

    def _memory(self, value: Value) -> int:
        text = self._text(value, "memory of limits")
        found = MEMORY.fullmatch(text)
        if text and found is None:
            self._fault(value, f'memory of limits is a size such as 512M or 2G, or 0 for none, not "{printable(text)}"')
        return int(float(found[1]) * UNITS[found[2].upper()]) if found else 0

    def _run_with(self, value: Value | None) -> Iterator[str]:
        for number, each in enumerate(self._list(value, "run_with")):
            text = self._text(each, "a word of run_with")
            yield self._program(each, "the first word of run_with", text, "a program") if text and not number else text

    def _environment(self, value: Value | None) -> Iterator[tuple[str, str]]:
        for name, each in self._mapping(value, "environment").items():
            if not NAME.fullmatch(name):
                self._fault(each, f'"{printable(name)}" is no name of a variable: use ASCII letters, digits and _')
            elif isinstance(each, Text):
                self.secret_files.add(self._path)  # perhaps: nobody knows
                yield name, "" if each.is_null else each.text
            elif not isinstance(each, Unread):
                self._fault(each, f"{printable(name)} of environment is a text, not {_described(each)}")


def _is_empty(value: Value) -> bool:
    return (isinstance(value, Text) and value.is_null) or (isinstance(value, List) and not value.items)


def _described(value: Value) -> str:
    """Return a value as messages name it."""
    if isinstance(value, Text):
        return f'"{printable(value.text)}"' if value.text else "empty"
    return "a list" if isinstance(value, List) else "a mapping"


def _server(text: str) -> Server | None:
    """Return the server of a URL; None if it is something else."""
    try:
        found = urlsplit(text)
        port = found.port or {"http": 80, "https": 443}[found.scheme]
    except (ValueError, KeyError):
        return None
    host = found.hostname or ""
    is_whole = host and found.username is None and not found.query and not found.fragment and "@" not in text
    if not is_whole or not HOST.fullmatch(host) or not API_PATH.fullmatch(found.path):
        return None
    return Server(f"{found.scheme}://{f'[{host}]' if ':' in host else host}", port, found.path.rstrip("/"))


def _server_beside(text: str) -> Server:
    return (_server(text) or NO_SERVER)._replace(is_beside=True)


def _type_of(uri: str) -> str:
    """Return the type of a database by its URI or the ending of its file; "" if it is unknown."""
    if found := URI.match(uri):
        return "sparql" if found[0].lower() in SPARQL else "sql"
    return TYPES.get(Path(uri).suffix.lower(), "")


def _warn_if_open(path: Path, has_secrets: bool) -> None:
    """Warn if others can edit a file, which decides what runs with its user's rights, or read its secrets."""
    mode = path.stat().st_mode & 0o777
    if os.name == "posix" and mode & (0o066 if has_secrets else 0o022):
        what = "has secrets" if has_secrets else "decides what runs with your rights"
        remedy = f"chmod 600 {shlex.quote(shown(path))}"
        notify(f"{shown(path)} {what} and is open to others (mode {mode:03o}): {remedy}", "yellow")
