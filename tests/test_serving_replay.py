"""What the real client, node and algorithm of vantage6 4.15.2 asked of a real server, asked of ours.

tests/data/exchanges has the recorded exchanges: each request, and the status, the names of headers, and the keys and
types of the answer. Ids are mapped: users and nodes have ids of their own here. DIFFERENCES lists all that is meant to
differ, with the reason.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from helpers import our_server
from helpers.our_server import Answer

DATA = Path(__file__).parent / "data" / "exchanges"
HEADERS = ("content-type", "jwt-token", "link", "total-count", "access-control-expose-headers")
KEYS = {11: "00000000-0000-4000-8000-000000000011", 12: "00000000-0000-4000-8000-000000000012"}
KEYS[13] = "00000000-0000-4000-8000-000000000013"
IMAGE = "demo/average:1"
INPUT = base64.b64encode(json.dumps({"method": "partial", "kwargs": {"column": "age"}}).encode()).decode()


class Difference(NamedTuple):
    """What differs of the calls with a name, and why."""

    found: tuple[str, ...]
    reason: str


NO_ROLES = "roles are the seven default ones: making and changing roles is refused"
STAYS = "delete_dependents=False deletes nothing here; the real server takes the text False for true"
THERE = "it is still there, as it was not deleted before"
ONLY_HERE = "the address that a user or node last logged in from is known here"
DIFFERENCES = {
    "role.create": Difference(("status 201 -> 501", "answer: a message"), NO_ROLES),
    "role.update": Difference(("status 200 -> 501", "answer: a message"), NO_ROLES),
    "role.delete": Difference(("status 200 -> 501",), NO_ROLES),
    "role.list(org)": Difference(("answer.data: no items", "answer.links.last is missing"), NO_ROLES),
    "study.create": Difference(("status 201 -> 501", "answer: a message"), "there are no studies"),
    "organization.delete (dependents)": Difference(("status 200 -> 400",), STAYS),
    "organization.delete": Difference(("status 404 -> 200",), THERE),
    "collaboration.delete (dependents)": Difference(("status 200 -> 400",), STAYS),
    "collaboration.delete": Difference(("status 404 -> 200",), THERE),
    "util.reset_my_password": Difference(("status 200 -> 501",), "the server sends no mail"),
}


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
    """Compare two shapes. A list may have any number of items, each of which looks like one of the expected ones."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if set(found) == {"msg"} != set(expected):
            yield f"{where}: a message"
            return
        yield from (f"{where}.{key} is missing" for key in sorted(expected.keys() - found.keys()))
        yield from (f"{where}.{key} is new" for key in sorted(found.keys() - expected.keys()))
        for key in sorted(expected.keys() & found.keys()):
            yield from differences(expected[key], found[key], f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        wanted = [each for each in expected if not (each == "str" and any(isinstance(one, dict) for one in expected))]
        if wanted and not found:
            yield f"{where}: no items"
        elif found and not wanted:
            yield f"{where}: items"
        for each in found:
            if all(list(differences(one, each)) for one in wanted):
                yield from differences(wanted[0], each, f"{where}[]") if wanted else ()
                return
    elif expected != found:
        yield f"{where}: {expected} -> {found}"


def compared(exchange: dict[str, Any], answer: Answer) -> list[str]:
    """Return what differs between a recorded exchange and our answer."""
    found = [] if exchange["status"] == answer.status else [f"status {exchange['status']} -> {answer.status}"]
    expected, headers = set(exchange["headers"]), {name for name in HEADERS if name in answer.headers}
    found += [f"header {name} is missing" for name in sorted(expected - headers)]
    found += [f"header {name} is new" for name in sorted(headers - expected)]
    found += differences(exchange["answer"], shape(answer.body))
    if "links" in exchange and isinstance(answer.body, dict) and "links" in answer.body:
        ours = {name: re.sub(r"\d+", "N", link) for name, link in answer.body["links"].items()}
        theirs = {name: link.replace("%N", "%25") for name, link in exchange["links"].items()}
        found += [f"link {name}: {theirs[name]} -> {ours[name]}" for name in theirs if ours.get(name) != theirs[name]]
    return found


def shown(exchange: dict[str, Any], found: Iterable[str]) -> str:
    return f"{exchange['at']} {exchange['call']} {exchange['method']} {exchange['path']}: {'; '.join(found)}"


# The user client


USERS = {6: 2}


def path_here(path: str) -> str:
    """Return a recorded path without the API's, with the ids of users and nodes that they have here."""
    path = path.removeprefix("/api/")
    path = re.sub(r"^node/(\d+)", lambda found: f"node/{int(found[1]) - 1}", path)
    return re.sub(r"^user/(\d+)", lambda found: f"user/{USERS.get(int(found[1]), int(found[1]))}", path)


def body_here(exchange: dict[str, Any]) -> Any:
    body = exchange["body"]
    return {"id": body["id"] - 1} if exchange["path"] == "/api/kill/node/tasks" else body


def test_the_client_gets_the_answers_that_the_real_server_gave(address: str, tmp_path: Path) -> None:
    our_server.fill_with_root(address)
    unexpected, used = [], set()
    with our_server.running(address, tmp_path) as server:
        client = server.client()
        for exchange in recorded("user-client"):
            path = path_here(exchange["path"])
            token = client.refresh_token if path == "token/refresh" else None
            answer = client.ask(exchange["method"], path, body_here(exchange), exchange["query"], token)
            if path == "token/user" and answer.status == 200:
                client.token, client.refresh_token = answer.body["access_token"], answer.body["refresh_token"]
            found = compared(exchange, answer)
            meant = DIFFERENCES.get(exchange["call"])
            if meant is not None and tuple(found) == meant.found:
                used.add(exchange["call"])
            elif found and path != "token/refresh":
                unexpected.append(f"{shown(exchange, found)} ({str(answer.body)[:300]})")
        assert "Traceback" not in server.err, server.err
    assert not unexpected, "\n".join(unexpected)
    assert used == set(DIFFERENCES)
