"""Answers: their shapes, as the clients of vantage6 4.15 read them; lists with pages; links; times."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from vserverlib.serving.requests import Request

Shown = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A status, a JSON value, and headers."""

    value: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """Return the JSON text."""
        text = json.dumps(self.value, ensure_ascii=False, separators=(",", ":"), default=_as_text)
        return text.encode("utf-8", "replace")


def _as_text(value: object) -> str:
    """Return as text what JSON has no type for: another program may store bytes in any column of SQLite."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def message(text: str, status: int = 200) -> Answer:
    """Return an answer with a message."""
    return Answer({"msg": text}, status)


# Values


def time(moment: Any) -> str | None:
    """Return a time as the server writes it: ISO 8601 in UTC, without a zone. A text of another program stays."""
    if isinstance(moment, datetime.datetime):
        return moment.astimezone(datetime.UTC).replace(tzinfo=None).isoformat()
    return None if moment is None else str(moment)


def encoded_key(pem: Any) -> str:
    """Return a public key as base64 of its PEM; an empty text without one."""
    return base64.b64encode(pem if isinstance(pem, bytes) else str(pem).encode()).decode() if pem else ""


# Links


class Links:
    """Makes the links of the answers to a request."""

    def __init__(self, request: Request) -> None:
        self.base = request.server.api_path

    def one(self, kind: str, id: Any) -> Shown | None:
        """Return the link to an entity, or None without one."""
        return None if id is None else {"id": id, "link": f"{self.base}/{kind}/{id}", "methods": METHODS[kind]}

    def many(self, kind: str, name: str, id: Any) -> str:
        """Return the link to a list, filtered by an id."""
        return f"{self.base}/{kind}?{name}={id}"


METHODS = {
    "organization": ["GET", "PATCH", "DELETE"],
    "collaboration": ["GET", "PATCH", "DELETE"],
    "node": ["GET", "PATCH", "DELETE"],
    "user": ["GET", "PATCH", "DELETE"],
    "task": ["GET", "DELETE"],
    "run": ["GET", "PATCH"],
    "result": ["GET"],
    "role": ["GET", "PATCH", "DELETE"],
}


# Lists


def page_of(
    request: Request,
    query: Any,
    shown: Callable[[Sequence[Any]], Collection[Shown]],
    require: Callable[[Any], object] = bool,
) -> Answer:
    """Return the page of a query that a request asks for. shown: returns the shapes of some entities.

    query: of entities, in order. require: refuses the query of a page before it is read. Two queries, besides others'.
    """
    page, size = request.page
    total, wanted = query.count(), query.limit(size).offset((page - 1) * size)
    require(wanted)
    return _listed(request, list(shown(list(wanted))), total)


def page_of_values(request: Request, values: Sequence[Shown]) -> Answer:
    """Return the page of some values that a request asks for."""
    page, size = request.page
    first = (page - 1) * size
    return _listed(request, list(values[first : first + size]), len(values))


def _listed(request: Request, data: list[Shown], total: int) -> Answer:
    page, size = request.page
    last = (total + size - 1) // size
    pages = {
        "first": 1,
        "previous": page - 1 if page > 1 else None,
        "self": page,
        "next": page + 1 if page < last else None,
        "last": last or None,
    }
    links = {name: _at_page(request, number) for name, number in pages.items() if number is not None}
    headers = {
        "total-count": str(total),
        "Link": ",".join(f"<{link}>; rel={name}" for name, link in links.items()),
        "access-control-expose-headers": "total-count, Link",
    }
    return Answer({"data": data, "links": links}, 200, headers)


def _at_page(request: Request, number: int) -> str:
    """Return the path of another page of a list: the same query, but for the page."""
    query = [(name, str(number) if name == "page" else value) for name, value in request.query]
    if all(name != "page" for name, _ in query):
        query.append(("page", str(number)))
    return f"{request.path}?{urlencode(query)}"
