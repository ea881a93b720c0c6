"""Notices of the prompt: what a cell saved, deleted or did not find, and what was never saved when the user leaves.

Saving, deleting and finding report to Notices. Scripts register none, so they stay quiet.
"""

from __future__ import annotations

import ast
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vserverlib import Error, pluralize, printable
from vserverlib.drivers import peewee
from vserverlib.entities import finding, orm
from vserverlib.entities.entity import Entity
from vserverlib.messages import PLANNED, notify

MOST_LINES = 5  # of one kind after a cell; more are counted
MOST_NAMED = 10  # entities that one line names
MOST_ITEMS = 1_000  # of a list of the user's that are searched for unsaved entities


class Notices:
    """What the running cell saved, deleted and did not find. summaries: whether saves and deletes are printed."""

    def __init__(self, database: Any, *, summaries: bool) -> None:
        self.database = database
        self._prefix = PLANNED if database.mode == "plan" else ""  # of a server's database, which is not changed yet
        self._printed = 0  # saves
        self._saved: list[tuple[Any, str]] = []  # models and names of the saves that are not printed yet
        self._deleted: list[Any] = []  # plans of deleting.py
        self._unchanged: list[str] = []
        self._missed: list[tuple[Any, Any, Any]] = []
        self._reasons: dict[str, str] = {}  # by name of a variable: why it is None
        self._hooks: list[tuple[list[Any], Any]] = [(finding.on_miss, self._note_miss)]
        if summaries:
            self._hooks += [
                (orm.after_save, self._note_save),
                (orm.after_delete, self._note_delete),
                (orm.after_unlock, self._note_unlock),
                (orm.on_unchanged, self._note_unchanged),
            ]
        for hooks, hook in self._hooks:
            hooks.append(hook)

    def close(self) -> None:
        """Take no more notes."""
        for hooks, hook in self._hooks:
            hooks.remove(hook)

    def _note_miss(self, model: Any, word: Any, field: Any) -> None:
        self._missed.append((model, word, field))

    def _note_unchanged(self, entity: Entity) -> None:
        self._unchanged.append(entity.named())

    def _note_save(self, entity: Entity) -> None:
        """Print the first saves at once, before the output that follows; others and uncommitted ones after the cell."""
        self._printed += 1
        if self._printed > MOST_LINES or self.database.in_transaction():
            self._note(self._saved, (type(entity), entity.named()))
        else:
            notify(f"{self._prefix}saved {entity.named()}")

    def _note_unlock(self, user: Entity) -> None:
        notify(f"{self._prefix}unlocked {user.named()}")

    def _note_delete(self, plan: Any) -> None:
        self._note(self._deleted, plan)

    def _note(self, notes: list[Any], note: Any) -> None:
        """Add a note, until the transaction is rolled back."""
        before = len(notes)
        notes.append(note)
        if self.database.in_transaction():
            self.database.on_rollback(lambda: notes.__delitem__(slice(before, None)))

    # After a cell

    def print_done(self, shown: Any = None) -> None:
        """Print what a cell saved and deleted, and forget it. shown: its value, which has been displayed."""
        for line in [*self._of_saves(), *self._of_deletes(shown)]:
            notify(self._prefix + line)
        if self._unchanged and not self._printed:
            for name in dict.fromkeys(self._unchanged[:MOST_LINES]):
                notify(f"{name} has no changes to save")
        self._printed = 0
        for notes in (self._saved, self._deleted, self._unchanged):
            notes.clear()

    def print(self, source: str, names: Mapping[str, Any], shown: Any, *, failed: bool) -> None:
        """Print what a cell did and did not find, and forget it. shown: its value, which has been displayed."""
        self.print_done(shown)
        if self._missed and not failed:
            reasons = [self._reason(*each) for each in dict.fromkeys(self._missed)]
            self._remember(source, names, reasons)
            for line in reasons[:MOST_LINES]:
                notify(line, "yellow")
        self._missed.clear()

    def _of_saves(self) -> Iterator[str]:
        where = " (in the open transaction)" if self.database.in_transaction() else ""
        words = [name for _, name in self._saved]
        if len(words) > MOST_LINES or (words and self._printed > MOST_LINES):
            more = "more " if len(words) < self._printed else ""
            words = [_counted((model for model, _ in self._saved), more)]
        yield from (f"saved {each}{where}" for each in words)

    def _of_deletes(self, shown: Any) -> Iterator[str]:
        if len(self._deleted) > MOST_LINES:
            words = _counted(plan.model for plan in self._deleted)
            yield f"deleted {words}; db.log() lists the changes, db.undo(change=NUMBER) undoes one"
        else:
            yield from (repr(plan) for plan in self._deleted if plan is not shown)

    # None

    def _reason(self, model: Any, word: Any, field: Any) -> str:
        shown = f'"{printable(word)}"' if isinstance(word, str) else printable(word)
        with contextlib.suppress(Error, peewee.PeeweeException):  # such as in a failed transaction
            shown += finding.similar_name(model, word, field) if isinstance(word, str) and field is not None else ""
        return f"no {model.noun} {shown}"

    def _remember(self, source: str, names: Mapping[str, Any], reasons: list[str]) -> None:
        """Keep why the variables that a cell assigned are None."""
        empty = [name for name in _assigned(source) if names.get(name, "") is None]
        for name, reason in zip(empty, reasons if len(reasons) == len(empty) else reasons * len(empty), strict=False):
            self._reasons[name] = reason

    def why_none(self, name: str) -> str:
        """Return why a variable is None, or the value without a name, "": the lookup that found nothing."""
        if self._missed:
            return self._reason(*self._missed[-1])
        return self._reasons.get(name, "")


def _counted(models: Iterable[Any], more: str = "") -> str:
    """Return the numbers of entities: "2 tasks, 1 user"; more: a word before each noun."""
    counts = Counter(models)
    return ", ".join(pluralize(n, more + model.noun, more + model.plural) for model, n in counts.items())


def _assigned(source: str) -> list[str]:
    """Return the variables that a cell assigns the value of a call."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)]
    return [target.id for node in found for target in node.targets if isinstance(target, ast.Name)]


# On leaving


def unsaved(names: Mapping[str, Any], shown: Iterable[Any]) -> tuple[list[Entity], list[Entity]]:
    """Return the entities that were never saved, and the changed ones, of the user's variables and displayed values."""
    variables = [value for name, value in list(names.items()) if not name.startswith("_") and name not in ("In", "Out")]
    named = _distinct(entity for value in variables for entity in _entities(value))
    known = {(type(entity), entity.own_name()) for entity in named}  # typed again, this time with a variable
    displayed = _distinct(entity for value in shown for entity in _entities(value))
    found = [*named, *(entity for entity in displayed if (type(entity), entity.own_name()) not in known)]
    return [entity for entity in found if entity._new], [each for each in found if not each._new and each._unsaved()]


def _entities(value: Any) -> list[Entity]:
    """Return an entity, or those in a plain list, tuple or dict."""
    items = value.values() if type(value) is dict else value if type(value) in (list, tuple) else [value]
    return [item for item in list(items)[:MOST_ITEMS] if isinstance(item, Entity)]


def _distinct(entities: Iterable[Entity]) -> list[Entity]:
    return list({id(entity): entity for entity in entities}.values())


def named(entities: list[Entity]) -> str:
    """Return the names of entities, and the number of the others."""
    more = f", and {len(entities) - MOST_NAMED:,} more" if len(entities) > MOST_NAMED else ""
    return ", ".join(entity.named().removesuffix(" (not saved)") for entity in entities[:MOST_NAMED]) + more
