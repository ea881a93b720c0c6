"""Assignments: changes of an entity, as text that people type.

    FIELD=VALUE            country=Norway   encrypted=false   last_seen=-2d   organization=IKNL
    LIST+=VALUE, LIST-=VALUE   organizations+=OSLO   roles-=Researcher

A value is read as in a filter: `null` means no value, an empty value the empty text, and a quoted value is taken
literally (`name="null"`). A link takes an id or a name. A list takes several, separated by commas.

Values of JSON and YAML are assigned by the same functions. Nothing here saves. It raises a UsageError for an unknown
field, and an Error or NotFound for a value that the field cannot hold.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from shlex import quote
from typing import Any, NamedTuple

from vserverlib import (
    Error,
    NotFound,
    UsageError,
    did_you_mean,
    files,
    printable,
    vantage6_names,
    with_article,
)
from vserverlib.entities import ages, filters, finding
from vserverlib.entities.choices import GeneratedField
from vserverlib.entities.fields import BooleanField, Secret, Text, UTCDateTimeField
from vserverlib.entities.relations import BackrefAccessor, Link, Memberships, relations
from vserverlib.entities.typed_values import NO, YES, encodable, literal

FORM = re.compile(r"([^\W\d]\w*)(\+=|-=|=)(.*)", re.DOTALL)
FILE = "@"  # before the name of a file whose text is the value
LONGEST_FILE = 16 << 20  # bytes
SET, ADD, REMOVE = "=", "+=", "-="
TEXT_LISTS = frozenset({("user", "roles")})  # texts that hold several names
SEPARATOR = ", "  # of these names, as stored
SECRETS = {  # the ways to set each
    "password": "create asks for it, vserver passwd changes it, and password=null removes it",
    "api_key": "create generates it, vserver apikey generates a new one, and api_key=null removes it",
}
MOST_TEXTS = 1000  # of these that completion reads
UNNAMED = frozenset({"node", "task", "result"})  # entities that can be created without a NAME
# Links that a rule of level error demands (USR001, NOD001, TSK001, RES001, RES002): a new entity needs them, or null.
LINKS = {
    "user": ("organization",),
    "node": ("organization", "collaboration"),
    "task": ("collaboration",),
    "result": ("task", "organization"),
}
# What identifies an entity whose name does not: the server expects one node of an organization in a collaboration.
KEYS = {"node": ("organization", "collaboration"), "result": ("task", "organization")}


class Assignment(NamedTuple):
    """The parts of an assignment. name: of a field or a list. value: a text, or a value of JSON; None for null."""

    name: str
    sign: str
    value: Any


# Parsing


def is_assignment(word: str) -> bool:
    """Whether a word of a command line has the form of an assignment."""
    return FORM.fullmatch(word) is not None


def parse(model: Any, word: str, following: str = "") -> Assignment:
    """Return the parts of an assignment. Raises a UsageError if a model has no such field; it quotes no value.

    following: the next word, which may be meant as the value.
    """
    found = FORM.fullmatch(encodable(word))
    if found is None:
        if word in model._meta.combined or hasattr(model, word):
            require(model, Assignment(word, SET, None))
        name = word if word in settable(model) else model.first_field()
        value = printable(quote(following)) if word == name and following.strip("=") else "…"
        raise UsageError(f'"{printable(word)}" is not an assignment: write FIELD=VALUE, such as {name}={value}')
    name, sign, value = found.groups()
    asked = Assignment(name, sign, literal(value)[0])
    require(model, asked)
    field = model._meta.combined.get(name)
    if isinstance(field, Secret) and asked.value is not None:
        raise UsageError(f"{name} is a secret, which other users could read in a command line: {SECRETS[name]}")
    if isinstance(field, Text) and sign == SET and value.startswith(FILE):
        return asked._replace(value=value[1:] if value[1:].startswith(FILE) else text_of_file(name, value[1:]))
    return asked


def text_of_file(name: str, path: str) -> str:
    """Return the text of a file without the line breaks at its end, as $(cat FILE) does. Raises an Error."""
    what = f"{name}={FILE}{printable(path, 200)}"
    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST_FILE + 1)
    except OSError as error:
        remedy = f"name another file, or write {name}={FILE * 2}… for text that begins with {FILE}"
        raise Error(f"{what} cannot be read ({files.reason(error)}): {remedy}") from None
    if len(data) > LONGEST_FILE:
        raise Error(f"{what} is larger than {LONGEST_FILE >> 20} MB: set it in a script")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Error(f"{what} is not text in UTF-8: convert the file first") from None


def named(model: Any, words: Sequence[str]) -> list[Assignment]:
    """Return the assignments of `[NAME] FIELD=VALUE…`. Raises a UsageError for a second NAME, or a missing one."""
    name, rest = (words[0], words[1:]) if words and not is_assignment(words[0]) else (None, words)
    field = model.name_field()
    extra = next((word for word in rest if not is_assignment(word)), None)
    if extra is not None:
        second = f'"{printable(extra)}" is a second NAME' if name is not None else f'"{printable(extra)}" has no ='
        raise UsageError(f"{second}: NAME comes first, quoted if it has blanks, then FIELD=VALUE")
    if field is not None and name is None and rest:
        _refuse_name_with_sign(model, rest[0])
    asked = assignments(model, rest)
    if name is not None and field is None:
        raise UsageError(f'{model.plural} have no names: leave out "{printable(name)}"')
    if name is not None:
        asked = [Assignment(field.name, SET, _checked_name(model, name)), *asked]
    _refuse_repeated(asked)
    require_complete(model, asked)
    return asked


def _refuse_name_with_sign(model: Any, word: str) -> None:
    """Raise a UsageError for a first word such as A=B, which is rather a name than a misspelt field."""
    name = word.partition("=")[0]
    if name not in model._meta.combined and not hasattr(model, name) and not did_you_mean(name, settable(model)):
        remedy = f"write {model.name_field().name}=… for a NAME with = in it"
        raise UsageError(f'{model.noun} has no field "{printable(name)}"{_fields(model)}; {remedy}')


def assignments(model: Any, words: Iterable[str]) -> list[Assignment]:
    """Return the assignments of `FIELD=VALUE…`. Raises a UsageError if a field is set twice."""
    asked = [parse(model, word, following) for word, following in pairwise([*words, ""])]
    _refuse_repeated(asked)
    return asked


def _checked_name(model: Any, name: str) -> str:
    found = literal(encodable(name))[0]
    if found is None:
        raise UsageError("the NAME is null, which means no value: give a name, or '\"null\"' for that text")
    if not found:
        raise UsageError(f"the NAME is empty: give the {model.noun} a name")
    return found


def _refuse_repeated(asked: Sequence[Assignment]) -> None:
    names = [each.name for each in asked if each.sign == SET]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is given twice: give it once")


def require_complete(model: Any, asked: Sequence[Assignment]) -> None:
    """Raise a UsageError if a new entity is not given the name or the links that it needs."""
    field, fields = model.name_field(), model._meta.combined
    given = {fields[each.name].name for each in asked if each.name in fields}
    if model.noun not in UNNAMED and field.name not in given:
        raise UsageError(f"a new {model.noun} needs a name: give it a NAME, or {field.name}=…")
    if missing := [name for name in LINKS.get(model.noun, ()) if name not in given]:
        needed = " and ".join(map(with_article, missing))
        remedy = " ".join(f"{name}=…" for name in missing)
        raise UsageError(f"a new {model.noun} needs {needed}: give {remedy}, or null for none")


def require(model: Any, asked: Assignment) -> None:
    """Raise a UsageError if a model has no such field, or it cannot be set so. Needs no database."""
    name, sign = asked.name, asked.sign
    if name == "id":
        raise UsageError(f"the id of {with_article(model.noun)} cannot be set: the database assigns it")
    relation = getattr(model, name, None)
    if isinstance(relation, BackrefAccessor):
        other, link = relation.rel_model, relation.field.name
        line = f"vserver set {other.noun} ID {link}=…"
        raise UsageError(f"{name} cannot be set here: set the {link} of each {other.noun}, with: {line}")
    if name not in model._meta.combined and not hasattr(model, name):
        meant = vantage6_names.field(model.noun, name) or did_you_mean(name, settable(model))
        raise UsageError(f'{model.noun} has no field "{printable(name)}"{meant or _fields(model)}')
    model.require_attribute(name)
    if isinstance(model._meta.fields.get(name), GeneratedField):
        raise UsageError(f"{name} of {with_article(model.noun)} cannot be set: it is computed from other fields")
    if sign != SET and not is_list(model, name):
        lists = "".join(f" ({sign} is for {each})" for each in settable(model) if is_list(model, each))
        raise UsageError(f"{name} is not a list: write {name}=VALUE{lists}")


def _fields(model: Any) -> str:
    return f": the fields are {', '.join(settable(model))}"


def settable(model: Any) -> list[str]:
    """Return the names that can be assigned: fields and lists, without secrets."""
    own = [field.name for field in model.stored_fields() if field.name != "id" and not isinstance(field, Secret)]
    return [*own, *(relation.name for relation in relations(model) if relation.editable)]


def target(model: Any, name: str) -> Any:
    """Return the model of the entities that a link or a list takes, None for any other field."""
    field, relation = model._meta.combined.get(name), getattr(model, name, None)
    return field.rel_model if isinstance(field, Link) else getattr(relation, "rel_model", None)


def stored_names(model: Any, name: str) -> list[str]:
    """Return the names in a text that holds several, of all entities, in alphabetical order. One query."""
    field = getattr(model, name)
    texts = model.select(field).where(field.is_null(False)).distinct().limit(MOST_TEXTS).tuples()
    return sorted({word for (text,) in texts for word in _split(str(text))})


def is_list(model: Any, name: str) -> bool:
    """Whether `+=` and `-=` can be used: a relation that can be edited, or a text with several names."""
    return (model.noun, name) in TEXT_LISTS or isinstance(getattr(model, name, None), Memberships)


# Assigning


def of_mapping(model: Any, values: dict[str, Any]) -> list[Assignment]:
    """Return the assignments of an object of JSON. Raises a UsageError for an unknown field."""
    asked = [Assignment(name, SET, value) for name, value in values.items()]
    for each in asked:
        require(model, each)
    return asked


def fill(entity: Any, asked: Iterable[Assignment]) -> None:
    """Assign what needs no other entity: texts, numbers, times, secrets (0.3 seconds for each, to hash it)."""
    for each in asked:
        if not _leads_elsewhere(type(entity), each.name):
            _assign(entity, each)


def link(entity: Any, asked: Sequence[Assignment]) -> None:
    """Assign links and lists of entities, which are looked up now."""
    for each in asked:
        if _leads_elsewhere(type(entity), each.name):
            _assign(entity, each)


def link_new(entity: Any, asked: Sequence[Assignment]) -> None:
    """Assign links and lists of a new entity, and the name of a node that was given none."""
    link(entity, asked)
    if entity.noun == "node" and "name" not in (each.name for each in asked):
        names = [linked.name if linked else None for linked in (entity.organization, entity.collaboration)]
        name = vantage6_names.NODE_NAME.format(organization=names[0], collaboration=names[1])
        entity.name = None if None in names else name


def _leads_elsewhere(model: Any, name: str) -> bool:
    return isinstance(model._meta.combined.get(name), Link) or isinstance(getattr(model, name, None), Memberships)


def _assign(entity: Any, asked: Assignment) -> None:
    model, name = type(entity), asked.name
    field = model._meta.combined.get(name)
    if isinstance(getattr(model, name, None), Memberships):
        _assign_partners(getattr(entity, name), asked)
    elif isinstance(field, Link):
        setattr(entity, field.name, _linked(field, asked.value))
    elif asked.sign != SET:
        setattr(entity, name, _changed_names(entity, asked))
    else:
        setattr(entity, name, converted(field, asked.value))


def converted(field: Any, value: Any) -> Any:
    """Return a typed text as a value of a field; any other value as it is."""
    if isinstance(value, str) and isinstance(field, BooleanField):
        word = value.strip().lower()
        if word not in YES + NO:
            raise Error(f'{field.name} takes true or false, not "{printable(value)}"')
        return word in YES
    return ages.past(value) if isinstance(value, str) and isinstance(field, UTCDateTimeField) else value


def _linked(field: Any, value: Any) -> Any:
    """Return the entity with an id or a name, for a link."""
    model = field.rel_model
    if isinstance(value, str):
        if not value.strip():
            raise UsageError(f"{field.name} is empty: give the id or name of {with_article(model.noun)}, or null")
        return finding.one(model, value, to_change=True)
    if field.clean(value) is None:  # refuses any other value but an id
        return None
    return model.by_id(value) or _raise(NotFound(f"no {model.noun} {value}"))


def _assign_partners(members: Any, asked: Assignment) -> None:
    """Change a list of entities."""
    partners = _partners(members.partner, asked)
    if asked.sign == SET:
        members.assign(partners)
    for partner in partners if asked.sign == ADD else ():
        members.append(partner)
    for partner in partners if asked.sign == REMOVE else ():
        if partner not in members:
            raise Error(f"{partner.named()} is not among the {asked.name} of {members.owner.named()}")
        members.remove(partner)


def _partners(model: Any, asked: Assignment) -> list[Any]:
    """Return the entities that a list of ids and names means. A text that is one name is not split at its commas."""
    value = asked.value
    if value is None or value == "":
        if asked.sign != SET:
            raise UsageError(f"{asked.name}{asked.sign} names no {model.noun}: give ids or names")
        return []
    if isinstance(value, str):
        name = model.name_field()
        is_one = "," not in value or model.first_where(name == value) is not None
        value = [value] if is_one else [word.strip() for word in value.split(",") if word.strip()]
    if not isinstance(value, list):
        raise Error(f"{asked.name} takes a list of ids and names, not {printable(repr(value))}")
    return [_one_of(model, asked.name, each) for each in value]


def _one_of(model: Any, name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Error(f"{name} takes ids and names, not {printable(repr(value))}")
    return finding.one(model, str(value), to_change=True)


def _changed_names(entity: Any, asked: Assignment) -> str | None:
    """Return a text of several names with some added or removed."""
    known, words = _split(getattr(entity, asked.name)), _split(asked.value)
    if not words:
        raise UsageError(f"{asked.name}{asked.sign} names nothing: give a name")
    if asked.sign == ADD:
        return SEPARATOR.join(dict.fromkeys([*known, *words]))
    for word in words:
        if word not in known:
            has = f"has {SEPARATOR.join(known)}" if known else "has none"
            meant = did_you_mean(word, known) or f": it {has}"
            raise Error(f'"{printable(word)}" is not among the {asked.name} of {entity.named()}{printable(meant, 200)}')
    return SEPARATOR.join(name for name in known if name not in words) or None


def _split(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


# What an assignment changes


def update(entity: Any, asked: Sequence[Assignment]) -> list[str]:
    """Assign to a saved entity, without saving it; return the names of what changes."""
    before = dict(entity._stored)
    fill(entity, asked)
    link(entity, asked)
    fields = [entity._meta.combined.get(each.name) for each in asked]
    given = dict.fromkeys(field.name for field in fields if field is not None)
    same = {name for name in given if entity._stored.get(name) == before.get(name)}
    entity._dirty.difference_update(same)
    changed = {name for name, members in (entity._members or {}).items() if members.is_changed}
    lists = dict.fromkeys(each.name for each in asked if each.name in changed)
    return [*(name for name in given if name not in same), *lists]


def existing(entity: Any) -> Any:
    """Return the saved entity that a new one would duplicate, the oldest, or None.

    Most entities are identified by their name; KEYS has the others. Raises a UsageError if that is missing.
    """
    model = type(entity)
    names = KEYS.get(model.noun) or (model.name_field().name,)
    missing = [name for name in names if entity._stored.get(name) is None]
    if missing:
        raise UsageError(
            f"--if-not-exists finds {with_article(model.noun)} by its {' and '.join(names)}: give {missing[0]}"
        )
    conditions = [getattr(model, name) == entity._stored[name] for name in names]
    return model.first_where(functools.reduce(operator.and_, conditions))


def require_unique(entity: Any) -> None:
    """Raise an Error if another entity has a value that has to be unique, such as a user name."""
    for field in entity.stored_fields():
        if (taken := entity.taken(field)) is not None:
            raise taken


def differing(found: Any, entity: Any, asked: Iterable[Assignment]) -> list[Assignment]:
    """Return the assignments that gave a new entity other values than the saved one has; not of secrets and lists."""
    fields = [(each, type(entity)._meta.combined.get(each.name)) for each in asked]
    plain = [(each, field.name) for each, field in fields if field is not None and not isinstance(field, Secret)]
    return [each for each, name in plain if found._stored.get(name) != entity._stored.get(name)]


def as_word(asked: Assignment) -> str:
    """Return an assignment as it is typed."""
    if asked.value is None:
        return f"{asked.name}{asked.sign}null"
    text = filters.written(str(asked.value))
    return f"{asked.name}{asked.sign}{FILE if text.startswith(FILE) else ''}{text}"


def _raise(error: Exception) -> Any:
    raise error
