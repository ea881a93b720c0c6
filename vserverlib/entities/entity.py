"""The base class of the six entities: help, check, delete and history.

Finding and saving are in orm.py. Modules that few sessions need are imported when a method needs them.
"""

from __future__ import annotations

from typing import Any

from vserverlib.entities import checks, orm
from vserverlib.entities.orm import EntityBase
from vserverlib.entities.peewee_hooks import instance_only


class Entity(EntityBase):
    """One row of one of the six tables."""

    @classmethod
    def help(cls) -> None:
        """Print the fields, their types, and the relations."""
        from vserverlib.entities.field_help import describe

        print(describe(cls))  # noqa: T201  # printing is its purpose

    @instance_only
    def check(self) -> checks.Findings:
        """Return the rules that this entity breaks, as it is in the database. The shell shows them as a table."""
        return checks.check(self)

    @instance_only
    def delete(self, dependents: bool = False) -> Any:
        """Delete this entity, in one transaction.

        Raises an Error, with their numbers, if it has dependents; dependents=True also deletes these and returns the
        plan, which the shell shows in one line.
        """
        from vserverlib.entities import deleting  # needed by few sessions

        plan = deleting.delete([self], dependents)
        return plan if dependents else None

    @instance_only
    def delete_instance(self, recursive: bool = False, delete_nullable: bool = False) -> Any:
        """Delete this entity, under Peewee's name. recursive: with its dependents."""
        return self.delete(dependents=recursive)

    @instance_only
    def history(self) -> Any:
        """Return the journal's entries of this entity, newest first: who changed which fields, and when."""
        from vserverlib.entities import journal  # needed by few sessions

        return journal.history(self)


def _overwritten(entity: Any, changed: dict[str, Any]) -> orm.SaveWarnings:
    """Return the warnings of a save that replaced what others had changed meanwhile."""
    from vserverlib.entities import overwriting  # needed by few sessions

    return overwriting.warnings(entity, changed)


orm.on_overwrite.append(_overwritten)
