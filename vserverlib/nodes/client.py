"""Asks a server's REST API as one node: logs in, renews the tokens, sends requests.

An answer that does not come is Away: whether to ask again is for node.py to say. A refusal is a Refused, after one more
try with a new token, because a server answers 401 for an expired token and for a missing right alike.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from vserverlib import Error, printable
from vserverlib.nodes.settings import NodeSettings, Server

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
RENEW_BEFORE = 600  # seconds before a token expires, as real nodes do
ROWS = 20  # of a page
BUSY = (429, 502, 503, 504)  # statuses of a server, or of a proxy before it, that can answer later
NO_TOKEN = (401, 422)
NOT_FOUND = 404
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Away(Error):
    """The server cannot be reached, or is busy."""


class Refused(Error):
    """The server refused a request. status: of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Identity(NamedTuple):
    """Which node this is, with the names of its organization and collaboration."""

    id: int
    name: str
    organization_id: int
    organization: str
    collaboration_id: int
    collaboration: str
    is_encrypted: bool

    @property
    def title(self) -> str:
        """The node as messages name it."""
        return f'node {self.id} "{printable(self.name, 60)}"'


class Session(requests.Session):
    """A session that sends the token of a client with each request, nothing of ~/.netrc, no proxy to this machine."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.auth = client.sign
        is_here = client.server.is_beside or urlsplit(client.server.host).hostname in LOOPBACK
        self.trust_env = not is_here  # such as https_proxy


class Client:
    """Asks as one node. May be used by several threads."""

    def __init__(self, server: Server, settings: NodeSettings) -> None:
        self.server, self._settings = server, settings
        self._session = Session(self)
        self._lock = threading.Lock()  # of the tokens
        self._access = self._refresh = ""
        self._renew_at = 0.0
        self.seconds = ANSWER_SECONDS  # that an answer is waited for

    def sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the token to a request that has none."""
        if self._access:
            request.headers.setdefault("Authorization", f"Bearer {self._access}")
        return request

    @property
    def token(self) -> str:
        """The current access token."""
        return self._access

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    # Tokens

    def log_in(self) -> None:
        """Get tokens for the API key."""
        with self._lock:
            self._access = ""
            self._log_in()

    def _log_in(self) -> None:
        try:
            self._keep(self._sent("POST", "token/node", {"api_key": self._settings.api_key}))
        except Refused as error:
            if error.status == NOT_FOUND:
                raise Refused(error.status, f"{self.server.url} is no API of a vantage6 server: check server") from None
            what = f"{self.server.url} refused the api_key of {self._settings.title} ({error})"
            raise Refused(error.status, f"{what}: give it the current key of a node") from None

    def _keep(self, answer: Any) -> None:
        with self._expected():
            self._access, self._refresh = str(answer["access_token"]), str(answer["refresh_token"])
            expires, now = float(claims(self._access)["exp"]), time.time()
        self._renew_at = expires - min(RENEW_BEFORE, (expires - now) / 2)

    @contextlib.contextmanager
    def _expected(self) -> Iterator[None]:
        """Raise a Refused if the answer that is read within the block is not one of a vantage6 server."""
        try:
            yield
        except (KeyError, TypeError, ValueError, IndexError):
            raise Refused(200, f"{self.server.url} is no API of a vantage6 server: check server") from None

    def renew(self, used: str) -> None:
        """Get new tokens, unless another thread has replaced the one that was used."""
        with self._lock:
            if self._access != used:
                return
            try:
                self._keep(self._sent("POST", "token/refresh", None, token=self._refresh))
            except Refused:  # expired, or of a server that has another secret now
                self._access = ""
                self._log_in()

    # Requests

    def ask(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """Send a request, and return the JSON of the answer. Raises Away or Refused."""
        used = self._access
        if time.time() > self._renew_at:
            self.renew(used)
            used = self._access
        try:
            return self._sent(method, path, body, query)
        except Refused as error:
            if error.status not in NO_TOKEN:
                raise
        self.renew(used)
        return self._sent(method, path, body, query)

    def _sent(
        self, method: str, path: str, body: Any, query: Mapping[str, Any] | None = None, token: str | None = None
    ) -> Any:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url, timeout = f"{self.server.url}/{path}", (CONNECT_SECONDS, self.seconds)
        try:
            answer = self._session.request(
                method, url, query, headers=headers, json=body, timeout=timeout, allow_redirects=False
            )
        except requests.RequestException as error:
            raise Away(f"{self.server.url} does not answer ({_reason(error)})") from None
        return self._value(answer)

    def _value(self, answer: requests.Response) -> Any:
        try:
            value = answer.json()
        except ValueError:
            value = None
        if answer.status_code in BUSY:
            raise Away(f"{self.server.url} is busy ({answer.status_code} {_message(value)})")
        if not answer.ok or answer.is_redirect or value is None:
            raise Refused(answer.status_code, f"{answer.status_code} {_message(value)}")
        return value

    def pages(self, path: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Return the rows of all pages of a list."""
        page, rows = 1, ROWS
        while True:
            try:
                found = self.ask("GET", path, query={**query, "page": page, "per_page": rows})
            except Refused:  # the inputs of so many runs may be too much for one answer
                if rows == 1:
                    raise
                page, rows = (page - 1) * rows + 1, 1
                continue
            with self._expected():
                data, is_last = list(found["data"]), "next" not in found["links"]
            yield from data
            if is_last:
                return
            page += 1

    # What a node asks for

    def identity(self) -> Identity:
        """Return which node this is."""
        with self._expected():
            node = self.ask("GET", f"node/{int(claims(self._access)['sub'])}")
            organization = self.ask("GET", f"organization/{node['organization']['id']}")
            collaboration = self.ask("GET", f"collaboration/{node['collaboration']['id']}")
            return Identity(
                int(node["id"]),
                str(node["name"]),
                int(organization["id"]),
                str(organization["name"]),
                int(collaboration["id"]),
                str(collaboration["name"]),
                bool(collaboration["encrypted"]),
            )

    def open_runs(self, **filters: int) -> list[dict[str, Any]]:
        """Return the unfinished runs of a node (node_id) or a task (task_id), oldest first; each with its task."""
        return list(self.pages("run", {"state": "open", "include": "task", **filters}))[::-1]

    def run(self, id: int) -> dict[str, Any]:
        """Return a run."""
        found: dict[str, Any] = self.ask("GET", f"run/{id}")
        return found

    def write_run(self, id: int, **fields: str) -> None:
        """Write fields of a run. The server empties those that are not given, except status and started_at."""
        self.ask("PATCH", f"run/{id}", fields)

    def container_token(self, task_id: int, image: str) -> str:
        """Return the token with which an algorithm asks the server."""
        answer = self.ask("POST", "token/container", {"task_id": task_id, "image": image})
        with self._expected():
            return str(answer["container_token"])


def claims(token: str) -> dict[str, Any]:
    """Return the claims of a JSON web token, unverified: it came from the server itself."""
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def _message(value: Any) -> str:
    """Return the server's own words, with the fields that it found wrong."""
    if not isinstance(value, dict):
        return ""
    errors = f" {value['errors']}" if value.get("errors") else ""
    return printable(f"{value.get('msg', '')}{errors}", 300)


def _reason(error: BaseException) -> str:
    """Return why no answer came: the system's own word if there is one."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror.lower()
        inner = getattr(found, "reason", None) or (found.args[0] if found.args else None)
        following = inner if isinstance(inner, BaseException) else found.__cause__ or found.__context__
        found = None if following is found else following
    return "no answer in time" if isinstance(error, requests.Timeout) else printable(type(error).__name__)
