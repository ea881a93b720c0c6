"""A fixture file for a real vantage6 server: what its format, and a release, can hold of a database of ours.

Passwords and keys are hashed here, and the format wants them in plain text: new ones are made for everyone. What the
format cannot hold is told: rows one by one, what hangs on tasks by how many there are.

It owns what goes into the file. The names in it are those of fixtures.py, which reads it; YAML is formats.py's, the
list of secrets generated_credentials.py's.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from models import Collaboration, Member, Node, Organization, Result, Task, User
from vserverlib import files, hashing, pluralize, printable, signals
from vserverlib.drivers import peewee
from vserverlib.queries import formats
from vserverlib.transfer import fixtures, generated_credentials
from vserverlib.transfer.fixture_source import ORGANIZATION, ROLES, USER
from vserverlib.transfer.generated_credentials import Handout

RELEASES = (1, 2, 3, 4)
HAS_ROLES = (1,)  # the releases that read the roles of a user; the others fail on them
HAS_ENCRYPTED = (2, 3, 4)  # those that read whether a collaboration is encrypted
NEEDS_USER = (3, 4)  # those that give each task a user, and fail where there is none
ADDRESS = [key for key in ORGANIZATION if key not in ("name", "public_key")]
PERSON = [key for key in (*USER, ROLES) if key != "password"]
AT_ONCE = 1000  # images that are made YAML by one call
HEAD = """\
# A fixture file for a vantage6 server of release {release}, made by vserver.
# It holds passwords and API keys in plain text: let nobody else read it, and remove it once it is imported.
"""
LEFT_OUT = "{} left out: {}"
OTHER_INITIATOR = "the initiator is not the first participant, whose tasks the file has room for"
ONLY_IMAGES = (
    "of {:,} tasks the file holds the image only: there each is a new one, for all participants, and their nodes run it"
)

Row = dict[str, Any]


class Fixture:
    """What becomes of the database that is open, for a server of a release: lines(), and then what there is to tell.

    handouts: the secrets that were made, and whose they are. told: what is left out, or in the file in another form.
    """

    def __init__(self, release: int = RELEASES[-1]) -> None:
        self.release = release
        self.handouts: list[Handout] = []
        self.message: list[str] = []
        self._names: dict[int, str] = {}  # of the organizations that are in the file, by their ids
        self._nodes: set[str] = set()  # the names that nodes have there
        self._users: set[str] = set()
        self._emails: set[str] = set()
        self._tasks: Counter[str] = Counter()  # that are left out, by why
        self._seen = self._images = 0  # tasks of collaborations that are in the file; those that are in it themselves

    def lines(self) -> Iterator[str]:
        """Return the file, part by part. What there is to tell is complete when it has come to its end."""
        yield HEAD.format(release=self.release)
        yield from _listed("organizations", self._organizations())
        self._tell_of_homeless()
        yield from _listed("collaborations", self._collaborations())
        self._tell_of_lost()

    def _leave_out(self, entity: Any, reason: str) -> None:
        self.message.append(f"{entity.named()} is left out: {reason}")

    # Organizations and users

    def _organizations(self) -> Iterator[str]:
        for organization in Organization.get():
            name = self._free_name(organization, self._names.values())
            if name:
                self._names[organization.id] = name
                yield formats.to_yaml([self._organization(organization, name)])

    def _free_name(self, entity: Any, taken: Any) -> str:
        """Return what an entity is called in the file; "" where it is left out, because nothing could refer to it."""
        name = free = _text(entity._stored["name"]) or ""
        number = 1
        while free in taken:
            number += 1
            free = f"{name} ({number})"
        if not name:
            self._leave_out(entity, "it has no name, which everything in the file is referred to by")
        elif free != name:
            self.message.append(f'{entity.named()} is called "{printable(free)}" in the file: the name is taken')
        return free if name else ""

    def _organization(self, organization: Organization, name: str) -> Row:
        """Return an organization as the file has it. The importers of all releases fail where one of its keys lacks."""
        row = {"name": name, **{key: _text(organization._stored[key]) for key in ADDRESS}}
        row["public_key"] = _base64(_text(organization._stored["public_key"]) or "")
        users = [user for user in map(self._user, organization.users) if user]
        return {**row, "users": users} if users else row

    def _user(self, user: User) -> Row:
        """Return a user as the file has it, what it has no value for left out; nothing where it is left out."""
        data = {name: _text(user._stored[name]) for name in PERSON}
        name = data["username"]
        if not name or name in self._users:
            self._leave_out(user, "its name is taken" if name else "it has no user name")
            return {}
        if data["email"] in self._emails:
            self.message.append(f"{user.named()} has no e-mail address in the file: it is taken")
            data["email"] = None
        self._users.add(name)
        self._emails |= {data["email"]} if data["email"] is not None else set()
        data["roles"] = _roles(data["roles"]) if self.release in HAS_ROLES else None
        return {"username": name, "password": self._password(name), **{k: v for k, v in data.items() if v is not None}}

    def _password(self, name: str) -> str:
        password = generated_credentials.new_password()
        self.handouts.append(Handout("user", name, "password", password))
        return password

    def _tell_of_homeless(self) -> None:
        for user in User.get():
            if user.organization_id not in self._names:
                self._leave_out(user, "it is of no organization that is in the file")
        if self.release not in HAS_ROLES and self._users:
            self.message.append("roles are not in the file: there every user has all rights, until you take them away")

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
                self._leave_out(node, "it is of no collaboration that is in the file")
        self._tasks["of no collaboration that is in the file"] = len(Task.get()) - self._seen

    def _collaboration(self, collaboration: Collaboration, name: str) -> Iterator[str]:
        members = self._members(collaboration, name)
        first = self._initiator(collaboration, members)
        members.sort(key=lambda id: id != first)  # whose tasks are in the file comes first, the others as they are
        row = {"name": name, **self._encrypted(collaboration)}
        yield formats.to_yaml([row | {"participants": self._participants(collaboration, name, members)}])
        yield from self._images_of(collaboration, first)

    def _encrypted(self, collaboration: Collaboration) -> Row:
        value = collaboration.encrypted
        if not isinstance(value, bool):
            has = "nothing" if value is None else f'"{printable(value)}"'
            message = f"{collaboration.named()} has {has} in encrypted, so the file says nothing: it is true there"
            self.message.append(message)
            return {}
        if not value and self.release not in HAS_ENCRYPTED:
            self.message.append(f"{collaboration.named()} is encrypted there: release {self.release} knows no other")
        return {"encrypted": value}

    def _members(self, collaboration: Collaboration, name: str) -> list[int]:
        """Return the ids of the organizations that take part in the file."""
        found = []
        for member in Member.select().where(Member.collaboration == collaboration.id).order_by(Member.id):
            organization = member.organization_id
            if organization not in self._names:
                self._leave_out(member, "its organization is not in the file")
            elif self.release == 4 and self._node_name(organization, name) in self._nodes:
                node = self._node_name(organization, name)
                self._leave_out(member, f'another node would be called "{printable(node)}" too')
            else:
                self._nodes.add(self._node_name(organization, name))
                found.append(organization)
        return found

    def _node_name(self, organization: int, collaboration: str) -> str:
        """Return what a server calls the node of a participant."""
        return fixtures.NODE_NAME.format(organization=self._names[organization], collaboration=collaboration)

    def _participants(self, collaboration: Collaboration, name: str, members: list[int]) -> list[Row]:
        nodes: dict[int, Node] = {}
        for node in collaboration.nodes:
            if node.organization_id not in members:
                self._leave_out(node, "its organization takes no part in its collaboration in the file")
            elif node.organization_id in nodes:
                self._leave_out(node, "its organization has another one in the same collaboration")
            else:
                nodes[node.organization_id] = node
        return [self._participant(id, self._node_name(id, name), nodes.get(id)) for id in members]

    def _participant(self, organization: int, node_name: str, node: Node | None) -> Row:
        if node is None:
            self.message.append(f'a node "{printable(node_name)}" is new there: each participant gets one')
        elif node.name not in (node_name, None):
            self.message.append(f'{node.named()} is called "{printable(node_name)}" there')
        key = hashing.new_key()
        self.handouts.append(Handout("node", node_name, "API key", key))
        return {"name": self._names[organization], fixtures.PARTICIPANT_KEY[self.release]: key}

    # Tasks

    def _initiator(self, collaboration: Collaboration, members: list[int]) -> int | None:
        """Return who initiated the most tasks: the file has room for those of one, who is the first participant."""
        tasks = Task.select(Task.initiator, peewee.fn.COUNT(Task.id)).where(Task.collaboration == collaboration.id)
        counts = dict(tasks.group_by(Task.initiator).tuples())
        return max(members, key=lambda id: counts.get(id, 0), default=None)

    def _images_of(self, collaboration: Collaboration, first: int | None) -> Iterator[str]:
        """Return the tasks of a collaboration, as YAML: the image of each."""
        tasks = Task.select(Task.image, Task.initiator).where(Task.collaboration == collaboration.id).order_by(Task.id)
        chunk: list[str] = []
        is_first = True
        for image, initiator in tasks.tuples().iterator():
            chunk += self._image(_text(image), initiator, first)
            if len(chunk) == AT_ONCE:
                yield from _images(chunk, is_first)
                chunk, is_first = [], False
        yield from _images(chunk, is_first)

    def _image(self, image: str | None, initiator: int | None, first: int | None) -> list[str]:
        """Return the image of a task that can be in the file, or count why it cannot be."""
        self._seen += 1
        reason = self._why_not(image, initiator, first)
        if reason:
            self._tasks[reason] += 1
            return []
        self._images += 1
        return [str(image)]

    def _why_not(self, image: str | None, initiator: int | None, first: int | None) -> str:
        if self.release in NEEDS_USER and not self._users:
            return f"release {self.release} gives each a user, and there is none in the file"
        if not image:
            return "no image"
        if first is None:
            return "no participants of the collaboration are in the file"
        return "" if initiator == first else OTHER_INITIATOR

    def _tell_of_lost(self) -> None:
        for reason, count in self._tasks.items():
            if count:
                self.message.append(LEFT_OUT.format(pluralize(count, "task is", "tasks are"), reason))
        if self._images:
            self.message.append(ONLY_IMAGES.format(self._images))
        lost = [f"{count:,} {what}" for what, count in _counts() if count]
        if lost:
            self.message.append(f"not in the file, of all tasks: {', '.join(lost)}")


def _counts() -> Iterator[tuple[str, int]]:
    """Return what tasks have that no fixture file holds, and how many of it there are."""
    yield "names", Task.select().where(Task.name != fixtures.TASK_NAME).count()
    for what, field in (("descriptions", Task.description), ("databases", Task.database), ("parents", Task.parent)):
        yield what, Task.select().where(field.is_null(False)).count()
    yield "results with their inputs, times, statuses and logs", Result.select().count()


# Text


def _text(value: Any) -> str | None:
    """Return a stored value as a text that every database and YAML can hold, None for none."""
    if value is None:
        return None
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.replace("\0", "\ufffd")


def _roles(text: str | None) -> str | None:
    """Return the names of roles as release 1 takes them apart: without a space behind the comma."""
    return text and ",".join(name.strip() for name in text.split(","))


def _base64(text: str) -> str:
    """Return a public key in base64, which is what all releases take: one that is no PEM may be so already."""
    import base64

    with suppress(ValueError):
        base64.b64decode(text, validate=True)
        return text
    return base64.b64encode(text.encode()).decode()


def _listed(name: str, parts: Iterator[str]) -> Iterator[str]:
    """Return the YAML of a list under its name, given the YAML of its members."""
    first = next(parts, None)
    yield f"{name}: []\n" if first is None else f"{name}:\n{first}"
    yield from parts


def _images(chunk: list[str], is_first: bool) -> Iterator[str]:
    if chunk:
        yield "  tasks:\n" if is_first else ""
        yield textwrap.indent(formats.to_yaml(chunk), "  ", lambda line: True)


# A file


def export(target: Path, release: int, *, secrets: Path | None = None, force: bool = False) -> Fixture:
    """Write the database that is open as a fixture file, readable by its owner alone, and return what became of it.

    secrets: where a list of the secrets goes, a new file. Both files are complete, or not there at all.
    """
    fixture = Fixture(release)
    with _handing_out(secrets) as hand_out, files.written(target, replace=force) as file:
        file.writelines(fixture.lines())
        hand_out(fixture.handouts)
        signals.point_of_no_return()  # both files, or none
    return fixture


def _handing_out(secrets: Path | None) -> AbstractContextManager[Callable[[list[Handout]], object]]:
    return nullcontext(bool) if secrets is None else generated_credentials.written_to(secrets)
