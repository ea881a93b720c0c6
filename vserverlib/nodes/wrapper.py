"""Calls a function of an algorithm as vantage6's tools do, or has them do it. A program of its own.

It runs in any Python from 3.10 on, without vserver. What the run needs is in the environment, under the names that the
tools have for it. docs/algorithms.md describes the contract for algorithms without the tools:

- the input's `method` is a function of the module, called with its `args` and `kwargs`;
- parameters named `client`, `data`, `rows` or `path` (also `data1`, `data2`, …) come first, and are filled in;
- the returned value is the result, as JSON; printed text is the log; an exception is a crash.

If this Python has the tools, their wrap_algorithm() is called, except for a function that it could not call because its
first parameters are those.
"""

from __future__ import annotations

import base64
import csv
import importlib
import inspect
import itertools
import json
import logging
import os
import re
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

FILLED_IN = re.compile(r"client|(data|rows|path)\d*")
FIRST_PAUSE, PAUSE_FACTOR = 0.05, 1.5  # seconds between two questions whether a task has finished
RETRY_PAUSE = 1.0  # seconds until the server is asked again
ANSWER_SECONDS = 300
COMPLETED = "completed"
UNFINISHED = ("pending", "initializing", "active")  # any other status is the last
AWAY = (502, 503, 504)  # from a proxy whose server is away


def _fail(text: str) -> NoReturn:
    print(f"error > {text}")  # noqa: T201  # the log
    sys.exit(1)


# The algorithm and its input


def _imported(kind: str, target: str) -> types.ModuleType:
    """Import an algorithm: a "package" by its name, a "file" by its path."""
    if kind == "package":
        return importlib.import_module(target)
    path = Path(target)
    module = types.ModuleType(path.stem)
    module.__file__ = target
    sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = module
    try:
        source = path.read_bytes()
    except OSError as error:
        _fail(f"{target} cannot be read: {error.strerror}")
    exec(compile(source, target, "exec"), module.__dict__)  # not from bytecode, which may be of an older text
    return module


def _given() -> dict[str, Any]:
    """Return the input: a method, args and kwargs."""
    try:
        given = json.loads(Path(os.environ["INPUT_FILE"]).read_bytes())
    except (ValueError, RecursionError) as error:
        _fail(f"the input is not JSON: {error}")
    if not isinstance(given, dict) or not isinstance(given.get("method"), str):
        _fail('the input needs a "method"')
    args, kwargs = given.get("args", []), given.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        _fail('in the input, "args" is a list and "kwargs" an object')
    return {"method": given["method"], "args": args, "kwargs": kwargs}


def _function(module: types.ModuleType, name: str) -> Callable[..., Any]:
    """Return a function that the algorithm itself defines."""
    own = {key: each for key, each in vars(module).items() if _is_own(module, key, each)}
    if name not in own:
        _fail(f'no method "{name}" in {module.__name__}; it has: {", ".join(own) or "none"}')
    found: Callable[..., Any] = own[name]
    return found


def _is_own(module: types.ModuleType, key: str, value: Any) -> bool:
    place = str(getattr(value, "__module__", ""))
    is_inside = place == module.__name__ or place.startswith(f"{module.__name__}.")
    return inspect.isfunction(value) and is_inside and not key.startswith("_")


# The call


def _binds(function: Any, given: dict[str, Any]) -> bool:
    """Whether a function can be called with the input alone, as the tools do."""
    try:
        inspect.signature(function).bind(*given["args"], **given["kwargs"])
    except TypeError:
        return False
    return True


def _filled_in(function: Callable[..., Any], kwargs: dict[str, Any]) -> Iterator[Any]:
    """Yield the values of the first parameters, as far as their names ask for one and the input has none."""
    numbers = itertools.count()
    for name in inspect.signature(function).parameters:
        if name in kwargs or not FILLED_IN.fullmatch(name):
            return
        yield Client() if name == "client" else _database(name.rstrip("0123456789"), next(numbers))


def _asks(function: Any, kwargs: dict[str, Any]) -> bool:
    """Whether something is a plain function whose first parameter asks for a value that the input does not have."""
    if not inspect.isfunction(function) or hasattr(function, "__wrapped__"):
        return False
    first = next(iter(inspect.signature(function).parameters), "")
    return bool(FILLED_IN.fullmatch(first)) and first not in kwargs


def _call(module: types.ModuleType, given: dict[str, Any]) -> None:
    """Call the function, and write its result."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s > %(message)s", stream=sys.stdout)
    function = _function(module, given["method"])
    filled_in = list(_filled_in(function, given["kwargs"]))
    try:
        result = function(*filled_in, *given["args"], **given["kwargs"])
    except Exception as error:
        traceback.print_exception(error.with_traceback(_inside(error)))
        sys.exit(1)
    try:
        text = json.dumps(result)
    except (TypeError, ValueError, RecursionError) as error:
        _fail(f"the result of {given['method']} cannot be written as JSON: {error}")
    try:
        Path(os.environ["OUTPUT_FILE"]).write_text(text)
    except OSError as error:
        _fail(f"the result cannot be written: {error.strerror}")


def _inside(error: Exception) -> types.TracebackType | None:
    """Return the part of a traceback that an author of an algorithm understands; all if the call itself failed."""
    first = error.__traceback__
    return first.tb_next if first is not None and first.tb_next is not None else first


def _encode_all() -> None:
    """Encode the environment as a node of vantage6 does, because its tools decode every variable there is."""
    for name, value in os.environ.items():
        if name != "PKG_NAME":
            os.environ[name] = base64.b32encode(value.encode()).decode().replace("=", "!")


def main(words: list[str]) -> None:
    """Run an algorithm. words: "package" and its name, or "file" and its path. Raises SystemExit if it fails."""
    kind, target = words
    tools = _tools()
    try:
        module = _imported(kind, target)
    except ModuleNotFoundError as error:
        if tools is not None or str(error.name).partition(".")[0] != "vantage6":
            raise
        _fail("the algorithm needs vantage6's tools in its Python: vserver node --make-environment installs them")
    given = _given()
    function = getattr(module, given["method"], None)
    if tools is None or (_asks(function, given["kwargs"]) and not _binds(function, given)):
        _call(module, given)
        return
    os.environ["PKG_NAME"] = module.__name__
    _encode_all()
    tools.wrap_algorithm()


def _tools() -> Any:
    """Return the wrapper of vantage6's tools; None without the tools."""
    try:
        return importlib.import_module("vantage6.algorithm.tools.wrap")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("vantage6"):  # the tools are there, but lack a library
            raise
        return None


# Databases


def _database(kind: str, number: int) -> Any:
    """Return a requested database as data (a DataFrame), rows (a list of dictionaries) or path (as it is named)."""
    labels = [each for each in os.environ["USER_REQUESTED_DATABASE_LABELS"].split(",") if each]
    if number >= len(labels):
        _fail(f"the method needs {number + 1} databases, but the task names {len(labels)}")
    label, name = labels[number], labels[number].upper()
    if f"{name}_DATABASE_URI" not in os.environ:
        _fail(f'this node has no database "{label}"; it has: {os.environ["DB_LABELS"] or "none"}')
    if os.environ.get(f"{name}_PREPROCESSING") and kind != "path":
        _fail("preprocessing needs vantage6-algorithm-tools in the algorithm's Python")
    uri, type_ = os.environ[f"{name}_DATABASE_URI"], os.environ[f"{name}_DATABASE_TYPE"]
    if kind == "path":
        return uri
    try:
        return _frame(uri, type_, name) if kind == "data" else _rows(uri, type_)
    except (OSError, ValueError) as error:
        _fail(f'the database "{label}" cannot be read: {error}')


def _frame(uri: str, type_: str, name: str) -> Any:
    """Return a database as a DataFrame. name: of its variables."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError:
        _fail("a parameter `data` is a pandas DataFrame: install pandas in the algorithm's Python, or name it `rows`")
    if type_ == "sql":
        return pandas.read_sql(os.environ.get(f"{name}_QUERY", ""), uri)
    if type_ == "excel":
        return pandas.read_excel(uri, sheet_name=os.environ.get(f"{name}_SHEET_NAME") or 0)
    readers = {"csv": pandas.read_csv, "parquet": pandas.read_parquet}
    if type_ not in readers:
        _fail(f"a database of type {type_} needs vantage6-algorithm-tools, or a parameter `path`")
    return readers[type_](uri)


def _rows(uri: str, type_: str) -> list[dict[str, Any]]:
    """Return the rows of a CSV file. A column of numbers has numbers; an empty cell is None."""
    if type_ != "csv":
        _fail(f"a parameter `rows` is for CSV files, not for {type_}: use `data` or `path`")
    with open(uri, encoding="utf-8-sig", newline="") as file:
        header, *lines = [line for line in csv.reader(file) if line] or [[]]
    if any(len(line) != len(header) for line in lines):
        _fail("a line of the CSV file has more or fewer cells than the first")
    columns = [_converted([line[number] for line in lines]) for number in range(len(header))]
    return [dict(zip(header, values, strict=True)) for values in zip(*columns, strict=True)]


def _converted(cells: list[str]) -> list[Any]:
    for convert in (int, float, str):
        try:
            return [convert(cell) if cell else None for cell in cells]
        except ValueError:
            continue
    return []


# Subtasks


class Client:
    """Posts subtasks and reads their results, under the names of vantage6's AlgorithmClient.

    It asks again while the server is away; a task is posted again only if the server did not get it.
    """

    def __init__(self) -> None:
        variables = os.environ
        self._url = f"{variables['HOST']}:{variables['PORT']}{variables['API_PATH']}"
        self._token = Path(variables["TOKEN_FILE"]).read_text().strip()
        claims = self._token.split(".")[1]
        identity = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]
        self.image, self.databases = identity.get("image"), identity.get("databases") or []
        self.node_id, self.organization_id = identity.get("node_id"), identity.get("organization_id")
        self.collaboration_id, self.study_id = identity.get("collaboration_id"), identity.get("study_id")
        self.store_id = identity.get("store_id")
        self.task, self.run, self.result = _Tasks(self), _Runs(self), _Results(self)
        self.organization, self.collaboration = _Organizations(self), _Collaborations(self)

    def wait_for_results(self, task_id: int, interval: float = 1) -> list[Any]:
        """Wait until all runs of a task have finished, and return the results that there are. interval: seconds."""
        pause = min(FIRST_PAUSE, interval)
        while self._is_unfinished(task_id):
            time.sleep(pause)
            pause = min(pause * PAUSE_FACTOR, interval)
        return self.result.from_task(task_id)

    def _is_unfinished(self, task_id: int) -> bool:
        """Whether a run goes on: to the server, a task has failed with its first run that fails."""
        status = self.request(f"task/{task_id}/status")["status"]
        if status in UNFINISHED:
            return True
        return status != COMPLETED and any(not run["finished_at"] for run in self.run.from_task(task_id))

    def request(
        self, endpoint: str, json: Any = None, method: str = "get", params: dict[str, Any] | None = None
    ) -> Any:
        """Ask the server. Returns its JSON. Raises a RuntimeError if it refuses."""
        import urllib.error

        while True:
            try:
                return self._asked(endpoint, json, method.upper(), params or {})
            except urllib.error.HTTPError as error:
                if error.code not in AWAY or method != "get":
                    refusal = f"the server refused {method.upper()} {endpoint}: {error.code} {_reason(error)}"
                    raise RuntimeError(refusal) from None
            except OSError as error:
                is_unsent = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
                if not is_unsent and method != "get":
                    raise
            time.sleep(RETRY_PAUSE)

    def _asked(self, endpoint: str, body: Any, method: str, params: dict[str, Any]) -> Any:
        import urllib.parse
        import urllib.request

        query = f"?{urllib.parse.urlencode(params)}" if params else ""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/{endpoint}{query}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return json.load(answer)

    def pages(self, endpoint: str, **params: Any) -> list[Any]:
        """Return the rows of all pages of a list."""
        rows: list[Any] = []
        for page in itertools.count(1):
            answer = self.request(endpoint, params={**params, "page": page})
            rows += answer["data"]
            if not (answer.get("links") or {}).get("next"):
                break
        return rows


def _reason(error: Any) -> str:
    try:
        return str(json.load(error)["msg"])
    except (ValueError, KeyError, TypeError, OSError):
        return str(error.reason)


class _Part:
    def __init__(self, client: Client) -> None:
        self._client = client


class _Tasks(_Part):
    def get(self, task_id: int) -> Any:
        return self._client.request(f"task/{task_id}")

    def create(
        self, input_: dict[str, Any], organizations: list[int], name: str = "subtask", description: str = ""
    ) -> Any:
        """Post a subtask for organizations, with the image and databases of this run. Returns the task."""
        client = self._client
        text = base64.b64encode(json.dumps(input_).encode()).decode()
        body = {
            "name": name,
            "description": description or f"task from a run at node {client.node_id}",
            "image": client.image,
            "collaboration_id": client.collaboration_id,
            "organizations": [{"id": id, "input": text} for id in organizations],
            "databases": client.databases,
        }
        links = {"study_id": client.study_id, "store_id": client.store_id}
        body.update({key: value for key, value in links.items() if value})
        return client.request("task", json=body, method="post")


class _Runs(_Part):
    def get(self, id_: int) -> Any:
        return self._client.request(f"run/{id_}")

    def from_task(self, task_id: int) -> list[Any]:
        return self._client.pages("run", task_id=task_id)


class _Results(_Part):
    def get(self, id_: int) -> Any:
        return _decoded(self._client.request(f"result/{id_}"))

    def from_task(self, task_id: int) -> list[Any]:
        return [_decoded(each) for each in self._client.pages("result", task_id=task_id) if each.get("result")]


def _decoded(row: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(row["result"])) if row.get("result") else None


class _Organizations(_Part):
    def get(self, id_: int) -> Any:
        return self._client.request(f"organization/{id_}")

    def list(self) -> Any:
        client = self._client
        if client.study_id:
            return client.pages("organization", study_id=client.study_id)
        return client.pages("organization", collaboration_id=client.collaboration_id)


class _Collaborations(_Part):
    def get(self) -> Any:
        return self._client.request(f"collaboration/{self._client.collaboration_id}")


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder, whose modules are not the algorithm's
    main(sys.argv[1:])
