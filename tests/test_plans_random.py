"""Random sessions: apply, import again and compare; then undo and compare with the beginning."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import vantage6_servers
from helpers.vantage6_servers import Server

import models
from vserverlib import Error
from vserverlib.plans import records, reverting
from vserverlib.plans.plan import Refused
from vserverlib.plans.working_copy import WorkingCopy

SESSIONS = 5
MANY = int(os.environ.get("VSERVER_REPETITIONS", "500"))
HASH = "$2b$04$abcdefghijklmnopqrstuuP1dRLzWmNMh3wBv9gZLRz5pXzqVU5lO"  # of no password that is known
WORDS = ("Ålesund", "it's", 'a "b"', "北京", "x" * 90, "a%b", "→")


class Someone:
    """A simulated administrator, by a seed."""

    def __init__(self, seed: int, release: str) -> None:
        self.random, self.release = random.Random(seed), int(release[0])

    def one(self, model: Any) -> Any:
        """Return a random row, None if there are no rows."""
        rows = list(model.get())
        return self.random.choice(rows) if rows else None

    def word(self) -> str:
        """Return an unused name."""
        return f"{self.random.choice(WORDS)} {self.random.getrandbits(24)}"

    def new_organization(self) -> None:
        key = self.random.choice([None, "-----BEGIN PUBLIC KEY-----\nabc"])
        models.Organization(name=self.word(), country=self.random.choice([None, "NL"]), public_key=key).save()

    def new_user(self) -> None:
        if self.release < 5:
            roles = self.random.choice([None, "root"])
            values = {"firstname": self.word(), "email": f"{self.random.getrandbits(30)}@x.example"}
            owner = self.one(models.Organization)
            models.User(username=self.word(), password=HASH, roles=roles, organization=owner, **values).save()

    def new_collaboration(self) -> None:
        members = {each.id: each for each in (self.one(models.Organization) for _ in range(3)) if each}
        encrypted = self.random.choice([True, False, None])
        models.Collaboration(name=self.word(), encrypted=encrypted, organizations=list(members.values())).save()

    def new_node(self) -> None:
        member = self.one(models.Member)
        if self.release < 5 and member is not None:
            models.Node(
                name=self.word(), api_key=HASH, organization=member.organization, collaboration=member.collaboration
            ).save()

    def rename(self) -> None:
        row = self.one(self.random.choice([models.Organization, models.Collaboration, models.Node, models.Task]))
        if row is not None:
            row.name = self.word()
            row.save()

    def change_user(self) -> None:
        user = self.one(models.User)
        if user is None:
            return
        field = self.random.choice(["username", "organization", "roles", "email", "password"])
        if self.release >= 5 and field in ("email", "password"):
            return
        roles = self.random.choice([None, "root" if self.release < 5 else "Root"])
        values = {
            "username": self.word(),
            "organization": self.one(models.Organization),
            "roles": roles,
            "email": f"{self.random.getrandbits(30)}@x.example",
            "password": HASH,
        }
        setattr(user, field, values[field])
        user.save()

    def change_members(self) -> None:
        collaboration, organization = self.one(models.Collaboration), self.one(models.Organization)
        if collaboration is None or organization is None:
            return
        members = {each.id: each for each in collaboration.organizations}
        if members.pop(organization.id, None) is None:
            members[organization.id] = organization
        collaboration.organizations = list(members.values())
        collaboration.save()

    def end_result(self) -> None:
        result = self.one(models.Result)
        if result is not None:
            result.started_at = self.random.choice([None, "2026-11-28 09:00"])
            result.finished_at = self.random.choice(["2026-11-28 10:00", "2026-11-28 10:00:00.123456"])
            result.status = self.random.choice(["failed", "killed by user", "completed"])
            result.log = self.random.choice([None, self.word()])
            result.save()

    def change_task(self) -> None:
        task = self.one(models.Task)
        if task is not None:
            if self.release < 5:
                task.database = self.random.choice(["default", "omop, more", None])
            task.run_id = self.random.randrange(1000)
            task.parent = self.random.choice([None, task.parent])
            task.save()

    def delete(self) -> None:
        kinds = [models.Organization, models.User, models.Collaboration, models.Node, models.Task, models.Result]
        row = self.one(self.random.choice(kinds))
        if row is not None:
            row.delete(dependents=True)

    def undo(self) -> None:
        from vserverlib import api

        api.undo()

    def acts(self) -> list[Callable[[], None]]:
        """Return all actions."""
        often = [self.new_organization, self.new_user, self.rename, self.change_user, self.change_members]
        seldom = [self.new_collaboration, self.new_node, self.end_result, self.change_task, self.delete, self.undo]
        return [*often, *often, *seldom]

    def session(self, copy: WorkingCopy) -> None:
        """Run some actions; skip those that our rules refuse."""
        for _ in range(self.random.randrange(1, 9)):
            try:
                self.random.choice(self.acts())()
            except Error:
                continue


def check_session(seed: int, server: Server, release: str, folder: Path) -> bool:
    """Apply a random session, and compare; undo it, and compare. Return whether something was applied."""
    someone, before = Someone(seed, release), server.tables()
    is_file = isinstance(server.target, Path)
    odd, dangling = (server.odd_values(), server.dangling()) if is_file else ([], 0)
    copy = vantage6_servers.opened(server)
    applied = []
    try:
        for _ in range(2):
            someone.session(copy)
            if plan := copy.plan():
                applied.append(copy.apply(plan, backup=False))
    except Refused:
        copy.close()
        undo_all(server)
        assert server.tables() == before
        return False
    expected = vantage6_servers.rows_here(copy)
    copy.close()
    assert vantage6_servers.rows_there(server, folder) == expected
    if is_file:
        assert server.odd_values() == odd and server.dangling() <= dangling
    after = server.tables()
    known = [record for record in reverting.log(server.target) if record.path in {each.record for each in applied}]
    written = {row.table for record in known for row in records.rows(record)}
    assert {name for name in after if after[name] != before[name]} <= written
    undo_all(server)
    assert server.tables() == before
    return bool(applied)


def undo_all(server: Server) -> None:
    """Undo all plans that were applied to a server's database."""
    for record in reverting.log(server.target):
        if record.reverts is None and record.reverted_by is None:
            reverting.apply(server.target, record.number, backup=False)


@pytest.mark.parametrize("release", ["3.11.1", "4.15.2", "5.0.3"])
def test_random_sessions_are_applied_exactly(release: str, tmp_path: Path, quick_hashes: None) -> None:
    server = vantage6_servers.of_release(release, tmp_path)
    done = [check_session(seed, server, release, tmp_path) for seed in range(SESSIONS)]
    assert sum(done) > len(done) // 3


@pytest.mark.long
def test_random_sessions_on_postgresql(server: Any, tmp_path: Path, quick_hashes: None) -> None:
    with vantage6_servers.on_postgres(server, "4.15.2") as there:
        done = [check_session(seed, there, "4.15.2", tmp_path) for seed in range(SESSIONS // 2)]
    assert any(done)


@pytest.mark.long
@pytest.mark.parametrize("release", ["3.11.1", "4.15.2", "5.0.3"])
def test_many_random_sessions(release: str, tmp_path: Path, quick_hashes: None) -> None:
    server = vantage6_servers.of_release(release, tmp_path)
    for seed in range(1000, 1000 + MANY // 3):
        check_session(seed, server, release, tmp_path)
