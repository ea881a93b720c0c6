"""Words of other libraries (Django, SQLAlchemy, Python's lists), and what to write here.

Errors for an unknown attribute of a class or of a list suggest it.
"""

from __future__ import annotations

from typing import Any

from vserverlib import did_you_mean, printable

EVERY, SOME = "db.{Task}.get() returns all", 'db.{Task}.where("id>3") returns some'
OF_CLASS = {
    "all": EVERY,
    "list": EVERY,
    "objects": f"{EVERY}, {SOME}",
    "query": f"{EVERY}, {SOME}",
    "find": SOME,
    "find_all": SOME,
    "filter_by": SOME,
    "first": "db.{Task}.get()[0] is the first",
    "last": 'db.{Task}.sort("-id")[0] is the newest',
    "count": "len(db.{Task}.get()) counts all",
    "new": "db.{Task}({name}=…) is a new one, its save() stores it",
    "add": "db.{Task}({name}=…) is a new one, its save() stores it",
    "save": "save() belongs to one {task}",
    "remove": "db.{Task}.get(1).delete() deletes one",
}
EACH = "for {task} in …: {task}."
READ_ONLY = "set the {link} of a {task}, then call its save()"
NO_LINKS = "create db.{Task}({name}=…) and call its save()"
OF_LIST = {
    "all": "it is the whole list already",
    "objects": "it is a list already: loop over it, or filter it with where()",
    "last": "[-1] is the last",
    "length": "len() counts it",
    "size": "len() counts it",
    "delete": EACH + "delete()",
    "save": EACH + "save()",
    "update": EACH + "{name} = …; {task}.save()",
}
METHODS = (
    *("where", "filter", "search", "sort", "order_by", "limit", "offset", "count", "index", "exists", "get", "first"),
    *("select", "join", "prefetch", "dicts", "tuples", "scalar", "iterator", "distinct", "group_by"),
)
MEMBER_METHODS = ("append", "extend", "remove", "clear", "count", "index", "pop", "insert")
CHANGERS = ("add", "append", "extend", "insert", "remove", "pop", "clear", "discard")
OF_MEMBERS = {"add": "append() adds one", "delete": "remove() takes one out", "all": "it is the whole list already"}


def of_session(name: str) -> str:
    """Return ": save() of an entity commits …" for what SQLAlchemy's session does; "" for other words."""
    is_one = name in ("session", "commit", "rollback")
    return ": save() of an entity commits it, db.undo() undoes that" if is_one else ""


def of_class(model: Any, name: str) -> str:
    """Return ": db.Task.get() returns all" for a word of another library; "" for other words."""
    return _filled(model, OF_CLASS.get(name, ""))


def no_list_attribute(entities: Any, model: Any, name: str) -> AttributeError:
    """Return the error for an unknown attribute of a list of entities."""
    if name.startswith("_") or model is None:  # a copy that is being filled
        return AttributeError(name, name=name, obj=None)
    what = f'a list of {model.plural} has no "{printable(name)}"'
    return AttributeError(what + _of_list(entities, model, name), name=name, obj=None)


def _of_list(entities: Any, model: Any, name: str) -> str:
    is_editable = hasattr(type(entities), "append")
    if is_editable:
        known = _filled(model, OF_MEMBERS.get(name, ""))
    elif name in CHANGERS:
        known = _filled(model, READ_ONLY if model._meta.refs else NO_LINKS)
    else:
        known = _filled(model, OF_LIST.get(name, ""))
    if not known and name in (*model.attributes(), *dir(model)):
        known = f": each {model.noun} has one, such as [{model.noun}.{name} for {model.noun} in …]"
    return known or did_you_mean(name, MEMBER_METHODS if is_editable else METHODS)


def _filled(model: Any, text: str) -> str:
    if not text or len(model._meta.sorted_field_names) < 2:  # the base of all models has only an id
        return ""
    links = " or ".join(link.name for link in model._meta.refs)
    words = {"Task": model.__name__, "task": model.noun, "name": model.first_field(), "link": links}
    return f": {text.format(**words)}"
