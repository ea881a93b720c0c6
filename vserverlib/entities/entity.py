"""What the six models are made of: all that an entity can do, by one name each.

Finding and saving are orm.py's. What few sessions need (deleting, the journal, help) is imported when it is called.
"""

from __future__ import annotations

from typing import Any

from vserverlib.entities import checks
from vserverlib.entities.orm import EntityBase
from vserverlib.entities.peewee_hooks import instance_only


class Entity(EntityBase):
    """One row of one of the six tables."""

    @classmethod
    def help(cls) -> None:
        """Print the fields, their types, and the relations."""
        from vserverlib.entities.field_help import describe

        print(describe(cls))  # noqa: T201  # to print is what it is for

    @instance_only
    def check(self) -> checks.Findings:
        """Return the rules that this entity breaks, as it is in the database; a table where it is shown."""
        return checks.check(self)

    @instance_only
    def delete(self, dependents: bool = False) -> Any:
        """Delete this entity, in one transaction.

        Refused with the counts while something hangs on it; dependents=True takes all of that along, and returns what
        that was: the shell shows it in one line.
        """
        from vserverlib.entities import deleting  # needed by few sessions

        plan = deleting.delete([self], dependents)
        return plan if dependents else None

    @instance_only
    def delete_instance(self, recursive: bool = False, delete_nullable: bool = False) -> Any:
        """Delete this entity: what Peewee calls delete(); recursive: with what hangs on it."""
        return self.delete(dependents=recursive)

    @instance_only
    def history(self) -> Any:
        """Return what the journal has of this entity, newest first: who changed what, and when."""
        from vserverlib.entities import journal  # needed by few sessions

        return journal.history(self)
