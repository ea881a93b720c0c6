"""A made-up consortium of any size, and nodes that are played: for courses, and to see how fast something is.

fill() writes organizations, users, collaborations, nodes, and tasks with results in all states, spread over the last
months, by bulk inserts. play() takes up pending results and delivers or fails them, in one simple loop.

Nothing that is made here can log in: passwords and keys are not set. A small example that can is demo.py's.
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
CHUNK = 32_000  # tasks of one entry in the journal: about 100,000 results; whole families
DAY = 86400
SPAN = 180 * DAY  # seconds over which the tasks are spread
FAMILY = 4  # tasks of one run: a parent, and its steps
EMPTY = 200  # one task in so many has no results
MEMBERS, GUESTS = 4, 1  # organizations of a collaboration that are of no other one, and others
MADE_UP = ".example"  # the end of domains that nobody can have (RFC 2606)
ONLINE = 0.9  # how many of the nodes are
CACHE = -128 * 1024  # KiB of pages that SQLite keeps while it fills (a negative number says that it is KiB)
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
# How often a result is in each state: long ago, and among the newest tasks.
LONG_AGO, LATELY = (
    [*map(demo.OUTCOMES.__getitem__, letters)] for letters in ("c" * 293 + "fxksinp", "c" * 9 + "aaappppf")
)
LATEST = 50  # one task in so many is among the newest

ORGANIZATION = ("id", "name", "domain", "address2", "country")
USER = ("username", "email", "firstname", "lastname", "roles", "organization_id")
NODE = ("name", "collaboration_id", "organization_id", "status", "last_seen")
TASK = ("id", "name", "image", "collaboration_id", "run_id", "parent_id", "database", "initiator_id", "created_at")
RESULT = ("task_id", "organization_id", "input", "result", "assigned_at", "started_at", "finished_at", "log", "status")

# The live play
TICK = 0.5  # seconds between two moves
MOVED = 50  # unfinished results, the newest, that a move may change
STARTS, ENDS, FAILS, NEW_TASK = 0.4, 0.25, 0.08, 0.15  # how likely, each move


class Stamps:
    """Times as they are stored, from seconds since 1970: fast, because those of a day have their date in common."""

    def __init__(self) -> None:
        self.clock = [f" {s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}.000000+00:00" for s in range(DAY)]
        self.date = functools.lru_cache(maxsize=1000)(lambda day: time.strftime("%Y-%m-%d", time.gmtime(day * DAY)))

    def __call__(self, second: int) -> str:
        """Return a time."""
        return self.date(second // DAY) + self.clock[second % DAY]


# Who there is


class Consortium:
    """Organizations with users, and collaborations of some of them with nodes, written to an empty database."""

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
        """Return the members of one of so many collaborations: each organization is in one, some are in others too."""
        ids = list(self.names)
        return sorted({*ids[at::many], *self.chance.sample(ids, min(len(ids), GUESTS))})

    def _organizations(self) -> Iterator[tuple[Any, ...]]:
        for id, (name, city, country) in self.names.items():
            yield id, name, _domain(id), city, country

    def _users(self) -> Iterator[tuple[Any, ...]]:
        people = itertools.cycle(PEOPLE)
        for id in self.names:
            for role in ("admin", "researcher"):
                first, last = next(people)
                yield f"{role}.{id}", f"{role}.{id}@{_domain(id)}", first, last, role, id

    def _node(self, collaboration: int, organization: int) -> tuple[Any, ...]:
        name = f"{self.names[organization][0]} - {self.titles[collaboration]} Node"
        is_online = self.chance.random() < ONLINE
        seen = self.now - self.chance.randrange(60 if is_online else 20 * DAY)
        return name, collaboration, organization, "online" if is_online else "offline", self.stamp(seen)


def _names() -> Iterator[tuple[str, str, str]]:
    """Return name, city and country of organizations, without end and each name once."""
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
    return f"organization-{id}{MADE_UP}"


# What they do


class Work(NamedTuple):
    """The tasks of a consortium, in the order of their ids: how many, and what comes before the first."""

    consortium: Consortium
    tasks: int
    ids: int
    runs: int

    def task(self, at: int) -> tuple[Any, ...]:
        """Return the row of a task. The first of each FAMILY is the parent of the others, and has one result."""
        who, head = self.consortium, at - at % FAMILY
        question, algorithm = QUESTIONS[at // FAMILY % len(QUESTIONS)]
        collaboration, initiator = self._asked(at)
        name = question if at == head else f"{question}, step {at - head}"
        parent = None if at == head else self.ids + head + 1
        image = demo.REGISTRY + algorithm.image
        run = self.runs + at // FAMILY + 1
        return self.ids + at + 1, name, image, collaboration, run, parent, "default", initiator, who.stamp(self.at(at))

    def _asked(self, at: int) -> tuple[int, int]:
        """Return the collaboration of a task, and which of its members made it."""
        collaborations, family = self.consortium.members, at // FAMILY
        collaboration = min(collaborations) + family % len(collaborations)
        members = collaborations[collaboration]
        return collaboration, members[family // len(collaborations) % len(members)]

    def at(self, at: int) -> int:
        """Return when a task was made: more of them lately than long ago."""
        return self.consortium.now - 60 - int(SPAN * (1 - (at + 1) / self.tasks) ** 2)

    def results(self, at: int) -> Iterator[tuple[Any, ...]]:
        """Return the rows of the results of a task; a few tasks have none."""
        if at % EMPTY == EMPTY - 1:
            return
        stamp, now, id = self.consortium.stamp, self.consortium.now, self.ids + at + 1
        letters = LATELY if self.tasks - at <= FAMILY + self.tasks // LATEST else LONG_AGO
        collaboration, initiator = self._asked(at)
        members = self.consortium.members[collaboration] if at % FAMILY else [initiator]
        (_, text, result), made = QUESTIONS[at // FAMILY % len(QUESTIONS)][1], self.at(at)
        assigned, outcomes = stamp(made), self.consortium.chance.choices(letters, k=len(members))
        for member, (status, started, ended, log) in zip(members, outcomes, strict=True):
            start = made + 2 + (37 * id + 11 * member) % 50
            end = stamp(min(now, start + 20 + (53 * id + 71 * member) % 600)) if ended else None
            output = result if status == progress.COMPLETED else None
            yield id, member, text, output, assigned, stamp(start) if started else None, end, log, status


# Filling


def fill(database: Any, tasks: int = TASKS, organizations: int = ORGANIZATIONS, advance: Advance = bool) -> None:
    """Fill an empty database, in one transaction. advance: called with how many tasks are done.

    Raises an Error where there are entities already.
    """
    if models.is_filled():
        raise Error(f"{database.title} has entities already: name a database that is empty, or not there yet")
    if database.is_sqlite:
        database.execute_sql(f"PRAGMA cache_size = {CACHE}")
    with database.atomic():
        _fill(database, tasks, organizations, advance)


def make(path: Path, tasks: int = TASKS, organizations: int = ORGANIZATIONS, advance: Advance = bool) -> None:
    """Make a new database that is filled so, whole or not at all. An Error where there is a file already."""
    files.refuse_taken(path)
    with files.as_error(f"{files.shown(path)} cannot be made"), files.draft_for(path) as draft:
        draft.unlink()
        storage.create(draft)
        with contextlib.closing(connecting.connect(draft)) as database:
            fill(database, tasks, organizations, advance)
        files.put(draft, path)


def _fill(database: Any, tasks: int, organizations: int, advance: Advance) -> None:
    consortium = Consortium(database, organizations, random.Random(1))
    (runs,) = database.execute_sql("SELECT value FROM counter WHERE name = 'run_id'").fetchone()
    work = Work(consortium, tasks, database.highest_id("task"), runs)
    for first in range(0, tasks, CHUNK):
        places = range(first, min(first + CHUNK, tasks))
        _write(database, work, places)
        advance(places.stop)


def _write(database: Any, work: Work, places: range) -> None:
    about = f"vserver demo: made-up tasks {places.start + 1:,} to {places.stop:,} of {work.tasks:,}, and their results"
    with recording.bulk_change(database, about), database.fetching():
        database.insert_many("task", TASK, map(work.task, places))
        database.insert_many("result", RESULT, itertools.chain.from_iterable(map(work.results, places)))
        database.execute_sql(demo.COUNT_ON)


# The live play


def refuse_real(is_meant: bool = False) -> None:
    """Raise an Error where an organization is not made up: playing its nodes would overwrite what they deliver."""
    domain = Organization.domain
    real = None if is_meant else Organization.first_where(domain.is_null() | ~domain.endswith(MADE_UP))
    if real is not None:
        other = f'its domain does not end in "{MADE_UP}"'
        raise Error(f"{real.named()} may be real ({other}), and its results would be overwritten: say --yes to do so")


def play(*, until_done: bool = False) -> None:
    """Play the nodes: a move each TICK, until Ctrl-C. until_done: until no result is left, and make no new task."""
    chance = random.Random()
    while move(chance, until_done) or not until_done:
        time.sleep(TICK)


def move(chance: random.Random, until_done: bool = False) -> bool:
    """Make one move, in one transaction: nodes take up results, deliver, fail. Return whether there was one to move.

    A new task is made now and then, and where nothing would be waited for any more, unless `until_done`.
    """
    with models.database.rule_checks(False), models.database.atomic():  # what is made up need not be sound
        waiting = Result.select().where(progress.UNFINISHED_RESULTS).order_by(Result.id.desc()).limit(MOVED)
        for result in waiting:
            _move(result, chance)
        if not until_done and (chance.random() < NEW_TASK or not _is_waited_for()):
            _ask(chance)
    return bool(len(waiting))


def _is_waited_for() -> bool:
    """Whether anything is left to be delivered. Who watches would be told that all is done, and stop watching."""
    return bool(Result.select().where(progress.UNFINISHED_RESULTS).exists())


def _move(result: Any, chance: random.Random) -> None:
    """Have the node of a result take it up, or, when it has, come to an end, or do nothing this time."""
    if result.started_at is None:
        result.started_at = now() if chance.random() < STARTS else None
    elif chance.random() < ENDS:
        result.finished_at = now()
        outcome = demo.OUTCOMES["x" if chance.random() < FAILS else "c"]
        result.log = outcome.log
        if outcome.status != progress.COMPLETED:
            result.status = outcome.status
    if result._dirty:
        result.save()
        _was_seen(result.node)


def _was_seen(node: Any) -> None:
    """Have the server have seen a node just now, as it does when one takes up or delivers a result."""
    if node is not None:
        node.status, node.last_seen = "online", now()
        node.save()


def _ask(chance: random.Random) -> None:
    """Make a new task for all members of a collaboration, any that has some."""
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
