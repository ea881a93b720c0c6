"""The exchanges that were recorded of the real client, node and algorithm of vantage6 4.15.2, compared with answers.

tests/data/exchanges has them: each request, and the status, the names of headers, and the keys and types of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from helpers.our_server import Answer

DATA = Path(__file__).parent.parent / "data" / "exchanges"
MOST_RECORDED = 2  # items of a list
HEADERS = ("content-type", "jwt-token", "link", "total-count", "access-control-expose-headers")


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the exchanges of a file, each with its position."""
    lines = (DATA / f"{name}.jsonl").read_text().splitlines()
    return [{"at": at, **json.loads(line)} for at, line in enumerate(lines)]


# Shapes


def shape(value: Any) -> Any:
    """Return keys and types, as the recorder wrote them."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return "null" if value is None else type(value).__name__


def differences(expected: Any, found: Any, where: str = "answer") -> Iterable[str]:
    """Compare two shapes."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if set(found) == {"msg"} != set(expected):
            yield f"{where}: a message"
            return
        yield from (f"{where}.{key} is missing" for key in sorted(expected.keys() - found.keys()))
        yield from (f"{where}.{key} is new" for key in sorted(found.keys() - expected.keys()))
        for key in sorted(expected.keys() & found.keys()):
            yield from differences(expected[key], found[key], f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        yield from differences_of_items(expected, found, where)
    elif expected != found:
        yield f"{where}: {expected} -> {found}"


def differences_of_items(expected: list[Any], found: list[Any], where: str) -> Iterable[str]:
    """Compare two lists: the recorder kept the shapes of the first two items, and "str" if there were more."""
    wanted = [each for each in expected if each != "str"] or expected
    if bool(wanted) != bool(found):
        yield f"{where}: {len(found)} items"
        return
    for each in found[:MOST_RECORDED] if wanted != expected else found:
        by_number = sorted((list(differences(one, each, f"{where}[]")) for one in wanted), key=len)
        yield from by_number[0]


def compared(exchange: dict[str, Any], answer: Answer) -> list[str]:
    """Return what differs between a recorded exchange and our answer."""
    found = [] if exchange["status"] == answer.status else [f"status {exchange['status']} -> {answer.status}"]
    expected, headers = set(exchange["headers"]), {name for name in HEADERS if name in answer.headers}
    found += [f"header {name} is missing" for name in sorted(expected - headers)]
    found += [f"header {name} is new" for name in sorted(headers - expected)]
    found += differences(exchange["answer"], shape(answer.body))
    if "links" in exchange and isinstance(answer.body, dict) and "links" in answer.body:
        ours = {name: re.sub(r"\d+", "N", link) for name, link in answer.body["links"].items()}
        both = exchange["links"].keys() & ours.keys()
        theirs = exchange["links"]
        found += [f"link {name}: {theirs[name]} -> {ours[name]}" for name in both if theirs[name] != ours[name]]
    return found


def shown(exchange: dict[str, Any], found: Iterable[str]) -> str:
    return f"{exchange['at']} {exchange['call']} {exchange['method']} {exchange['path']}: {'; '.join(found)}"


# Ids


class Ids:
    """The ids that rows have here, by kind and recorded id. made: the recorded ids, in the order of creation."""

    def __init__(self, made: dict[str, list[int]]) -> None:
        self._made = made
        self.here: dict[tuple[str, int], int] = {}

    def note(self, exchange: dict[str, Any], answer: Answer) -> None:
        """Note the id of what a request has created."""
        kind = exchange["path"].removeprefix("/api/")
        if exchange["method"] == "POST" and kind in self._made and answer.status in (200, 201):
            self.here[kind, self._made[kind].pop(0)] = answer.body["id"]

    def of(self, kind: str, recorded: Any) -> int:
        return self.here.get((kind, int(recorded)), int(recorded))

    def path(self, path: str) -> str:
        """Return a recorded path without the API's, with the ids of here."""
        path = path.removeprefix("/api/")
        return re.sub(r"^(\w+)/(\d+)", lambda found: f"{found[1]}/{self.of(found[1], found[2])}", path)

    def query(self, query: dict[str, str]) -> dict[str, Any]:
        """Return a query, or the data of an event, with the ids of here."""
        return {
            name: self.of(name[:-3], value) if name.endswith("_id") and value else value
            for name, value in query.items()
        }

    def body(self, exchange: dict[str, Any]) -> Any:
        body = exchange["body"]
        if not isinstance(body, dict):
            return body
        named = {name: self.of(name[:-3], value) for name, value in body.items() if name.endswith("_id")}
        if "organization_ids" in body:
            named["organization_ids"] = [self.of("organization", id) for id in body["organization_ids"]]
        if "organizations" in body:
            of = [{**each, "id": self.of("organization", each["id"])} for each in body["organizations"]]
            named["organizations"] = of
        kind = next((kind for end, kind in BODY_IDS.items() if exchange["path"].endswith(end)), None)
        return body | named | ({"id": self.of(kind, body["id"])} if kind else {})


BODY_IDS = {"kill/node/tasks": "node", "kill/task": "task", "1/organization": "organization"}  # what `id` is of
