"""The help of the prompt: `help`, `?`, `help(db.Task)` and `db.Task?`."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from vserverlib.databases import current
from vserverlib.entities.entity import Entity
from vserverlib.entities.field_help import describe

TEXT = """\
Type a line of Python. db has the entities:

  db.Organization.get()                       all, as a table
  iknl = db.Organization.get_by_name("IKNL")  one by name; .get(1): by id
  iknl.country = "Norway"; iknl.save()        change one
  db.Task.where(status="failed")              some
  db.User(username="anna", organization=iknl).save()
                                              a new one

db             the entities, their numbers and methods
db.Task        its fields and relations; help(db.Task) and db.Task? too
overview()     status; watch() shows the progress of tasks; post() posts one
db.check()     broken rules; db.log(), db.undo(): the journal
help(x), x?    Python's help on anything else

Tab completes fields, methods and names. Ctrl-C stops a query, Ctrl-D leaves.
In a terminal: vserver help, vserver COMMAND --help."""


OF_PLAN = """
Nothing changes in the server's database before you apply the plan:

db.plan()      what would change there; db.apply() asks, and applies it
user.unlock()  after wrong passwords; user.unlock(two_factor=True)
result.fail()  ends a result that hangs; result.fail(killed=True)
"""


def text(subject: Any = None) -> str | None:
    """Return the help on an entity, or on a class of entities; without a subject, what to type; None for others."""
    if subject is None:
        opened = current.database.obj
        is_plan = opened is not None and opened.mode == "plan"
        return TEXT.replace("\nTab completes", f"{OF_PLAN}\nTab completes") if is_plan else TEXT
    model = subject if isinstance(subject, type) else type(subject)
    return describe(model) if issubclass(model, Entity) else None


def screen(subject: Any = None) -> Text:
    """Return the same for display."""
    return Text(text(subject) or repr(subject))
