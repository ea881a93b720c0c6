"""The sessions of browsers: a cookie holds a random text, and the server keeps in memory whose it is.

A session ends with a log-out, after LIFETIME, with the server, or when the user's password changes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

LIFETIME = 12 * 3600.0  # seconds
MAX_SESSIONS = 5000  # another one ends the oldest
SECRET_BYTES = 32


class Session(NamedTuple):
    """A log-in of a user from a browser. stored: the hash of the password that was given."""

    secret: str
    user_id: int
    stored: str
    until: float


class Sessions:
    """The sessions that have not ended."""

    def __init__(self) -> None:
        self._by_secret: dict[str, Session] = {}  # the oldest first

    def start(self, user_id: int, stored: str) -> Session:
        """Start a session."""
        moment = time.monotonic()
        for each in list(islice(self._by_secret.values(), 2)):
            if each.until < moment or len(self._by_secret) >= MAX_SESSIONS:
                self.end(each.secret)
        session = Session(secrets.token_urlsafe(SECRET_BYTES), user_id, stored, moment + LIFETIME)
        self._by_secret[session.secret] = session
        return session

    def find(self, secret: str | None) -> Session | None:
        """Return the session of a cookie; None without one that has not ended."""
        found = self._by_secret.get(secret or "")
        return found if found is not None and found.until > time.monotonic() else None

    def end(self, secret: str | None) -> None:
        """End a session, if there is one."""
        self._by_secret.pop(secret or "", None)


# The cookie


def cookie_name(host: str) -> str:
    """Return the name of the cookie for a Host header: browsers share cookies between the ports of a host."""
    port = host.rpartition(":")[2]
    return f"vserver_{port}" if port.isascii() and port.isdigit() else "vserver"


def set_cookie(host: str, secret: str, is_secure: bool) -> Mapping[str, str]:
    """Return the header that gives a browser its cookie, which it forgets when it is closed."""
    return {"set-cookie": f"{cookie_name(host)}={secret}; {ATTRIBUTES}{'; Secure' if is_secure else ''}"}


def remove_cookie(host: str) -> Mapping[str, str]:
    """Return the header that takes the cookie from a browser."""
    return {"set-cookie": f"{cookie_name(host)}=; Max-Age=0; {ATTRIBUTES}"}


ATTRIBUTES = "Path=/; HttpOnly; SameSite=Strict"
