"""A browser without a screen: it keeps a cookie, sends forms as browsers do, and reads event streams."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlencode

SECONDS = 60


class Response(NamedTuple):
    """An answer: its status, text, and headers with names in small letters."""

    status: int
    text: str
    headers: Mapping[str, str]


class Visitor:
    """Asks a server at a port of loopback for pages."""

    def __init__(self, port: int) -> None:
        self.port, self.cookie = port, ""

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> Response:
        """Ask for a page."""
        return self._ask("GET", path, None, headers)

    def post(self, path: str, fields: Mapping[str, str] | bytes = {}, **headers: str) -> Response:
        """Send a form, from a page of the server unless the headers say something else. Empty headers are left out."""
        body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
        sent = {"Content_Type": "application/x-www-form-urlencoded", "Origin": self.origin} | headers
        return self._ask("POST", path, body, sent)

    def log_in(self, username: str, password: str, to: str = "/", **headers: str) -> Response:
        """Send the log-in form."""
        return self.post("/page/log-in", {"username": username, "password": password, "to": to}, **headers)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.request(method, path, body, self._headers(headers))
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            if cookie := found.get("set-cookie"):
                self.cookie = "" if "Max-Age=0" in cookie else cookie.partition(";")[0]
            return Response(answer.status, answer.read().decode(), found)

    def _headers(self, given: Mapping[str, str]) -> dict[str, str]:
        headers = {name.replace("_", "-"): value for name, value in given.items() if value}
        return ({"Cookie": self.cookie} if self.cookie else {}) | headers

    def events(self, query: str = "") -> Iterator[tuple[str, str]]:
        """Yield the events of a stream, each with its name and data, until the server ends it."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)) as connection:
            connection.request("GET", f"/page/events{query}", headers=self._headers({}))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            name, lines = "", list[str]()
            for raw in answer:
                line = raw.decode().removesuffix("\n")
                field, _, value = line.partition(": ")
                if not line:
                    yield name, "\n".join(lines)
                    name, lines = "", []
                elif field == "event":
                    name = value
                else:
                    lines.append(value)
