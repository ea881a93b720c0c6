"""The line of ours that loosely typed words mean: `users list`, `create user --email x`, `list tasks status=failed`.

It runs nothing and reads no database. Secrets in the words are left out of the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vserverlib.databases.registry import ENTITIES

OPERATOR = re.compile("[=<>~]")
ALIASES = {"org": "organization", "organisation": "organization", "collab": "collaboration", "account": "user"}
# What a state in words is as a filter, for tasks unless another entity is named.
STATES = {
    **{word: f"status={word}" for word in ("failed", "pending", "active", "completed", "online", "offline")},
    "running": "status=active",
    **dict.fromkeys(("finished", "done"), "complete=true"),
    **dict.fromkeys(("unfinished", "waiting", "stuck", "open"), "complete=false"),
}
FILLERS = ("set", "with", "where", "and", "to", "from", "as", "the", "*", "all")
FLAGS = {"-l": "--wide", "-la": "--wide", "-al": "--wide", "-a": "--all"}  # of ls
PLACEHOLDERS = {
    "create": ["ENTITY", "NAME"],
    "delete": ["ENTITY", "ID"],
    "edit": ["ENTITY", "ID"],
    "list": ["ENTITY"],
    "set": ["ENTITY", "ID", "FIELD=VALUE"],
    "show": ["ENTITY", "ID"],
}
# By what is typed: the command. Our own names stand for themselves.
VERBS = {
    **dict.fromkeys(("add", "new", "insert", "register", "make"), "create"),
    **dict.fromkeys(("rm", "remove", "del", "destroy", "drop"), "delete"),
    **dict.fromkeys(("ls", "ll", "dir", "find", "search", "query", "select", "filter", "grep", "where"), "list"),
    **dict.fromkeys(("get", "describe", "view", "cat", "info", "inspect", "display"), "show"),
    **dict.fromkeys(("update", "modify", "change", "patch", "put", "rename"), "set"),
    **dict.fromkeys(("explain", "reason"), "why"),
    **dict.fromkeys(("top", "follow", "monitor"), "watch"),
    **dict.fromkeys(("kill", "cancel", "abort", "stop"), "fail"),
    **dict.fromkeys(("password", "reset-password", "changepassword"), "passwd"),
    **dict.fromkeys(("token", "key", "api-key"), "apikey"),
    **dict.fromkeys(("doctor", "validate", "verify", "lint", "fsck"), "check"),
    **dict.fromkeys(("history", "audit", "journal", "events"), "log"),
}
SEARCHES = ("find", "search", "grep")
RENAMES = ("rename",)
GETS = ("get",)  # a list unless an entity is named

Options = Mapping[str, bool]  # the options of a command, and whether each takes a value


def noun_of(word: str) -> str | None:
    """Return the entity that a word names, in the singular or plural, or by a short form."""
    single = word.casefold()
    for name in (single, single.removesuffix("s")):
        if name in ENTITIES:
            return name
        if name in ALIASES:
            return ALIASES[name]
    return None


def verb_of(word: str, commands: Mapping[str, Any]) -> str | None:
    """Return the command that a word means: its own name, or one from another program."""
    name = VERBS.get(word.casefold(), word.casefold())
    return name if name in commands else None


def of_entity(word: str, words: Sequence[str], commands: Mapping[str, Options]) -> list[str]:
    """Return our line for a line that begins with an entity: `users list`, `task 5`, `tasks failed`."""
    for verb, rest in ((words[:1], words[1:]), (words[-1:], words[:-1])):
        name = verb_of(verb[0], commands) if verb else None
        if name is not None and not OPERATOR.search(verb[0]):
            return line(verb[0], [word, *rest], commands)
    if "/" in word:
        return line("show", [word], commands)
    is_filter = words and (words[0][:1] == "-" or OPERATOR.search(words[0]) or words[0] in STATES)
    return line("show" if words and not is_filter else "list", [word, *words], commands)


def line(typed: str, words: Sequence[str], commands: Mapping[str, Options]) -> list[str]:
    """Return the words of our line for a command, as typed, and the words after it. commands: ours."""
    name = verb_of(typed, commands) or typed
    options = commands.get(name, {})
    words = [FLAGS.get(word, word) for word in words]
    if name in PLACEHOLDERS:
        return _on_entities(typed.casefold(), name, words, options)
    plain = [word for word in words if noun_of(word) is None and word not in FILLERS]
    nouns = [noun for word in words if (noun := noun_of(word))]
    if name == "log" and (nouns or plain):
        id = next((word for word in plain if word.isdigit()), "")
        return ["log", "--entity", f"{nouns[0]}s" if nouns else "ENTITY", *(["--id", id] if id else [])]
    if name == "fail":
        return _to_end(nouns, plain)
    if name == "check":
        return ["check", *(f"{noun}s" for noun in nouns)]
    return [name, *(plain or {"why": ["TASK"], "passwd": ["USERNAME"], "apikey": ["NODE"]}.get(name, []))]


def _to_end(nouns: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the line that ends results, or lists those of a task."""
    ids = [word for word in words if word.isdigit()]
    if "task" in nouns and ids:
        return ["list", "results", "--where", f"task.id={ids[0]}", "--where", "complete=false"]
    return ["fail", *(ids or ["RESULT"])]


def _on_entities(typed: str, name: str, words: Sequence[str], options: Options) -> list[str]:
    """Return the line of a command that takes an ENTITY."""
    at = next((at for at, word in enumerate(words) if noun_of(word.partition("/")[0])), None)
    if at is None:
        return _without_entity(typed, name, words, options)
    if found := _of_members(name, words):
        return found
    word, others = words[at], [*words[:at], *words[at + 1 :]]
    noun = noun_of(word.partition("/")[0]) or word
    reference = word if "/" in word else noun
    rest = [each for each in others if each.casefold() not in FILLERS]
    if name == "list" or (typed in GETS and "/" not in word and not rest):
        filters = _filters(noun, rest, options)
        return [] if filters is None else ["list", f"{noun}s", *filters]
    if typed in RENAMES and len(rest) == 2 and _model(noun).name_field() is not None:
        return ["set", noun, rest[0], f"{_model(noun).name_field().name}={rest[1]}"]
    if name in ("create", "set"):
        return _assigning(name, noun, reference, others, options)
    plain = [each for each in rest if each in options or each[:1] != "-"]
    return [name, reference, *(plain or ([] if "/" in word else ["ID"]))]


def _without_entity(typed: str, name: str, words: Sequence[str], options: Options) -> list[str]:
    plain = [word for word in words if word[:1] != "-" and word not in FILLERS]
    flags = [word for word in words if word in options]
    if name == "list":
        return ["list", "ENTITY", *(["--search", plain[0]] if plain and typed in SEARCHES else []), *flags]
    return [name, *(["ENTITY", *plain] if plain else PLACEHOLDERS[name]), *flags]


def _of_members(name: str, words: Sequence[str]) -> list[str]:
    """Return the line for `add organization Oslo to collaboration 1`, and `remove … from …`; [] for other words."""
    found = [*map(noun_of, words)]
    if len(words) != 5 or found[::3] != ["organization", "collaboration"] or words[2] not in ("to", "from", "in"):
        return []
    return ["set", "collaboration", words[4], f"organizations{'-=' if name == 'delete' else '+='}{words[1]}"]


def _model(noun: str) -> Any:
    from vserverlib.queries import kinds

    return kinds.kind(noun)


# Filters


def _filters(noun: str, words: Sequence[str], options: Options) -> list[str] | None:
    """Return the options of `list` for filters and texts to search for; None for another option or a secret."""
    from vserverlib.entities import assignments

    model, rest, found = _model(noun), iter(_joined(words)), list[str]()
    for word in rest:
        option, equals, value = word.lstrip("-").partition("=")
        name = option.replace("-", "_")
        if name in assignments.SECRETS:
            return None
        if word in options:
            found += [word, *([next(rest, "…")] if options[word] else [])]
        elif option in STATES and not equals:
            found += ["--where", STATES[option]]
        elif word.startswith("--") and _is_field(model, name):
            found += ["--where", f"{name}={value if equals else next(rest, '…')}"]
        elif word[:1] == "-":
            return None
        else:
            found += ["--where" if OPERATOR.search(word) else "--search", word]
    return found


def _joined(words: Sequence[str]) -> Iterator[str]:
    """Yield words, with an operator that stands alone joined to both neighbours: status = failed."""
    at = 0
    while at < len(words):
        if at + 2 < len(words) and words[at + 1] in ("=", "<", ">", "~", "==", ">=", "<="):
            yield words[at] + words[at + 1].replace("==", "=") + words[at + 2]
            at += 3
        else:
            yield words[at]
            at += 1


def is_settable(name: str) -> bool:
    """Whether any entity has a field with a name, that can be set on the command line."""
    from vserverlib.entities import assignments

    return any(name in assignments.settable(_model(noun)) for noun in ENTITIES)


def _is_field(model: Any, name: str) -> bool:
    return name in model._meta.combined or hasattr(model, name)


# Assignments


class Assigned(NamedTuple):
    """The words of create and set, sorted. secret: whether a secret was among them, which is left out."""

    plain: list[str]
    fields: list[str]
    flags: list[str]
    secret: bool


def _assigning(name: str, noun: str, reference: str, words: Sequence[str], options: Options) -> list[str]:
    """Return the line of create or set, with each field as FIELD=VALUE; [] for an option that neither has."""
    model = _model(noun)
    found = _assigned(model, words, options)
    if found is None:
        return []
    plain, fields, flags, secret = found
    if name == "create":
        field = model.name_field()
        own = f"{field.name}=" if field is not None else None
        names = plain[:1] or [word.partition("=")[2] for word in fields if own and word.startswith(own)]
        first = names or ([] if own is None or noun == "node" else ["NAME"])
        return ["create", noun, *first, *(word for word in fields if not (own and word.startswith(own))), *flags]
    who = [] if "/" in reference else plain[:1] or ["ID"]
    if secret and not fields and noun in ("user", "node"):
        return ["passwd" if noun == "user" else "apikey", *(who or [reference])]
    return ["set", reference, *who, *(fields or ["FIELD=VALUE"]), *flags]


def _is_same(field: str, name: str) -> bool:
    return field.replace("_", "") == name.replace("_", "")


def _assigned(model: Any, words: Sequence[str], options: Options) -> Assigned | None:
    """Return the words, with `--field value`, `field value` and `field = value` as field=value."""
    from vserverlib.entities import assignments

    plain, fields, flags, secret = list[str](), list[str](), list[str](), False
    known, rest = assignments.settable(model), iter(_joined(words))
    for word in rest:
        option, equals, value = word.lstrip("-").partition("=")
        name = option.replace("-", "_")
        if name in assignments.SECRETS and (word[:1] == "-" or equals):
            secret = True
            None if equals else next(rest, None)
        elif word in options:
            flags += [word, *([next(rest, "…")] if options[word] else [])]
        elif word.startswith("--") and (field := next((each for each in known if _is_same(each, name)), "")):
            fields.append(f"{field}={value if equals else next(rest, '…')}")
        elif word[:1] == "-":
            return None
        elif word in known and plain:
            fields.append(f"{word}={next(rest, '…')}")
        elif equals:
            fields.append(word)
        elif word.casefold() not in FILLERS:
            plain.append(word)
    return Assigned(plain, fields, flags, secret)
