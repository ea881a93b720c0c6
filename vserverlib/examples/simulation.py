"""A made-up consortium of any size, and simulated nodes: for courses and benchmarks.

fill() writes organizations, users, collaborations, nodes, and tasks of the last months with results in all states.
play() simulates the nodes: they start, finish and fail pending results.

There are no passwords and API keys, so nobody can log in; demo.py has a small example with both.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import models
from models import Collaboration, Organization, Result, Task
from vserverlib import Error, files
from vserverlib.databases import connecting, recording, storage
from vserverlib.entities import progress
from vserverlib.entities.fields import now
from vserverlib.examples import demo
from vserverlib.progress_callback import Advance

TASKS, ORGANIZATIONS = 1000, 12
TASKS_PER_CHANGE = 32_000  # for each change in the journal, with about 100,000 results; a multiple of FAMILY
DAY = 86400
SPAN_SECONDS = 180 * DAY  # from the first task until now
FAMILY = 4  # tasks of one run: a parent and its steps
WITHOUT_RESULTS = 200  # one task in 200 has no results
MEMBERS, GUEST_MEMBERS = 4, 1  # of a collaboration: organizations of no other collaboration, and of others
RESERVED_DOMAIN = ".example"  # nobody can register it (RFC 2606)
ONLINE_SHARE = 0.9  # of the nodes
CACHE_SIZE = -128 * 1024  # of SQLite while it fills; negative numbers are KiB
COUNTRIES = {
    "Netherlands": ("Utrecht", "Groningen", "Maastricht", "Nijmegen", "Leiden"),
    "Belgium": ("Gent", "Leuven", "Liège"),
    "France": ("Lyon", "Nantes", "Orléans", "Besançon"),
    "Germany": ("Köln", "Dresden", "Tübingen", "Würzburg"),
    "Italy": ("Bologna", "Torino", "Cagliari"),
    "España": ("Zaragoza", "Cádiz", "León"),
    "Norge": ("Tromsø", "Bergen"),
    "Österreich": ("Graz", "Linz"),
    "日本": ("仙台", "京都"),
}
KINDS = ("University Hospital", "Cancer Registry", "Cancer Institute", "Biobank", "Public Health Service", "Clinic")
SUBJECTS = ("Colorectal cancer", "Lung screening", "Breast cancer", "Rare tumours [pilot]", "Stroke", "Diabetes")
PEOPLE = (
    ("Anna", "de Vries"),
    ("Jürgen", "Weiß"),
    ("Élise", "Moreau"),
    ("Lucía", "Fernández"),
    ("健太", "佐藤"),
    ("Ingrid", "Sørensen"),
)
QUESTIONS = (
    ("Age at diagnosis", demo.AVERAGE),
    ("Kaplan-Meier survival", demo.EVENTS),
    ("Cox regression", demo.STEP),
    ("Stage by sex", demo.TABLE),
    ("Missing values", demo.CHECK),
)
# The states of 300 old results, and of 17 results of the newest tasks, by the letters of demo.RESULT_STATES.
LONG_AGO, LATELY = (
    [*map(demo.RESULT_STATES.__getitem__, letters)] for letters in ("c" * 293 + "fxksinp", "c" * 9 + "aaappppf")
)
NEWEST_SHARE = 50  # one task in 50 is one of the newest

ORGANIZATION = ("id", "name", "domain", "address2", "country")
USER = ("username", "email", "firstname", "lastname", "roles", "organization_id")
NODE = ("name", "collaboration_id", "organization_id", "status", "last_seen")
TASK = ("id", "name", "image", "collaboration_id", "run_id", "parent_id", "database", "initiator_id", "created_at")
RESULT = ("task_id", "organization_id", "input", "result", "assigned_at", "started_at", "finished_at", "log", "status")

# Simulated nodes
MOVE_SECONDS = 0.5  # between two moves
MAX_MOVED = 50  # a move changes only the newest 50 unfinished results
START_CHANCE, FINISH_CHANCE, FAIL_CHANCE, NEW_TASK_CHANCE = 0.4, 0.25, 0.08, 0.15  # in each move


class Stamps:
    """Stored times from seconds since 1970. Fast: dates and times of day are computed once."""

    def __init__(self) -> None:
        self.clock = [f" {s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}.000000+00:00" for s in range(DAY)]
        self.date = functools.lru_cache(maxsize=1000)(lambda day: time.strftime("%Y-%m-%d", time.gmtime(day * DAY)))

    def __call__(self, second: int) -> str:
        """Return the stored form of a time."""
        return self.date(second // DAY) + self.clock[second % DAY]


# Organizations, users, collaborations, nodes


class Consortium:
    """Writes organizations with users, and their collaborations with nodes, to an empty database."""

    def __init__(self, database: Any, organizations: int, chance: random.Random) -> None:
        self.chance, self.stamp = chance, Stamps()
        first, self.now = database.highest_id("organization") + 1, int(time.time())
        self.names = {first + at: name for at, name in enumerate(itertools.islice(_names(), organizations))}
        first = database.highest_id("collaboration") + 1
        many = max(1, organizations // MEMBERS)
        self.members = {first + at: self._some(at, many) for at in range(many)}
        self.titles = dict(zip(self.members, _numbered(SUBJECTS), strict=False))
        about = f"vserver demo: {organizations:,} made-up organizations, their users, collaborations and nodes"
        with recording.bulk_change(database, about), database.fetching():
            database.insert_many("organization", ORGANIZATION, self._organizations())
            database.insert_many("user", USER, self._users())
            named = [(id, title, False) for id, title in self.titles.items()]
            database.insert_many("collaboration", ("id", "name", "encrypted"), named)
            pairs = [(id, member) for id, members in self.members.items() for member in members]
            database.insert_many("member", ("collaboration_id", "organization_id"), pairs)
            database.insert_many("node", NODE, (self._node(*pair) for pair in pairs))

    def _some(self, at: int, many: int) -> list[int]:
        """Return the members of collaboration `at` of `many`. Each organization is in one; guests are in several."""
        ids = list(self.names)
        return sorted({*ids[at::many], *self.chance.sample(ids, min(len(ids), GUEST_MEMBERS))})

    def _organizations(self) -> Iterator[tuple[Any, ...]]:
        for id, (name, city, country) in self.names.items():
            yield id, name, _domain(id), city, country

    def _users(self) -> Iterator[tuple[Any, ...]]:
        people = itertools.cycle(PEOPLE)
        for id in self.names:
            for word, role in (("admin", "Organization Admin"), ("researcher", "Researcher")):
                first, last = next(people)
                yield f"{word}.{id}", f"{word}.{id}@{_domain(id)}", first, last, role, id

    def _node(self, collaboration: int, organization: int) -> tuple[Any, ...]:
        name = f"{self.names[organization][0]} - {self.titles[collaboration]} Node"
        is_online = self.chance.random() < ONLINE_SHARE
        seen = self.now - self.chance.randrange(60 if is_online else 20 * DAY)
        return name, collaboration, organization, "online" if is_online else "offline", self.stamp(seen)


def _names() -> Iterator[tuple[str, str, str]]:
    """Yield names, cities and countries of organizations without end. All names differ."""
    cities = [(city, country) for country, cities in COUNTRIES.items() for city in cities]
    kinds = [KINDS[shift:] + KINDS[:shift] for shift in range(len(KINDS))]
    placed = [zip(itertools.cycle(order), cities, strict=False) for order in kinds]
    places = [(f"{kind} {city}", city, country) for turn in placed for kind, (city, country) in turn]
    for number in itertools.count(1):
        yield from ((name + f" {number}" * (number > 1), city, country) for name, city, country in places)


def _numbered(words: tuple[str, ...]) -> Iterator[str]:
    for number in itertools.count(1):
        yield from (word + f" {number}" * (number > 1) for word in words)


def _domain(id: int) -> str:
    return f"organization-{id}{RESERVED_DOMAIN}"


# Tasks and results


class TaskPlan(NamedTuple):
    """The tasks of a consortium by place, from 0. tasks: their number. ids, runs: the last used id and run id."""

    consortium: Consortium
    tasks: int
    ids: int
    runs: int

    def task(self, at: int) -> tuple[Any, ...]:
        """Return the row of a task. The first of each FAMILY is the parent of the others; it has one result."""
        who, head = self.consortium, at - at % FAMILY
        question, algorithm = QUESTIONS[at // FAMILY % len(QUESTIONS)]
        collaboration, initiator = self._collaboration_and_initiator(at)
        name = question if at == head else f"{question}, step {at - head}"
        parent = None if at == head else self.ids + head + 1
        image = demo.REGISTRY + algorithm.image
        run = self.runs + at // FAMILY + 1
        return self.ids + at + 1, name, image, collaboration, run, parent, "default", initiator, who.stamp(self.at(at))

    def _collaboration_and_initiator(self, at: int) -> tuple[int, int]:
        """Return the ids of the collaboration and the initiator of a task."""
        collaborations, family = self.consortium.members, at // FAMILY
        collaboration = min(collaborations) + family % len(collaborations)
        members = collaborations[collaboration]
        return collaboration, members[family // len(collaborations) % len(members)]

    def at(self, at: int) -> int:
        """Return the time of a task in seconds since 1970. Recent tasks are denser than old ones."""
        return self.consortium.now - 60 - int(SPAN_SECONDS * (1 - (at + 1) / self.tasks) ** 2)

    def results(self, at: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a task's results; a few tasks have none."""
        if at % WITHOUT_RESULTS == WITHOUT_RESULTS - 1:
            return
        stamp, now, id = self.consortium.stamp, self.consortium.now, self.ids + at + 1
        letters = LATELY if self.tasks - at <= FAMILY + self.tasks // NEWEST_SHARE else LONG_AGO
        collaboration, initiator = self._collaboration_and_initiator(at)
        members = self.consortium.members[collaboration] if at % FAMILY else [initiator]
        (_, text, result), made = QUESTIONS[at // FAMILY % len(QUESTIONS)][1], self.at(at)
        assigned, states = stamp(made), self.consortium.chance.choices(letters, k=len(members))
        for member, (status, started, finished, log) in zip(members, states, strict=True):
            start = made + 2 + (37 * id + 11 * member) % 50
            end = stamp(min(now, start + 20 + (53 * id + 71 * member) % 600)) if finished else None
            output = result if status == progress.COMPLETED else None
            yield id, member, text, output, assigned, stamp(start) if started else None, end, log, status


# Filling


def fill(database: Any, tasks: int = TASKS, organizations: int = ORGANIZATIONS, advance: Advance = bool) -> None:
    """Fill an empty database, in one transaction. advance: called with the number of written tasks.

    Raises an Error if the database has entities already.
    """
    if models.is_filled():
        raise Error(f"{database.title} has entities already: name an empty or a new database")
    if database.is_sqlite:
        database.execute_sql(f"PRAGMA cache_size = {CACHE_SIZE}")
    with database.atomic():
        _fill(database, tasks, organizations, advance)


def make(path: Path, tasks: int = TASKS, organizations: int = ORGANIZATIONS, advance: Advance = bool) -> None:
    """Create a database file and fill it, completely or not at all. Raises an Error if the file exists."""
    files.refuse_taken(path)
    with files.as_error(f"{files.shown(path)} cannot be created"), files.draft_for(path) as draft:
        draft.unlink()
        storage.create(draft)
        with contextlib.closing(connecting.connect(draft)) as database:
            fill(database, tasks, organizations, advance)
        files.move_into_place(draft, path)


def _fill(database: Any, tasks: int, organizations: int, advance: Advance) -> None:
    consortium = Consortium(database, organizations, random.Random(1))
    (runs,) = database.execute_sql("SELECT value FROM counter WHERE name = 'run_id'").fetchone()
    plan = TaskPlan(consortium, tasks, database.highest_id("task"), runs)
    for first in range(0, tasks, TASKS_PER_CHANGE):
        places = range(first, min(first + TASKS_PER_CHANGE, tasks))
        _write(database, plan, places)
        advance(places.stop)


def _write(database: Any, plan: TaskPlan, places: range) -> None:
    about = f"vserver demo: made-up tasks {places.start + 1:,} to {places.stop:,} of {plan.tasks:,}, and their results"
    with recording.bulk_change(database, about), database.fetching():
        database.insert_many("task", TASK, map(plan.task, places))
        database.insert_many("result", RESULT, itertools.chain.from_iterable(map(plan.results, places)))
        database.execute_sql(demo.ADVANCE_RUN_ID)


# Simulated nodes


def refuse_real(is_meant: bool = False) -> None:
    """Raise an Error if an organization may be real: the simulation would overwrite its results."""
    domain = Organization.domain
    real = None if is_meant else Organization.first_where(domain.is_null() | ~domain.endswith(RESERVED_DOMAIN))
    if real is not None:
        why = f'its domain does not end in "{RESERVED_DOMAIN}"'
        raise Error(f"{real.named()} may be real ({why}), and its results would be overwritten: confirm with --yes")


def play(*, until_done: bool = False) -> None:
    """Move each MOVE_SECONDS until Ctrl-C, or, with `until_done`, until all results are finished."""
    chance = random.Random()
    while move(chance, until_done) or not until_done:
        time.sleep(MOVE_SECONDS)


def move(chance: random.Random, until_done: bool = False) -> bool:
    """Start and finish some results, in one transaction; return whether there was an unfinished result.

    Unless `until_done`, it creates a task now and then, and always if no unfinished result is left.
    """
    with models.database.rule_checks(False), models.database.atomic():  # made-up data may break rules
        waiting = Result.select().where(progress.UNFINISHED_RESULTS).order_by(Result.id.desc()).limit(MAX_MOVED)
        for result in waiting:
            _move(result, chance)
        if not until_done and (chance.random() < NEW_TASK_CHANCE or not _has_unfinished()):
            _create_task(chance)
    return bool(len(waiting))


def _has_unfinished() -> bool:
    """Whether a result is unfinished. Without one, `vserver watch` would end."""
    return bool(Result.select().where(progress.UNFINISHED_RESULTS).exists())


def _move(result: Any, chance: random.Random) -> None:
    """Start a result, or finish or fail it if it has started, or leave it as it is."""
    if result.started_at is None:
        result.started_at = now() if chance.random() < START_CHANCE else None
    elif chance.random() < FINISH_CHANCE:
        result.finished_at = now()
        state = demo.RESULT_STATES["x" if chance.random() < FAIL_CHANCE else "c"]
        result.log = state.log
        if state.status != progress.COMPLETED:
            result.status = state.status
    if result._dirty:
        result.save()
        _mark_online(result.node)


def _mark_online(node: Any) -> None:
    """Update a node as a server does when the node starts or finishes a result."""
    if node is not None:
        node.status, node.last_seen = "online", now()
        node.save()


def _create_task(chance: random.Random) -> None:
    """Create a task for all members of a random collaboration, if it has members."""
    ids = [id for (id,) in Collaboration.select(Collaboration.id).tuples()]
    collaboration = Collaboration.by_id(chance.choice(ids)) if ids else None
    members = list(collaboration.organizations) if collaboration else []
    if not members:
        return
    name, algorithm = chance.choice(QUESTIONS)
    image = demo.REGISTRY + algorithm.image
    task = Task(name=name, image=image, collaboration=collaboration, initiator=chance.choice(members))
    task.save()
    for member in members:
        Result(task=task, organization=member, input=algorithm.input).save()
