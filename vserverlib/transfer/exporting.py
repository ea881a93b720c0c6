"""Exports a database of ours as a fixture file for a vantage6 server of a given release.

The format needs plain passwords and API keys, and the database has only hashes, so new credentials are generated for
everyone. The export reports everything that the format cannot hold: row by row, or as a number for parts of tasks.

fixtures.py owns the names in the format, generated_credentials.py the file with the credentials.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from models import Collaboration, Member, Node, Organization, Result, Task, User
from vserverlib import files, hashing, pluralize, printable, signals
from vserverlib.drivers import peewee
from vserverlib.queries import formats
from vserverlib.transfer import fixtures, generated_credentials
from vserverlib.transfer.fixture_source import ORGANIZATION_KEYS, ROLES_KEY, USER_KEYS
from vserverlib.transfer.generated_credentials import GeneratedCredential

RELEASES = (1, 2, 3, 4)
HAS_ROLES = (1,)  # releases that import the roles of a user; the others fail on them
HAS_ENCRYPTED = (2, 3, 4)  # releases that import whether a collaboration is encrypted
NEEDS_USER = (3, 4)  # releases that give each task a user, and fail without one
ADDRESS = [key for key in ORGANIZATION_KEYS if key not in ("name", "public_key")]
PERSON = [key for key in (*USER_KEYS, ROLES_KEY) if key != "password"]
IMAGES_PER_CALL = 1000  # to the YAML writer
HEAD = """\
# A fixture file for a vantage6 server of release {release}, written by vserver.
# It contains passwords and API keys in plain text: keep it private, and delete it after the import.
"""
TASKS_LEFT_OUT = "{} left out: {}"
OTHER_INITIATOR = "a fixture file has only tasks of the first participant, and another one initiated them"
ONLY_IMAGES = "{}, with the image only: the server creates a new task of each, which the nodes of all participants run"

Row = dict[str, Any]


class FixtureExport:
    """The open database as a fixture file for one release: lines().

    generated_credentials: the new passwords and API keys. messages: omissions and changes. Both are complete
    after the last line.
    """

    def __init__(self, release: int = RELEASES[-1]) -> None:
        self.release = release
        self.generated_credentials: list[GeneratedCredential] = []
        self.messages: list[str] = []
        self._names: dict[int, str] = {}  # of the organizations in the file, by id
        self._nodes: set[str] = set()  # names of nodes on the server
        self._users: set[str] = set()
        self._emails: set[str] = set()
        self._tasks: Counter[str] = Counter()  # left out, by reason
        self._seen = self._images = 0  # tasks of the collaborations in the file; tasks in the file

    def lines(self) -> Iterator[str]:
        """Return the parts of the file."""
        yield HEAD.format(release=self.release)
        yield from _listed("organizations", self._organizations())
        self._note_users_without_organization()
        yield from _listed("collaborations", self._collaborations())
        self._note_lost()

    def _leave_out(self, entity: Any, reason: str) -> None:
        self.messages.append(f"{entity.named()} is left out: {reason}")

    # Organizations and users

    def _organizations(self) -> Iterator[str]:
        for organization in Organization.get():
            name = self._free_name(organization, self._names.values())
            if name:
                self._names[organization.id] = name
                yield formats.to_yaml([self._organization(organization, name)])

    def _free_name(self, entity: Any, taken: Any) -> str:
        """Return the name of an entity in the file, made unique; "" if it has no name and is left out."""
        name = free = _text(entity._stored["name"]) or ""
        number = 1
        while free in taken:
            number += 1
            free = f"{name} ({number})"
        if not name:
            self._leave_out(entity, "it has no name, and the file refers to everything by name")
        elif free != name:
            self.messages.append(f'{entity.named()} is named "{printable(free)}" in the file: its own name is taken')
        return free if name else ""

    def _organization(self, organization: Organization, name: str) -> Row:
        """Return an organization's entry. It needs all keys: the importers of all releases fail without one."""
        row = {"name": name, **{key: _text(organization._stored[key]) for key in ADDRESS}}
        row["public_key"] = _base64(_text(organization._stored["public_key"]) or "")
        users = [user for user in map(self._user, organization.users) if user]
        return {**row, "users": users} if users else row

    def _user(self, user: User) -> Row:
        """Return a user's entry without empty values; {} if the user is left out."""
        data = {name: _text(user._stored[name]) for name in PERSON}
        name = data["username"]
        if not name or name in self._users:
            self._leave_out(user, "its username is taken" if name else "it has no username")
            return {}
        if data["email"] in self._emails:
            self.messages.append(f"{user.named()} has no e-mail address in the file: another user has it")
            data["email"] = None
        self._users.add(name)
        self._emails |= {data["email"]} if data["email"] is not None else set()
        data["roles"] = _roles(data["roles"]) if self.release in HAS_ROLES else None
        return {"username": name, "password": self._password(name), **{k: v for k, v in data.items() if v is not None}}

    def _password(self, name: str) -> str:
        password = generated_credentials.new_password()
        self.generated_credentials.append(GeneratedCredential("user", name, "password", password))
        return password

    def _note_users_without_organization(self) -> None:
        for user in User.get():
            if user.organization_id not in self._names:
                self._leave_out(user, "its organization is not in the file")
        if self.release not in HAS_ROLES and self._users:
            self.messages.append(
                "the file has no roles: on the server every user has all rights, until you change that"
            )

    # Collaborations and nodes

    def _collaborations(self) -> Iterator[str]:
        names: dict[int, str] = {}
        for collaboration in Collaboration.get():
            name = self._free_name(collaboration, names.values())
            if name:
                names[collaboration.id] = name
                yield from self._collaboration(collaboration, name)
        for node in Node.get():
            if node.collaboration_id not in names:
                self._leave_out(node, "its collaboration is not in the file")
        self._tasks["collaboration not in the file"] = len(Task.get()) - self._seen

    def _collaboration(self, collaboration: Collaboration, name: str) -> Iterator[str]:
        members = self._members(collaboration, name)
        first = self._initiator(collaboration, members)
        members.sort(key=lambda id: id != first)  # the others keep their order
        row = {"name": name, **self._encrypted(collaboration)}
        yield formats.to_yaml([row | {"participants": self._participants(collaboration, name, members)}])
        yield from self._images_of(collaboration, first)

    def _encrypted(self, collaboration: Collaboration) -> Row:
        value = collaboration.encrypted
        if not isinstance(value, bool):
            has = "nothing" if value is None else f'"{printable(value)}"'
            message = f"{collaboration.named()} has {has} in encrypted, so it is encrypted on the server"
            self.messages.append(message)
            return {}
        if not value and self.release not in HAS_ENCRYPTED:
            message = f"release {self.release} encrypts all collaborations"
            self.messages.append(f"{collaboration.named()} is encrypted on the server: {message}")
        return {"encrypted": value}

    def _members(self, collaboration: Collaboration, name: str) -> list[int]:
        """Return the ids of the organizations that participate in the file."""
        found = []
        for member in Member.select().where(Member.collaboration == collaboration.id).order_by(Member.id):
            organization = member.organization_id
            if organization not in self._names:
                self._leave_out(member, "its organization is not in the file")
            elif self.release == 4 and self._node_name(organization, name) in self._nodes:
                node = self._node_name(organization, name)
                self._leave_out(member, f'another node would be named "{printable(node)}" too')
            else:
                self._nodes.add(self._node_name(organization, name))
                found.append(organization)
        return found

    def _node_name(self, organization: int, collaboration: str) -> str:
        """Return the name of a participant's node on a server."""
        return fixtures.NODE_NAME.format(organization=self._names[organization], collaboration=collaboration)

    def _participants(self, collaboration: Collaboration, name: str, members: list[int]) -> list[Row]:
        nodes: dict[int, Node] = {}
        for node in collaboration.nodes:
            if node.organization_id not in members:
                self._leave_out(node, "its organization does not participate in its collaboration in the file")
            elif node.organization_id in nodes:
                self._leave_out(node, "its organization has another node in the same collaboration")
            else:
                nodes[node.organization_id] = node
        return [self._participant(id, self._node_name(id, name), nodes.get(id)) for id in members]

    def _participant(self, organization: int, node_name: str, node: Node | None) -> Row:
        if node is None:
            self.messages.append(f'the node "{printable(node_name)}" is new on the server: every participant gets one')
        elif node.name not in (node_name, None):
            self.messages.append(f'{node.named()} is named "{printable(node_name)}" on the server')
        key = hashing.new_key()
        self.generated_credentials.append(GeneratedCredential("node", node_name, "API key", key))
        return {"name": self._names[organization], fixtures.PARTICIPANT_KEY[self.release]: key}

    # Tasks

    def _initiator(self, collaboration: Collaboration, members: list[int]) -> int | None:
        """Return the member with the most tasks: the file has only tasks of one, the first participant."""
        tasks = Task.select(Task.initiator, peewee.fn.COUNT(Task.id)).where(Task.collaboration == collaboration.id)
        counts = dict(tasks.group_by(Task.initiator).tuples())
        return max(members, key=lambda id: counts.get(id, 0), default=None)

    def _images_of(self, collaboration: Collaboration, first: int | None) -> Iterator[str]:
        """Return the images of a collaboration's tasks, as YAML."""
        tasks = Task.select(Task.image, Task.initiator).where(Task.collaboration == collaboration.id).order_by(Task.id)
        chunk: list[str] = []
        is_first = True
        for image, initiator in tasks.tuples().iterator():
            chunk += self._image(_text(image), initiator, first)
            if len(chunk) == IMAGES_PER_CALL:
                yield from _images(chunk, is_first)
                chunk, is_first = [], False
        yield from _images(chunk, is_first)

    def _image(self, image: str | None, initiator: int | None, first: int | None) -> list[str]:
        """Return the image of a task as a list, or count the reason and return []."""
        self._seen += 1
        reason = self._reason_to_leave_out(image, initiator, first)
        if reason:
            self._tasks[reason] += 1
            return []
        self._images += 1
        return [str(image)]

    def _reason_to_leave_out(self, image: str | None, initiator: int | None, first: int | None) -> str:
        if self.release in NEEDS_USER and not self._users:
            return f"release {self.release} gives each task a user, and the file has none"
        if not image:
            return "no image"
        if first is None:
            return "collaboration without participants in the file"
        return "" if initiator == first else OTHER_INITIATOR

    def _note_lost(self) -> None:
        for reason, count in self._tasks.items():
            if count:
                self.messages.append(TASKS_LEFT_OUT.format(pluralize(count, "task is", "tasks are"), reason))
        if self._images:
            self.messages.append(
                ONLY_IMAGES.format(pluralize(self._images, "task is in the file", "tasks are in the file"))
            )
        lost = [f"{count:,} {what}" for what, count in _counts() if count]
        if lost:
            self.messages.append(f"not in the file: {', '.join(lost)}")


def _counts() -> Iterator[tuple[str, int]]:
    """Return the parts of tasks that a fixture file cannot hold, and their numbers."""
    yield "names", Task.select().where(Task.name != fixtures.TASK_NAME).count()
    for what, field in (("descriptions", Task.description), ("databases", Task.database), ("parents", Task.parent)):
        yield what, Task.select().where(field.is_null(False)).count()
    yield "results with their inputs, times, statuses and logs", Result.select().count()


# Text


def _text(value: Any) -> str | None:
    """Return a stored value as a text that databases and YAML can hold; None stays None."""
    if value is None:
        return None
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.replace("\0", "\ufffd")


def _roles(text: str | None) -> str | None:
    """Return roles without a space after the comma, as release 1 needs them."""
    return text and ",".join(name.strip() for name in text.split(","))


def _base64(text: str) -> str:
    """Return a public key in base64, as all releases need it. It may be in base64 already."""
    import base64

    with suppress(ValueError):
        base64.b64decode(text, validate=True)
        return text
    return base64.b64encode(text.encode()).decode()


def _listed(name: str, parts: Iterator[str]) -> Iterator[str]:
    """Return the YAML of a named list, given the YAML of its members."""
    first = next(parts, None)
    yield f"{name}: []\n" if first is None else f"{name}:\n{first}"
    yield from parts


def _images(chunk: list[str], is_first: bool) -> Iterator[str]:
    if chunk:
        yield "  tasks:\n" if is_first else ""
        yield textwrap.indent(formats.to_yaml(chunk), "  ", lambda line: True)


# A file


def export(target: Path, release: int, *, secrets: Path | None = None, force: bool = False) -> FixtureExport:
    """Write the open database to a fixture file that only its owner can read.

    secrets: a new file for the list of credentials. Either both files are written completely, or none.
    """
    fixture = FixtureExport(release)
    delivery: AbstractContextManager[Any] = (
        nullcontext(bool) if secrets is None else generated_credentials.written_to(secrets)
    )
    with delivery as deliver, files.new_text_file(target, replace=force) as file:
        file.writelines(fixture.lines())
        deliver(fixture.generated_credentials)
        signals.point_of_no_return()
    return fixture
