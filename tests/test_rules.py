"""Each rule: values that break it are reported at a save, in strict mode and by a check; near misses are not."""

from __future__ import annotations

import re
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid1, uuid4

import pytest

import models as db
import vserver
from vserverlib import CheckError, CheckWarning
from vserverlib.entities import effects, lock_outs, rules
from vserverlib.examples import demo
from vserverlib.queries import inspection

pytestmark = pytest.mark.filterwarnings("error::vserverlib.CheckWarning")

PASSWORD = "Sup3r-secret!"
PEM = demo.public_key(1)
CODES = [rule.code for rule in rules.RULES if rule.entity]
ENTITIES = list(dict.fromkeys(code[:3] for code in CODES))  # as codes begin
AT_CHECK = [rule.code for rule in rules.RULES if rule.when == rules.AT_CHECK and rule.entity]

Make = Callable[[Any], Any]  # of what the fixture `sound` made, the entity that is to be saved


@pytest.fixture
def sound(story: SimpleNamespace) -> SimpleNamespace:
    """The story, with all that the rules ask for: a node for each organization, a user who can log in."""
    story.oslo_node = db.Node(name="Oslo node", organization=story.oslo, collaboration=story.collaboration)
    story.oslo_node.save()
    story.user = db.User(username="root", password=PASSWORD, organization=story.iknl, email="root@iknl.nl")
    story.user.save()
    story.outsider = db.Organization(name="Bergen")
    story.outsider.save()
    return story


def changed(entity: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(entity, name, value)
    return entity


def failed(user: Any, times: int) -> Any:
    """Return a user after some failed log-ins."""
    for _ in range(times):
        lock_outs.count(user.id)
    return changed(user, firstname="Anna")


def without(entity: Any, gone: Any) -> Any:
    """Return an entity after another one is gone."""
    gone.delete()
    return changed(entity, name=f"{entity.name}, again") if hasattr(entity, "name") else changed(entity, log="again")


def task(s: Any, **fields: Any) -> Any:
    return db.Task(**{"name": "t", "image": "i", "collaboration": s.collaboration, "initiator": s.iknl, **fields})


def user(s: Any, **fields: Any) -> Any:
    return db.User(**{"username": "anna", "password": PASSWORD, "organization": s.iknl, **fields})


def node(s: Any, **fields: Any) -> Any:
    return db.Node(**{"name": "another node", "organization": s.iknl, "collaboration": s.collaboration, **fields})


def elsewhere(s: Any) -> Any:
    """Make another collaboration of the same organizations."""
    other = db.Collaboration(name="KYOTO", organizations=[s.iknl, s.oslo])
    other.save()
    return other


def ring(s: Any) -> Any:
    child = task(s, parent=s.task)
    child.save()
    return changed(s.task, parent=child)


def encrypted(s: Any, key: str | None) -> Any:
    """Return a result of an encrypted collaboration, for an organization that has this key."""
    changed(s.iknl, public_key=key).save()
    other = db.Collaboration(name="KYOTO", encrypted=True, organizations=[s.iknl])
    other.save()
    node(s, collaboration=other).save()
    sent = task(s, collaboration=other)
    sent.save()
    return db.Result(task=sent, organization=s.iknl)


def written(s: Any, status: str | None) -> Any:
    """Have another program write the status of a pending result."""
    db.Result.update(status=status).where(db.Result.id == s.results[0].id).execute()
    return changed(s.results[0], log="again")


def doubled(s: Any) -> Any:
    """Return a second membership, which only a database without the unique index takes."""
    db.database.execute_sql("DROP INDEX member_organization_id_collaboration_id")
    return db.Member(organization=s.iknl, collaboration=s.collaboration)


def put(entity: Any, field: str, odd: object) -> Any:
    """Have another program store this in a field, and return a new entity that is to be saved, of the same kind."""
    table = entity._meta.table_name
    db.database.execute_sql(f'UPDATE "{table}" SET {field} = ? WHERE id = ?', [odd, entity.id])
    return type(entity).get(entity.id)


NO_EMAILS = ["", "anna", "@iknl.nl", "anna@", "an na@iknl.nl", "a@b@c.nl", "anna@iknl.nl\n", "a" * 250 + "@b.nl"]
NO_NAMES = [None, "", " \t\u3000", "2026", "x" * 129]
TIMES: list[dict[str, str]] = [
    {"started_at": "2099-01-02", "finished_at": "2099-01-01"},
    {"started_at": "2001-01-01"},
    {"finished_at": "2099-01-01"},
]

BREAKS: dict[str, list[Make]] = {
    "ORG001": [lambda s, name=name: db.Organization(name=name) for name in NO_NAMES],
    "ORG002": [lambda s: db.Organization(name="IKNL"), lambda s: changed(s.outsider, name="Oslo")],
    "ORG003": [
        lambda s, field=field: changed(s.iknl, **{field: "x" * 129})
        for field in ("domain", "address1", "address2", "zipcode", "country")
    ],
    "ORG004": [
        lambda s: changed(s.iknl, public_key="a key"),
        lambda s: changed(s.iknl, public_key="-----BEGIN PUBLIC KEY-----\nMII"),
    ],
    "USR001": [lambda s: user(s, organization=None)],
    "USR002": [
        lambda s, name=name: user(s, username=name)
        for name in (None, "", "1anna", ".anna", "anna de vries", "anná", "an'na", "anna\n")
    ],
    "USR003": [
        lambda s, plain=plain: user(s, password=plain)
        for plain in ("Aa1!567", "super-secret", "SUPER-SECRET-1", "Super-secret", "Supersecret1")
    ],
    "USR004": [lambda s: user(s, password=None)],
    "USR005": [lambda s, email=email: user(s, email=email) for email in NO_EMAILS],
    "USR006": [
        lambda s, roles=roles: user(s, roles=roles)
        for roles in ("admin", "root, admin", "rootx", "node", "root viewer", "Root;Viewer", "root,,x")
    ],
    "USR007": [lambda s: failed(s.user, 5)],
    "COL001": [lambda s, name=name: changed(s.collaboration, name=name) for name in NO_NAMES],
    "COL002": [lambda s: db.Collaboration(name="empty"), lambda s: changed(db.Collaboration.get(1), organizations=[])],
    "COL003": [lambda s: without(s.collaboration, s.oslo_node)],
    "NOD001": [lambda s: node(s, organization=None), lambda s: node(s, collaboration=None)],
    "NOD002": [lambda s: node(s, organization=s.outsider)],
    "NOD003": [node, lambda s: changed(s.oslo_node, organization=s.iknl)],
    "NOD004": [lambda s: changed(s.oslo_node, name="IKNL node")],
    "NOD005": [lambda s, key=key: changed(s.node, api_key=key) for key in (str(uuid1()), uuid1().hex, "x" * 15)],
    "TSK001": [lambda s: task(s, collaboration=None)],
    "TSK002": [lambda s: task(s, image=None), lambda s: task(s, image=" ")],
    "TSK003": [lambda s: task(s, initiator=s.outsider)],
    "TSK004": [
        lambda s: task(s, parent=s.task, collaboration=elsewhere(s)),
        lambda s: task(s, parent=s.task, run_id=77),
        lambda s: changed(s.task, parent=s.task),
        ring,
    ],
    "TSK005": [task],
    "RES001": [lambda s: db.Result(organization=s.iknl)],
    "RES002": [
        lambda s: db.Result(task=s.task),
        lambda s: db.Result(task=s.task, organization=s.outsider),
    ],
    "RES003": [lambda s: db.Result(task=s.task, organization=s.iknl)],
    "RES004": [lambda s, times=times: changed(s.results[0], **times) for times in TIMES],
    "RES005": [lambda s: without(s.results[1], s.oslo_node)],
    "RES006": [lambda s: encrypted(s, None), lambda s: encrypted(s, "")],
    "RES007": [lambda s, status=status: written(s, status) for status in ("FAILED", "", "active", "completed")],
    "RES008": [lambda s: written(s, None)],
    "MEM001": [
        lambda s: db.Member(organization=s.iknl),
        lambda s: db.Member(collaboration=s.collaboration),
        lambda s: db.Member(),
    ],
    "MEM002": [doubled],
}

FINE: dict[str, list[Make]] = {
    "ORG001": [lambda s, name=name: db.Organization(name=name) for name in ("7a", "x" * 128, "健太")],
    "ORG002": [lambda s: changed(s.iknl, country="NL"), lambda s: db.Organization(name="iknl")],
    "ORG003": [lambda s: changed(s.iknl, domain="x" * 128)],
    "ORG004": [lambda s, key=key: changed(s.iknl, public_key=key) for key in (PEM, None, "")],
    "USR001": [user],
    "USR002": [lambda s, name=name: user(s, username=name) for name in ("a", "a.B-c_9", "anna@iknl.nl")],
    "USR003": [lambda s: user(s, password="Aa1!5678"), lambda s: changed(s.user, firstname="John")],
    "USR004": [user],
    "USR005": [lambda s: user(s, email=None), lambda s: user(s, email="anna.de-vries+1@mail.iknl.nl")],
    "USR006": [
        lambda s, roles=roles: user(s, roles=roles)
        for roles in (None, "", "root", "ROOT,root", "Organization Admin , researcher,viewer", " Collaboration admin")
    ],
    "USR007": [lambda s: failed(s.user, 4)],
    "COL001": [lambda s: changed(s.collaboration, name="Phase 2")],
    "COL002": [lambda s: changed(db.Collaboration.get(1), organizations=[s.iknl, s.oslo])],
    "COL003": [lambda s: changed(s.collaboration, name="KYOTO")],
    "NOD001": [lambda s: changed(s.node, name="renamed")],
    "NOD002": [lambda s: changed(s.node, status="online")],
    "NOD003": [lambda s: node(s, collaboration=elsewhere(s))],
    "NOD004": [lambda s: changed(s.oslo_node, name="iknl node")],
    "NOD005": [lambda s: changed(s.node, api_key=str(uuid4())), lambda s: changed(s.node, api_key="x" * 16)],
    "TSK001": [task],
    "TSK002": [task],
    "TSK003": [lambda s: task(s, initiator=None), lambda s: task(s, initiator=s.oslo)],
    "TSK004": [lambda s: task(s, parent=s.task), lambda s: changed(s.task, parent=None)],
    "TSK005": [lambda s: changed(s.task, name="renamed")],
    "RES001": [lambda s: changed(s.results[0], log="…")],
    "RES002": [lambda s: changed(s.results[0], log="…")],
    "RES003": [lambda s: changed(s.results[0], organization=s.iknl, log="…")],
    "RES004": [lambda s: changed(s.results[0], started_at="2099-01-01", finished_at="2099-01-01")],
    "RES005": [lambda s: changed(s.results[1], log="…")],
    "RES006": [lambda s: encrypted(s, PEM)],
    "RES007": [lambda s, odd=odd: written(s, odd) for odd in (None, "pending", "initializing", "crashed")],
    "RES008": [lambda s, odd=odd: written(s, odd) for odd in ("", "pending", "FAILED")],
    "MEM001": [lambda s: db.Member(organization=s.outsider, collaboration=s.collaboration)],
    "MEM002": [lambda s: db.Member(organization=s.outsider, collaboration=s.collaboration), lambda s: db.Member()],
}


def codes(database: Any, *asked: str) -> set[str]:
    """Return which rules a check finds broken, of all or of these."""
    return {finding.code for finding in inspection.inspect(database, inspection.chosen(codes=asked))}


def dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as other:
        text = list(other.iterdump())
    other.close()
    return text


def test_every_rule_has_what_breaks_it_and_what_does_not() -> None:
    assert list(BREAKS) == list(FINE) == CODES


def test_what_is_sound_breaks_no_rule(sound: SimpleNamespace, database: Any) -> None:
    assert codes(database) == set()


@contextmanager
def taken_back(database: Any) -> Iterator[None]:
    """Leave the database as it was: one is enough for all that breaks a rule."""
    with database.atomic() as transaction:
        yield
        transaction.rollback()


@pytest.mark.parametrize("code", BREAKS)
def test_a_value_that_breaks_a_rule_is_reported(code: str, sound: SimpleNamespace, database: Any) -> None:
    for make in BREAKS[code]:
        with taken_back(database):
            made = make(sound)
            with nullcontext([]) if code in AT_CHECK else pytest.warns(CheckWarning) as warned:
                made.save()
            output = {warning.message.code for warning in warned}
            assert code in AT_CHECK or code in output, (code, made)
            assert rules.BY_CODE[code].when == rules.AT_SAVE or codes(database, code) == {code}, (code, made)
            assert code in {finding.code for finding in made.check()}, (code, made)


NAMED = {
    "COL003": 'organization 2 "Oslo" has no node',
    "NOD002": 'in its collaboration 1 "ROTTERDAM"',
    "TSK003": 'its initiator, organization 3 "Bergen", is not in',
    "RES005": 'organization 2 "Oslo" has no node',
    "RES006": 'but organization 1 "IKNL" has no public key',
}


@pytest.mark.parametrize("code", NAMED)
def test_a_linked_entity_is_reported_by_its_name(code: str, sound: SimpleNamespace) -> None:
    entity = BREAKS[code][0](sound)
    with warnings.catch_warnings(action="ignore", category=CheckWarning):
        entity.save()
    assert NAMED[code] in " ".join(finding.message for finding in entity.check() if finding.code == code)


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_value_that_almost_breaks_a_rule_is_not_reported(entity: str, sound: SimpleNamespace, database: Any) -> None:
    of_entity = [code for code in FINE if code.startswith(entity)]
    for code, make in [(each, make) for each in of_entity for make in FINE[each]]:
        with taken_back(database):
            made = make(sound)
            made.save()
            assert rules.BY_CODE[code].when == rules.AT_SAVE or codes(database, code) == set(), (code, made)
            assert code not in {finding.code for finding in made.check()}, (code, made)


@pytest.mark.parametrize("code", [code for code in BREAKS if code not in AT_CHECK])
def test_strict_leaves_all_as_it_was(code: str, sound: SimpleNamespace, database: Any, path: Path) -> None:
    entity = BREAKS[code][0](sound)
    before, unsaved, data = dump(path), entity._unsaved(), dict(entity._stored)
    database.strict = True
    with pytest.raises(CheckError) as refused:
        entity.save()
    assert code in [breach.code for breach in refused.value.breaches if isinstance(breach, CheckWarning)]
    assert (dump(path), entity._unsaved(), entity._stored) == (before, unsaved, data)
    database.strict = False
    with pytest.warns(CheckWarning):
        entity.save()


def test_codes_are_of_three_letters_of_their_entity_and_a_number() -> None:
    assert all(re.fullmatch(r"[A-Z]{3}\d{3}", code) for code in rules.BY_CODE)
    assert len(rules.BY_CODE) == len(rules.RULES)
    assert {rule.code[:3] for rule in rules.RULES} == {"ORG", "USR", "COL", "NOD", "TSK", "RES", "MEM", "DBF"}


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.code)
def test_a_rule_says_what_why_and_what_to_do(rule: rules.Rule) -> None:
    assert rule.level in rules.LEVELS and rule.breaks and rule.message and rule.why and rule.remedy
    assert bool(rule.where) != (bool(rule.secret) or not rule.entity)
    assert (rule.when == rules.AT_SAVE) == bool(rule.secret)


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.code)
def test_a_rule_is_fixed_without_a_guess_or_names_a_command_for_a_person(rule: rules.Rule) -> None:
    assert bool(rule.fix) != bool(rule.command)
    if rule.fix:
        assert re.match(r"(DELETE FROM|UPDATE) (result|member)\b", rule.fix.sql) and rule.when != rules.AT_SAVE
    else:
        assert rule.command.split()[0] in {*vserver.main.commands, "create", "edit", "set"}


@pytest.mark.parametrize("effect", effects.FIELD_EFFECTS, ids=lambda each: f"{each.entity}-{each.changed}-{each.code}")
def test_what_a_change_touches_is_asked_at_a_save(effect: effects.FieldEffect) -> None:
    assert rules.BY_CODE[effect.code].when == rules.BOTH
    model = {model.noun: model for model in db.ENTITIES}[effect.entity]
    assert effect.changed in model.attributes()


def test_the_example_breaks_one_rule_which_is_a_note(example: Path) -> None:
    opened = db.connect(example, read_only=True)
    assert codes(opened) == {"TSK005"}
    opened.close()
