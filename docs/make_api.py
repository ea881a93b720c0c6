"""Write docs/api.md, the Python API reference, from signatures and docstrings.

    python docs/make_api.py

A test compares the page with page().
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import models  # noqa: E402
import vserverlib  # noqa: E402
from vserverlib import api  # noqa: E402
from vserverlib.databases import recognition  # noqa: E402
from vserverlib.entities import checks, journal, undoing  # noqa: E402
from vserverlib.entities.choices import GeneratedField  # noqa: E402
from vserverlib.entities.computed import ComputedAttribute  # noqa: E402
from vserverlib.entities.entity import Entity  # noqa: E402
from vserverlib.entities.fields import Id, Secret, UTCDateTimeField  # noqa: E402
from vserverlib.entities.lists import EntityList  # noqa: E402
from vserverlib.entities.relations import relations  # noqa: E402
from vserverlib.queries import overview, why  # noqa: E402
from vserverlib.terminal import completion  # noqa: E402

OPENING = """\
# Python API

Generated from signatures and docstrings by [make_api.py](make_api.py): change a docstring, then run `make docs`.

Programs may use what this page lists, and Peewee's methods of models and queries. [Models in Python](scripts.md) shows
how; [the guide](guide.md) explains the fields.
"""
MODELS = """\
A script opens a database first: `from models import connect, Organization`. The open database is one of Peewee:
`with database.atomic():` is a transaction, and `database.close()` closes it.
"""
ENTITIES = """\
## Entities

An entity is a row of one of six classes. Every field may be `None`, except `id`. Times are `datetime` objects in UTC; a
time without a zone is taken as UTC when it is assigned. These methods belong to all six classes:
"""
LISTS = """\
## Lists

`get()`, `where()` and relations return a list that is read when it is needed: `len()`, `in`, an index and a slice work,
and so do Peewee's `order_by()` and `limit()`. A list that can be edited also has `append()`, `extend()`, `remove()` and
`clear()`; `save()` of its entity writes it.
"""
ERROR_MODULES = (vserverlib.__name__, recognition.__name__)
RESULTS = (overview.Overview, overview.Share, overview.Unseen, checks.Last, journal.Log, journal.Entry)
RESULTS += (undoing.Undone, undoing.LeftOut, checks.Findings, checks.Finding)
RESULTS += (why.Why, why.Awaited, why.Failed, why.Child)


def page() -> str:
    """Return the text of the page."""
    return "\n".join(part.strip() + "\n" for part in parts())


def parts() -> Iterator[str]:
    """Yield the parts of the page, which an empty line separates."""
    yield OPENING
    yield from section("models", MODELS)
    yield from functions([models.connect, models.create])
    yield ENTITIES
    yield from methods(Entity, dict.fromkeys([*completion.OF_MODEL, *completion.OF_ENTITY]), "entity")
    for model in models.ENTITIES:
        yield from entity(model)
    yield LISTS
    yield from methods(EntityList, completion.OF_LIST, "list")
    yield from section("vserverlib.api", inspect.getdoc(api) or "")
    yield from functions(getattr(api, name) for name in api.__all__)
    yield from section("Results", "The objects that these functions return.")
    yield from map(result, RESULTS)
    yield from section("Errors", "`from vserverlib import Error`. The message of an error is one line.")
    yield "\n".join(["```text", *tree(vserverlib.Error), "```"])


def section(title: str, text: str) -> Iterator[str]:
    yield f"## {title}"
    yield text


def functions(found: Iterable[Callable[..., Any]]) -> Iterator[str]:
    for function in found:
        yield described("###", f"{function.__name__}{signature(function)}", inspect.getdoc(function))


def described(level: str, title: str, text: str | None) -> str:
    return f"{level} `{title}`\n\n{text or ''}"


# Signatures


def signature(function: Callable[..., Any], skip: int = 0) -> str:
    """Return a signature without the first `skip` parameters, the same on each version of Python."""
    found = inspect.signature(function)
    words, kind = [], inspect.Parameter.POSITIONAL_ONLY
    for parameter in list(found.parameters.values())[skip:]:
        if parameter.kind is parameter.KEYWORD_ONLY and kind < parameter.VAR_POSITIONAL:
            words.append("*")
        kind = parameter.kind
        words.append(shown(parameter))
    returned = annotation(found.return_annotation)
    return f"({', '.join(words)}){f' -> {returned}' if returned else ''}"


def shown(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    typed = annotation(parameter.annotation)
    text = f"{stars}{parameter.name}" + (f": {typed}" if typed else "")
    if parameter.default is parameter.empty:
        return text
    default = "..." if type(parameter.default) is object else repr(parameter.default)
    return f"{text} = {default}" if typed else f"{text}={default}"


def annotation(found: Any) -> str:
    """Return an annotation as the source has it; "" for none, and for Any, which says nothing."""
    return "" if found in (inspect.Parameter.empty, "Any") else str(found)


# Entities


def entity(model: Any) -> Iterator[str]:
    yield described("##", model.__name__, inspect.getdoc(model)).replace("`", "", 2)
    yield table("field", ((field.name, takes(field)) for field in model._meta.sorted_fields))
    if computed := [(name, value) for name, value in vars(model).items() if isinstance(value, property)]:
        yield table("computed", ((name, property_text(value)) for name, value in computed))
    if many := relations(model):
        yield table("relation", ((each.name, f"list of {each.model.__name__}{editable(each)}") for each in many))
    own = [*completion.methods(model), *completion.methods(model, of_entity=True)]
    yield from methods(model, dict.fromkeys(name for name in own if not hasattr(Entity, name)), model.noun)


def takes(field: Any) -> str:
    """Return the type of a field, and what is special about it."""
    notes = ["generated by the database, read-only"] if isinstance(field, GeneratedField) else []
    notes += ["set by the first save"] if isinstance(field, Id) else []
    notes += ["hashed when it is assigned, never shown"] if isinstance(field, Secret) else []
    notes += ["unique"] if field.unique else []
    notes += [f"`{field.default!r}` in a new entity"] if field.default is not None else []
    zone = " in UTC" if isinstance(field, UTCDateTimeField) else ""
    return ", ".join([f"{field.takes}{zone}", *notes])


def property_text(found: property) -> str:
    usable = "; can be used in queries" if isinstance(found, ComputedAttribute) else ""
    return f"{(inspect.getdoc(found) or '').rstrip('.')}{usable}"


def editable(relation: Any) -> str:
    return ", can be edited" if relation.editable else ""


def table(head: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| `{name}` | {text.replace('|', chr(92) + '|')} |" for name, text in rows]
    return "\n".join([f"| {head} | |", "|---|---|", *lines])


def methods(owner: type, names: Iterable[str], noun: str) -> Iterator[str]:
    """Yield the methods of a class that have a docstring, aliases in one entry, as CLASS.get() or entity.save()."""
    seen: dict[Any, list[str]] = {}
    for name in names:
        seen.setdefault(function_of(owner, name), []).append(name)
    for function, aliases in seen.items():
        text, is_of_class = inspect.getdoc(function), is_classmethod(owner, aliases[0])
        if text and function.__module__.startswith(("models", "vserverlib")):
            title = f"{owner.__name__ if is_of_class else noun}.{aliases[0]}{signature(function, skip=1)}"
            also = f"\n\nAlso as `{'`, `'.join(aliases[1:])}`." if aliases[1:] else ""
            yield described("###", title, text + also)


def function_of(owner: type, name: str) -> Any:
    """Return the plain function of a method, whichever descriptor it is."""
    found = inspect.getattr_static(owner, name)
    return inspect.unwrap(getattr(found, "__func__", getattr(found, "method", found)))


def is_classmethod(owner: type, name: str) -> bool:
    return isinstance(inspect.getattr_static(owner, name), classmethod)


# Results and errors


def result(found: Any) -> str:
    listed = f"\n\nAttributes: {', '.join(names)}." if (names := list(attributes(found))) else ""
    return described("###", found.__name__, f"{inspect.getdoc(found)}{listed}").replace("`", "", 2)


def attributes(found: Any) -> Iterator[str]:
    """Yield the attributes of a class: those of its tuple, those that its __init__ assigns by name, its properties."""
    typed = inspect.get_annotations(found)
    if not typed and inspect.isfunction(found.__init__):
        parameters = inspect.signature(found.__init__).parameters.values()
        assigned = found.__init__.__code__.co_names
        typed = {each.name: each.annotation for each in parameters if each.name in assigned}
    for name, annotated in typed.items():
        yield f"`{name}: {getattr(annotated, '__forward_arg__', annotated)}`"
    yield from (f"`{name}`" for name, value in vars(found).items() if isinstance(value, property))


def tree(error: type, before: str = "", below: str = "") -> Iterator[str]:
    """Yield the lines of an error and of its public subclasses, each with the first line of its docstring."""
    text = (inspect.getdoc(error) or "").partition("\n")[0]
    module = "" if error.__module__ == vserverlib.__name__ else f" ({error.__module__})"
    yield f"{before}{error.__name__}{module}: {text}"
    children = [each for each in error.__subclasses__() if each.__module__ in ERROR_MODULES]
    for number, each in enumerate(children, 1):
        is_last = number == len(children)
        yield from tree(each, below + ("└── " if is_last else "├── "), below + ("    " if is_last else "│   "))


if __name__ == "__main__":
    (HERE / "api.md").write_text(page(), encoding="utf-8")
    print("written: docs/api.md")
