"""The six entities of a vantage6 server, and the membership of organizations in collaborations.

What the user guide calls `db`. In the shell it is there; in a script::

    from models import connect, Organization

    connect("vserver.db")
    Organization(name="IKNL", country="Netherlands").save()

The fields and relations are those of vantage6 1.x. All entities inherit get(), save(), delete(), exists() and help()
from vserverlib.entities.entity.Entity. This module defines the rest; it does not know the rules or the journal.
"""

from __future__ import annotations

import datetime
from typing import Any

from vserverlib import Error, NotFound, NotObeyed, hashing, printable, tracebacks
from vserverlib.databases.connecting import connect, create
from vserverlib.databases.current import database
from vserverlib.databases.registry import registry
from vserverlib.entities import finding, lock_outs
from vserverlib.entities.choices import GeneratedField
from vserverlib.entities.computed import ComputedAttribute
from vserverlib.entities.entity import Entity
from vserverlib.entities.fields import (
    LARGEST_INTEGER,
    ApiKey,
    BooleanField,
    IntegerField,
    Password,
    PublicKey,
    Text,
    UTCDateTimeField,
    as_integer,
    key_salt,
    now,
)
from vserverlib.entities.lists import BatchReader
from vserverlib.entities.orm import SaveWarnings
from vserverlib.entities.progress import (
    COMPLETED,
    FAILED,
    FAILURE,
    KILLED,
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
    """Entities that can be found by name."""

    @classmethod
    def get_by_name(cls, name: str) -> Any:
        """Return the entity with a name, the oldest if there are several, or None."""
        return cls.first_where(cls.name == name) or finding.missed(cls, name, cls.name)  # type: ignore[attr-defined]

    find_by_name = get_by_name


class Organization(Named, Entity):
    """A hospital or registry that collaborates without sharing its data."""

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
        """Return the user with a user name. Raises NotFound, with a similar name, for an unknown one."""
        user = cls.first_where(cls.username == username)
        if user is None:
            raise NotFound(f'no user "{printable(username)}"{finding.similar_name(cls, str(username))}')
        return user

    getByUsername = get_by_username  # noqa: N815  # the guide's name, which is vantage6's

    @classmethod
    def get_by_email(cls, email: str) -> Any:
        """Return the user with an e-mail address, or None."""
        return cls.first_where(cls.email == email) or finding.missed(cls, email, cls.email)

    @classmethod
    def username_exists(cls, username: str) -> bool:
        """Whether a user name is taken."""
        return cls.exists("username", username)

    def check_password(self, plain: str) -> bool:
        """Whether the password is correct. Takes 0.3 seconds. Not available in a read-only session."""
        self._meta.database.refuse_read_only("check_password")
        return hashing.matches(plain, self.stored_hash("password"))

    def set_password(self, plain: str) -> None:
        """Assign a new password: it is hashed now and written by save()."""
        self.password = plain

    def unlock(self, *, two_factor: bool = False) -> bool:
        """Let a user log in again after wrong passwords, and return whether anything was in the way. Writes at once.

        In the working copy of a vantage6 server, it is part of the plan, without undo; two_factor: also reset
        two-factor authentication. Raises an Error if the user was never saved, and for two_factor in a database of
        vserver, which has none.
        """
        database = self._meta.database
        database.refuse_read_only("unlock")
        if self._new:
            raise Error(f"{self.named()}: save it first: only a user who exists can be locked out")
        if database.unlock(self, two_factor=two_factor):
            return True
        if two_factor:
            raise Error(f"{self.named()} has no two-factor authentication here: unlock without it")
        return lock_outs.lift(self.id)


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
        """Return the ids of its organizations."""
        return [organization.id for organization in self.organizations]

    def get_task_ids(self) -> list[int]:
        """Return the ids of its tasks."""
        return [id for (id,) in Task.select(Task.id).where(Task.collaboration == self.id).order_by(Task.id).tuples()]

    def get_nodes_from_organizations(self, ids: list[int]) -> Any:
        """Return the nodes in this collaboration that belong to the organizations with these ids."""
        return self.nodes.where(Node.organization.in_(list(ids)))

    def get_node_from_organization(self, organization: Organization) -> Any:
        """Return the node of an organization in this collaboration, the oldest if there are several, or None."""
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
        """Return the membership that this row was before, if a save changes its links."""
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

        Keys hashed by another server have different salts: they are tried one by one, 0.3 seconds each, and the key
        that matches is rehashed and written.
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
                with database.rule_checks(False):  # the key is the same, and the caller only reads
                    node.save()
                return cls.by_id(node.id)
        return None

    def check_key(self, plain: str) -> bool:
        """Whether the API key is correct. Takes 0.3 seconds. Not available in a read-only session."""
        self._meta.database.refuse_read_only("check_key")
        return hashing.matches(plain, self.stored_hash("api_key"))


class Task(Named, Entity):
    """A computation that is sent to organizations, each of which returns a result."""

    noun, plural = "task", "tasks"
    about = "a computation for which organizations return results"

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
        """Reserve a run_id: no other call, in any process, gets the same number. Writes.

        If the transaction is rolled back, the number is used again.
        """
        database = cls._meta.database
        with database.without_invalidation():
            (number,) = database.execute_sql(NEXT_RUN_ID).fetchone()
        if number >= LARGEST_INTEGER:
            remedy = "set it, and the highest run_id of a task, to lower numbers"
            raise Error(f"no run_id is left: the counter run_id of {database.title} is at its maximum: {remedy}")
        return int(number)

    def fill_in_fields(self) -> SaveWarnings:
        """Set created_at of a new task to now, and its run_id to its parent's or the next one."""
        if self._new and self.created_at is None:
            self.created_at = now()
        if self._new and self.run_id is None:
            shared = as_integer(self.parent.run_id) if self.parent else None  # None: another program wrote no number
            self.run_id = shared or self.next_run_id()
        return []

    # Progress: read once for all tasks of a list, and each time for a task that was read alone.

    def _read(self, reader: BatchReader) -> Any:
        id, peers = self._stored.get("id"), self._peers
        if peers is not None:
            return peers.value(reader, self, id)
        return None if id is None else reader(self._meta.database, [id]).get(id)

    @property
    def counts(self) -> Counts:
        """The numbers of its results: all, finished, failed, active."""
        return self._read(read_counts) or NO_RESULTS

    @ComputedAttribute
    def complete(self) -> bool:
        """Whether it is finished: it has results, all of them finished."""
        return self.counts.complete

    @ComputedAttribute
    def status(self) -> str:
        """The first that holds: empty, failed, active, pending, completed."""
        return self.counts.status

    @ComputedAttribute
    def progress(self) -> tuple[int, int]:
        """(done, total): the numbers of finished and of all results."""
        counts = self.counts
        return counts.done, counts.total

    @ComputedAttribute
    def finished_at(self) -> datetime.datetime | None:
        """When the last result finished; None until the task is finished."""
        return Result.finished_at.decode(self._read(read_finished)) if self.complete else None

    def results_for_node(self, node: Node) -> Any:
        """Return this task's results for a node's organization: none if the node is in another collaboration."""
        mine = self.results.where(Result.organization == node.organization_id)
        return mine if node.collaboration_id == self.collaboration_id else mine.none()


STATUS_FIELDS = frozenset({"status", "started_at", "finished_at"})  # a save of these settles the status


class Result(Entity):
    """The part of a task that one organization computes: its input, its output and how far it is."""

    noun, plural = "result", "results"
    about = "the part of a task that one organization computes"

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
        # Results are counted by task and by organization.
        indexes = ((("task", "state"), False), (("organization", "state"), False))

    def fill_in_fields(self) -> SaveWarnings:
        """Set assigned_at of a new result to now, and the status to what the times say unless it is a failure."""
        if self._new and self.assigned_at is None:
            self.assigned_at = now()
        if not (self._new or self._dirty & STATUS_FIELDS):
            return []
        given, data = self._stored.get("status"), self._stored
        followed = follow(given, data.get("started_at"), data.get("finished_at"))
        if given == followed:
            return []
        is_default = self._new and given == PENDING
        is_replaced = given is not None and "status" in self._dirty and not is_default
        if is_replaced and (before := self._as_read.get("status")) in FAILED:
            followed = before  # a failure does not become a success because another status cannot be given
        self.status = followed
        if not is_replaced:
            return []
        message = f'status "{printable(given)}" was given, but it follows the times, which say "{followed}"'
        if followed in FAILED:
            message = f'status "{printable(given)}" was given, but the times do not say so: it stays "{followed}"'
        return [NotObeyed(f"{self.named()}: {message}: set started_at or finished_at")]

    def affected_tasks(self) -> set[int] | None:
        relinked = "task" in self._dirty and not self._new
        return None if relinked else {self.task_id} - {None}

    def _compute(self) -> str:
        """Return the state: pending, active, completed or failed."""
        data = self._stored
        return state_of(data.get("status"), data.get("started_at"), data.get("finished_at"))

    def fail(self, *, killed: bool = False) -> None:
        """End a result that hangs, and save it: the status "failed", and the missing times are now. Writes.

        killed: the status "killed by user" instead. Raises an Error if it has finished. No node is notified.
        """
        if self.complete:
            raise Error(f"{self.named()}, has finished already: nothing was changed")
        moment = now()
        self.status, self.finished_at = KILLED if killed else FAILURE, moment
        self.started_at = self.started_at or moment
        with self._meta.database.rule_checks(False):  # a result that hangs breaks rules that its end does not change
            self.save()

    @ComputedAttribute
    def complete(self) -> bool:
        """Whether the result is finished: completed or failed."""
        return self.state in (COMPLETED, FAILURE)

    @property
    def node(self) -> Any:
        """The node that computes it: that of its organization in the collaboration of its task, or None."""
        if self.task is None or self.task.collaboration is None or self.organization_id is None:
            return None
        return self.task.collaboration.get_node_from_organization(self.organization_id)

    def label(self) -> str:
        task = "without a task" if self.task_id is None else f"of task {self.task_id}"
        to = "without an organization" if self.organization_id is None else f"for organization {self.organization_id}"
        return f"{task} {to}, {self._stored.get('status')}"


# Answers who is waited for, and since when, from the few unfinished results.
Result.add_index(Result.organization, Result.assigned_at, where=UNFINISHED_RESULTS, name="result_unfinished")

MODELS = registry.fill((Organization, User, Collaboration, Member, Node, Task, Result))
ENTITIES: tuple[type[Entity], ...] = tuple(model for model in MODELS.values() if model is not Member)

tracebacks.install()  # not in connect(), which may be the first to fail


def is_filled() -> bool:
    """Whether the database has any entity."""
    return any(model.select().exists() for model in ENTITIES)


# The counter stays above numbers that were written by hand, and ignores values of other programs that are no numbers.
# One statement, so that it is atomic on SQLite and PostgreSQL.
NEXT_RUN_ID = f"""
INSERT INTO counter (name, value) VALUES (
    'run_id', 1 + (
        SELECT COALESCE(MAX(CAST(run_id AS BIGINT)), 0) FROM task WHERE run_id BETWEEN 1 AND {LARGEST_INTEGER - 1}
    )
) ON CONFLICT (name) DO UPDATE SET value = CASE
    WHEN counter.value BETWEEN excluded.value AND {LARGEST_INTEGER - 1} THEN CAST(counter.value AS BIGINT) + 1
    WHEN counter.value = {LARGEST_INTEGER} THEN counter.value ELSE excluded.value END
RETURNING value
"""
