"""What the real client, node and algorithm of vantage6 4.15.2 asked of a real server, asked of ours.

Status, names of headers, keys and types are compared. DIFFERENCES lists all that is meant to differ, with the reason.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from helpers import our_server
from helpers.exchanges import Ids, compared, differences, recorded, shape, shown
from helpers.our_server import Client
from helpers.socket_io import Socket

import models


class Difference(NamedTuple):
    """What differs of the calls with a name, and why."""

    found: tuple[str, ...]
    reason: str


NO_ROLES = "roles are the seven default ones: making and changing roles is refused"
STAYS = "delete_dependents=False deletes nothing here; the real server takes the text False for true"
THERE = "it is still there, as it was not deleted before"
DIFFERENCES = {
    "role.create": Difference(("status 201 -> 501", "answer: a message"), NO_ROLES),
    "role.update": Difference(("status 200 -> 501", "answer: a message"), NO_ROLES),
    "role.delete": Difference(("status 200 -> 501",), NO_ROLES),
    "role.list(org)": Difference(("answer.data: 0 items", "answer.links.last is missing"), NO_ROLES),
    "study.create": Difference(("status 201 -> 501", "answer: a message"), "there are no studies"),
    "organization.delete (dependents)": Difference(("status 200 -> 400",), STAYS),
    "organization.delete": Difference(("status 404 -> 200",), THERE),
    "collaboration.delete (dependents)": Difference(("status 200 -> 400",), STAYS),
    "collaboration.delete": Difference(("status 404 -> 200",), THERE),
    "util.reset_my_password": Difference(("status 200 -> 501",), "the server sends no mail"),
}
NODES_ADDRESS = Difference(
    ("answer.node.ip: null -> str", "answer.data[].node.ip: null -> str"),
    "the address that a node last logged in from is known here",
)


MADE_BY_USER = {
    "organization": [2, 3, 4, 5],
    "collaboration": [1],
    "node": [2, 3, 4, 5],
    "user": [6],
    "task": [1, 2, 3],
}


def test_the_client_gets_the_answers_that_the_real_server_gave(address: str, tmp_path: Path) -> None:
    our_server.fill_with_root(address)
    ids = Ids({kind: list(recorded_ids) for kind, recorded_ids in MADE_BY_USER.items()})
    unexpected, used = [], set()
    with our_server.running(address, tmp_path) as server:
        client = server.client()
        for exchange in recorded("user-client"):
            path = ids.path(exchange["path"])
            token = client.refresh_token if path == "token/refresh" else None
            answer = client.ask(exchange["method"], path, ids.body(exchange), ids.query(exchange["query"]), token)
            ids.note(exchange, answer)
            if path == "token/user" and answer.status == 200:
                client.token, client.refresh_token = answer.body["access_token"], answer.body["refresh_token"]
            found = compared(exchange, answer)
            meant = DIFFERENCES.get(exchange["call"])
            if meant is not None and tuple(found) == meant.found:
                used.add(exchange["call"])
            elif found:
                unexpected.append(f"{shown(exchange, found)} ({str(answer.body)[:300]})")
        assert "Traceback" not in server.err, server.err
    assert not unexpected, "\n".join(unexpected)
    assert used == set(DIFFERENCES)


# The node and its algorithm

KEYS = {id: f"00000000-0000-4000-8000-0000000000{id}" for id in (11, 12, 13)}  # by the recorded organization
IMAGE = "demo/average:1"
INPUT = base64.b64encode(json.dumps({"method": "partial", "kwargs": {"column": "age"}}).encode()).decode()
RESULT, MOMENT = base64.b64encode(b"1").decode(), "2026-11-28T06:07:52.291918+00:00"
TEXTS = {
    "<started_at>": MOMENT,
    "<finished_at>": MOMENT,
    "<result>": RESULT,
    "<log>": "a line\n",
    "<api key>": KEYS[11],
}
FIELDS = {"domain": "d", "address1": "a", "address2": "b", "zipcode": "0123", "country": "NO"}
OF_CONTAINER = range(28, 32)  # exchanges with the token of a container


class Story:
    """A node with its web socket, and what others do meanwhile. Recorded ids are mapped to those of here."""

    def __init__(self, server: our_server.OurServer, address: str) -> None:
        self.server = server
        self.node, self.root = server.client(), server.client()
        self.root.log_in()
        self.ids = Ids({})
        self.ids.here = filled(address)
        self.socket: Any = None
        self.container = ""

    def post(self, task: int, runs: dict[int, int]) -> None:
        """Post a task as a user. task: its recorded id; runs: the recorded organizations by those of its runs."""
        body = {
            "name": "n",
            "image": IMAGE,
            "description": "d",
            "collaboration_id": self.ids.of("collaboration", 4),
            "organizations": [{"id": self.ids.of("organization", id), "input": INPUT} for id in runs.values()],
            "databases": [{"label": "default"}],
        }
        answer = self.root.ask("POST", "task", body)
        assert answer.status == 201, answer
        self.note(task, runs, answer.body["id"])

    def note(self, task: int, runs: dict[int, int], id: int) -> None:
        """Note the ids of a task and its runs."""
        self.ids.here["task", task] = id
        found = self.root.ask("GET", "run", query={"task_id": id}).body["data"]
        by_organization = {each["organization"]["id"]: each["id"] for each in found}
        for run, organization in runs.items():
            self.ids.here["run", run] = by_organization[self.ids.of("organization", organization)]

    def patch(self, run: int, organization: int, **values: str) -> None:
        """Report about a run as the node of an organization."""
        answer = self.as_node(organization).ask("PATCH", f"run/{self.ids.of('run', run)}", values)
        assert answer.status == 200, answer

    def as_node(self, organization: int) -> Client:
        other = self.server.client()
        other.log_in_node(KEYS[organization])
        return other

    def start_container(self, task: int) -> None:
        body = {"task_id": self.ids.of("task", task), "image": IMAGE}
        self.container = self.node.ask("POST", "token/container", body).body["container_token"]

    def token(self, exchange: dict[str, Any]) -> str | None:
        if exchange["path"] == "/api/token/refresh":
            return self.node.refresh_token
        return self.container if exchange["at"] in OF_CONTAINER else None


def filled(address: str) -> dict[tuple[str, int], int]:
    """Create three organizations with their nodes in a collaboration. Return their ids by the recorded ones."""
    found = {}
    with contextlib.closing(models.connect(address)) as database, database.rule_checks(False):
        models.Organization.update(**FIELDS).where(models.Organization.id > 0).execute()
        for id in KEYS:
            models.Organization(name=f"hospital {id}", **FIELDS).save()
        trial = models.Collaboration(name="trial", encrypted=False, organizations=models.Organization.get())
        trial.save()
        for id, key in KEYS.items():
            organization = models.Organization.get_by_name(f"hospital {id}")
            node = models.Node(name=f"node {id}", organization=organization, collaboration=trial, api_key=key)
            node.save()
            found |= {("organization", id): organization.id, ("node", id + 1): node.id}
    return found | {("collaboration", 4): trial.id}


def other_node_reports(story: Story) -> None:
    """Report by a web socket that the run of organization 13 has completed."""
    socket = Socket(story.server.port, story.as_node(13).token)
    socket.emit("algorithm_status_change", {"run_id": story.ids.of("run", 25), "status": "completed"})
    socket.leave()


def crash(story: Story) -> None:
    """Post the task whose run will crash, and start the run."""
    story.post(15, {26: 11})
    story.patch(26, 11, started_at=MOMENT)


def start_central(story: Story) -> None:
    """Post the task whose container creates a subtask."""
    story.post(16, {27: 11})
    story.start_container(16)


def finish_subtask(story: Story) -> None:
    """Finish the runs of the subtask that the container has created."""
    runs = {28: 11, 29: 12, 30: 13}
    listed = story.root.ask("GET", "task", query={"per_page": 100}).body["data"]
    story.note(17, runs, max(each["id"] for each in listed))
    for run, organization in runs.items():
        story.patch(run, organization, result=RESULT, log="l", status="completed", finished_at=MOMENT)


def kill(story: Story) -> None:
    """Post a task and kill it."""
    story.post(18, {31: 11})
    assert story.root.ask("POST", "kill/task", {"id": story.ids.of("task", 18)}).status == 200


# What happens before an exchange, by its position.
BEFORE: dict[int, Callable[[Story], object]] = {
    9: lambda story: story.post(14, {23: 11, 24: 12, 25: 13}),
    18: other_node_reports,
    25: crash,
    28: start_central,
    30: finish_subtask,
    32: kill,
}


def asked(story: Story, exchange: dict[str, Any]) -> list[str]:
    """Send a request, and return what differs from the recorded answer."""
    body = story.ids.body(exchange)
    if body is not None:
        body = {key: TEXTS.get(value, value) if isinstance(value, str) else value for key, value in body.items()}
    path, query = story.ids.path(exchange["path"]), story.ids.query(exchange["query"])
    answer = story.node.ask(exchange["method"], path, body, query, story.token(exchange))
    if path == "token/node":
        story.node.token, story.node.refresh_token = answer.body["access_token"], answer.body["refresh_token"]
    return compared(exchange, answer)


def exchanged(story: Story, exchange: dict[str, Any]) -> list[str]:
    """Send or await an event, and return what differs from the recorded one."""
    name, data = exchange["event"], exchange["data"]
    if name == "connect":
        story.socket = Socket(story.server.port, story.node.token)
    elif name == "disconnect":
        story.socket.leave()
    elif exchange["to"] == "server":
        story.socket.emit(name, *([] if data is None else [story.ids.query(data)]))
    elif name != "__disconnect_final":
        wanted = {"status": data["status"]} if isinstance(data, dict) and "status" in data else {}
        found = shape(story.socket.until(name, **wanted))
        expected = data if data == "str" else "null" if data == [] else shape(data)
        return list(differences(expected, found, f"event {name}"))
    return []


def test_the_node_and_its_algorithm_get_what_the_real_server_gave(address: str, tmp_path: Path) -> None:
    our_server.fill_with_root(address)
    unexpected = []
    with our_server.running(address, tmp_path) as server:
        story = Story(server, address)
        for exchange in recorded("node-and-algorithm"):
            BEFORE.get(exchange["at"], bool)(story)
            found = exchanged(story, exchange) if "event" in exchange else asked(story, exchange)
            found = [each for each in found if each not in NODES_ADDRESS.found]
            unexpected += [f"{exchange['at']} {exchange.get('path', 'event')}: {each}" for each in found]
        assert "Traceback" not in server.err, server.err
    assert not unexpected, "\n".join(unexpected)
