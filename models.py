"""The six entities of a vantage6 server, and the membership of organizations in collaborations.

What the user guide calls `db`. In the shell it is there; in a script::

    from models import connect, Organization

    connect("vserver.db")
    Organization(name="IKNL", country="Netherlands").save()

The fields and relations are those of vantage6 1.x. Each entity has what vserverlib.entities.entity.Entity gives: get(),
save(), delete(), exists(), help(). This module owns what is special to each; it knows no rules and no journal.
"""

from __future__ import annotations

import datetime
from typing import Any

from vserverlib import Error, NotFound, NotObeyed, did_you_mean, hashing, printable
from vserverlib.databases.connecting import connect, create
from vserverlib.databases.current import database
from vserverlib.databases.registry import registry
from vserverlib.entities.choices import GeneratedField
from vserverlib.entities.computed import ComputedAttribute
from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import (
    LARGEST,
    ApiKey,
    BooleanField,
    IntegerField,
    Password,
    PublicKey,
    Text,
    UTCDateTimeField,
    key_salt,
    now,
    whole,
)
from vserverlib.entities.lists import Reader
from vserverlib.entities.orm import SaveWarnings
from vserverlib.entities.progress import (
    COMPLETED,
    FAILURE,
    NO_RESULTS,
    PENDING,
    STATES,
    UNFINISHED_RESULTS,
    Counts,
    follow,
    read_counts,
    read_finished,
    state_of,
)
from vserverlib.entities.relations import Link, Memberships

__all__ = [
    "ENTITIES",
    "Collaboration",
    "Member",
    "Node",
    "Organization",
    "Result",
    "Task",
    "User",
    "connect",
    "create",
    "database",
]


class Named:
    """Finding an entity by its name; where several have it, the oldest."""

    @classmethod
    def get_by_name(cls, name: str) -> Any:
        """Return the entity of a name, the oldest where several have it, or None."""
        return cls.first_where(cls.name == name)  # type: ignore[attr-defined]

    find_by_name = get_by_name


class Organization(Named, Entity):
    """A hospital, a registry: what collaborates without sharing data."""

    noun, plural = "organization", "organizations"
    about = "takes part in collaborations; has users, a node in each collaboration, tasks and results"

    name = Text(null=True, index=True)
    domain = Text(null=True)
    address1 = Text(null=True)
    address2 = Text(null=True)
    zipcode = Text(null=True)
    country = Text(null=True)
    public_key = PublicKey(null=True)


class User(Entity):
    """A person who logs in. Users belong to an organization."""

    noun, plural = "user", "users"
    about = "a person who logs in; belongs to an organization"

    username = Text(null=True, unique=True)
    password = Password(null=True)
    firstname = Text(null=True)
    lastname = Text(null=True)
    email = Text(null=True, unique=True)
    roles = Text(null=True)
    organization = Link(Organization, backref="users")
    ip = Text(null=True)
    last_seen = UTCDateTimeField(null=True)
    status = Text(null=True)

    @classmethod
    def get_by_username(cls, username: str) -> Any:
        """Return the user of a name; a NotFound error, which suggests a near one, where there is none."""
        user = cls.first_where(cls.username == username)
        if user is None:
            names = (name for (name,) in cls.select(cls.username).where(cls.username.is_null(False)).tuples())
            raise NotFound(f'no user "{printable(username)}"{did_you_mean(str(username), names)}')
        return user

    getByUsername = get_by_username  # noqa: N815  # the guide's name, which is vantage6's

    @classmethod
    def get_by_email(cls, email: str) -> Any:
        """Return the user with an e-mail address, or None."""
        return cls.first_where(cls.email == email)

    @classmethod
    def username_exists(cls, username: str) -> bool:
        """Whether a user name is taken."""
        return cls.exists("username", username)

    def check_password(self, plain: str) -> bool:
        """Whether this is the password. Takes 0.3 seconds. Not available in a read-only session."""
        self._meta.database.refuse_read_only("check_password")
        return hashing.matches(plain, self.stored_hash("password"))

    def set_password(self, plain: str) -> None:
        """Give a new password, as assigning it does: it is hashed now, and written by save()."""
        self.password = plain


class Collaboration(Named, Entity):
    """Organizations that run tasks together."""

    noun, plural = "collaboration", "collaborations"
    about = "organizations that run tasks together; has nodes and tasks"

    name = Text(null=True, unique=True)
    encrypted = BooleanField(null=True, default=True)

    @classmethod
    def name_exists(cls, name: str) -> bool:
        """Whether a name is taken."""
        return cls.exists("name", name)

    def get_organization_ids(self) -> list[int]:
        """Return the ids of the organizations that take part."""
        return [organization.id for organization in self.organizations]

    def get_task_ids(self) -> list[int]:
        """Return the ids of the tasks."""
        return [id for (id,) in Task.select(Task.id).where(Task.collaboration == self.id).order_by(Task.id).tuples()]

    def get_nodes_from_organizations(self, ids: list[int]) -> Any:
        """Return the nodes, in this collaboration, of the organizations with these ids."""
        return self.nodes.where(Node.organization.in_(list(ids)))

    def get_node_from_organization(self, organization: Organization) -> Any:
        """Return the node of an organization in this collaboration, the oldest where there are several, or None."""
        return next(iter(self.nodes.where(Node.organization == organization).limit(1)), None)


class Member(Entity):
    """A membership: an organization takes part in a collaboration. Users edit it as a list, from either side."""

    noun, plural = "membership", "memberships"
    about = "an organization takes part in a collaboration"

    organization = Link(Organization, backref="+", index=False)
    collaboration = Link(Collaboration, backref="+")

    class Meta:
        indexes = ((("organization", "collaboration"), True),)

    def label(self) -> str:
        return f"of organization {self.organization_id} in collaboration {self.collaboration_id}"

    def removed_memberships(self) -> list[dict[str, int]]:
        """Return what it was a membership of before, where it becomes another one."""
        links = ("organization", "collaboration")
        before = None if self._new or self._dirty.isdisjoint(links) else self.by_id(self.id)
        return [] if before is None else [{name: before._stored[name] for name in links}]


Memberships("collaborations", mine=Member.organization, theirs=Member.collaboration)
Memberships("organizations", mine=Member.collaboration, theirs=Member.organization)


class Node(Named, Entity):
    """The machine of an organization that runs the tasks of a collaboration."""

    noun, plural = "node", "nodes"
    about = "the machine of an organization that runs the tasks of a collaboration"

    name = Text(null=True, index=True)
    api_key = ApiKey(null=True, index=True)
    collaboration = Link(Collaboration, backref="nodes")
    organization = Link(Organization, backref="nodes")
    ip = Text(null=True)
    last_seen = UTCDateTimeField(null=True)
    status = Text(null=True)

    @classmethod
    def get_by_api_key(cls, plain: str) -> Any:
        """Return the node with an API key, or None. Takes 0.3 seconds. Not available in a read-only session.

        Keys hashed by another server have salts of their own: they are tried one by one, 0.3 seconds each, and the
        one that fits is hashed anew, which is written.
        """
        database.refuse_read_only("get_by_api_key")
        salt, text = key_salt(database), hashing.check_plain(str(cls.api_key), plain)
        found = cls.first_where(cls.api_key == hashing.make_hash(text, salt))
        return found or cls._rehashed(text, salt)

    @classmethod
    def _rehashed(cls, plain: str, salt: str) -> Any:
        foreign = ~cls.api_key.startswith(salt) & cls.api_key.is_null(False)
        for node in cls.select().where(foreign).order_by(cls.id):
            if hashing.matches(plain, node._stored["api_key"]):
                node.api_key = plain
                with database.rule_checks(False):  # it is the same key, and somebody else's node
                    node.save()
                return cls.by_id(node.id)
        return None

    def check_key(self, plain: str) -> bool:
        """Whether this is the API key. Takes 0.3 seconds. Not available in a read-only session."""
        self._meta.database.refuse_read_only("check_key")
        return hashing.matches(plain, self.stored_hash("api_key"))


class Task(Named, Entity):
    """A computation that is sent to organizations: each of them is to deliver a result."""

    noun, plural = "task", "tasks"
    about = "a computation that organizations are to deliver results for"

    name = Text(null=True, index=True)
    description = Text(null=True)
    image = Text(null=True)
    collaboration = Link(Collaboration, backref="tasks")
    run_id = IntegerField(null=True, index=True)
    parent = Link("self", backref="children")
    database = Text(null=True)
    initiator = Link(Organization, backref="created_tasks")
    created_at = UTCDateTimeField(null=True, index=True)

    @classmethod
    def next_run_id(cls) -> int:
        """Reserve a run_id: no other call gets the same, in any process. Writes.

        A number that was reserved inside a transaction that is rolled back is given again.
        """
        database = cls._meta.database
        with database.without_invalidation():
            (number,) = database.execute_sql(NEXT_RUN_ID).fetchone()
        if number >= LARGEST:
            remedy = "set it, and the highest run_id of a task, to lower numbers"
            raise Error(f"no run_id is left: the counter run_id of {database.title} has reached the highest: {remedy}")
        return int(number)

    def complete_fields(self) -> SaveWarnings:
        """Give a new task the time of saving, and its parent's run_id or the next one."""
        if self._new and self.created_at is None:
            self.created_at = now()
        if self._new and self.run_id is None:
            shared = whole(self.parent.run_id) if self.parent else None  # another program may have written anything
            self.run_id = shared or self.next_run_id()
        return []

    # How far it is. Read for all tasks of a list at once; asked anew each time of a task that came alone.

    def _ask(self, reader: Reader) -> Any:
        id, peers = self._stored.get("id"), self._peers
        if peers is not None:
            return peers.ask(reader, self, id)
        return None if id is None else reader(self._meta.database, [id]).get(id)

    @property
    def counts(self) -> Counts:
        """How many results there are, have finished, have failed, are active."""
        return self._ask(read_counts) or NO_RESULTS

    @ComputedAttribute
    def complete(self) -> bool:
        """Whether it has results, and all have finished: failed ones, too."""
        return self.counts.complete

    @ComputedAttribute
    def status(self) -> str:
        """The first that holds: empty, failed, active, pending, completed."""
        return self.counts.status

    @ComputedAttribute
    def progress(self) -> tuple[int, int]:
        """(done, total): results that have finished, and all."""
        counts = self.counts
        return counts.done, counts.total

    @ComputedAttribute
    def finished_at(self) -> datetime.datetime | None:
        """When the last result finished; None while it is not complete."""
        return Result.finished_at.decode(self._ask(read_finished)) if self.complete else None

    def results_for_node(self, node: Node) -> Any:
        """Return the results that a node is to deliver for this task: none where it is of another collaboration."""
        mine = self.results.where(Result.organization == node.organization_id)
        return mine if node.collaboration_id == self.collaboration_id else mine.none()


class Result(Entity):
    """What one organization is to deliver for one task."""

    noun, plural = "result", "results"
    about = "what one organization is to deliver, or delivered, for one task"

    input = Text(null=True)
    task = Link(Task, backref="results", index=False)
    organization = Link(Organization, backref="results", index=False)
    result = Text(null=True)
    assigned_at = UTCDateTimeField(null=True)
    started_at = UTCDateTimeField(null=True)
    finished_at = UTCDateTimeField(null=True)
    log = Text(null=True)
    status = Text(null=True, default=PENDING)

    state = GeneratedField(STATES, null=True)

    class Meta:
        # What the counts of tasks, and those of organizations, are grouped by.
        indexes = ((("task", "state"), False), (("organization", "state"), False))

    def complete_fields(self) -> SaveWarnings:
        """Give a new result the time of saving; have the status follow the times unless it is a failure."""
        if self._new and self.assigned_at is None:
            self.assigned_at = now()
        given, data = self._stored.get("status"), self._stored
        followed = follow(given, data.get("started_at"), data.get("finished_at"))
        message = self._not_obeyed(given, followed) if given != followed else []
        if given != followed:
            self.status = followed
        return message

    def _not_obeyed(self, given: str | None, followed: str) -> SaveWarnings:
        if "status" not in self._dirty or given is None or self._is_default_status():
            return []
        message = f'status "{printable(given)}" was given, but it follows the times, which say "{followed}"'
        return [NotObeyed(f"{self.named()}: {message}: set started_at or finished_at")]

    def _is_default_status(self) -> bool:
        return self._new and self._stored.get("status") == PENDING

    def touched_tasks(self) -> set[int] | None:
        relinked = "task" in self._dirty and not self._new
        return None if relinked else {self.task_id} - {None}

    def _work_out(self) -> str:
        """Return the state: pending, active, completed or failed."""
        data = self._stored
        return state_of(data.get("status"), data.get("started_at"), data.get("finished_at"))

    @ComputedAttribute
    def complete(self) -> bool:
        """Whether it has finished: delivered or failed."""
        return self.state in (COMPLETED, FAILURE)

    @property
    def node(self) -> Any:
        """The node that is to deliver it: of its organization, in the collaboration of its task; None without one."""
        if self.task is None or self.task.collaboration is None or self.organization_id is None:
            return None
        return self.task.collaboration.get_node_from_organization(self.organization_id)

    def label(self) -> str:
        return f"of task {self.task_id} for organization {self.organization_id}, {self._stored.get('status')}"


# Who is waited for, and since when: the few results that have not finished.
Result.add_index(Result.organization, Result.assigned_at, where=UNFINISHED_RESULTS, name="result_unfinished")

ENTITIES: tuple[type[Entity], ...] = (Organization, User, Collaboration, Node, Task, Result)
MODELS = registry.fill((Organization, User, Collaboration, Member, Node, Task, Result))


def is_filled() -> bool:
    """Whether there is an entity of any kind."""
    return any(model.select().exists() for model in ENTITIES)


# The counter stays above numbers that were written by hand; what another program has written in place of a number, in a
# task or in the counter, is passed over. One statement: atomic on SQLite and PostgreSQL.
NEXT_RUN_ID = f"""
INSERT INTO counter (name, value) VALUES (
    'run_id', 1 + (SELECT COALESCE(MAX(CAST(run_id AS BIGINT)), 0) FROM task WHERE run_id BETWEEN 1 AND {LARGEST - 1})
) ON CONFLICT (name) DO UPDATE SET value = CASE
    WHEN counter.value BETWEEN excluded.value AND {LARGEST - 1} THEN CAST(counter.value AS BIGINT) + 1
    WHEN counter.value = {LARGEST} THEN counter.value ELSE excluded.value END
RETURNING value
"""
