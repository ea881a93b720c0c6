"""Passwords and API keys: validating, hashing with bcrypt, comparing with a hash.

As in vantage6: `$2b$`, 12 rounds (0.3 seconds). Nothing here uses a database.
"""

from __future__ import annotations

import contextlib
import re

from vserverlib import Error

ROUNDS = 12
MIN_PASSWORD, MIN_KEY = 8, 16  # characters: a shorter one is weak
MAX_BYTES = 72  # bcrypt ignores all bytes after these
MASK = "********"
UNKNOWN = "$2b$12$" + 53 * "."  # in the place of a hash that exists, but is hidden
KEYCLOAK = "$2b$12$" + "kept.in.Keycloak".ljust(53, ".")  # the same, for a secret that a server of release 5 never had
_HASH = re.compile(r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}", re.ASCII)


def is_hash(text: str) -> bool:
    """Whether a text is a bcrypt hash, and not the mask of one."""
    return _HASH.fullmatch(text) is not None and text not in (UNKNOWN, KEYCLOAK)


def holds_hash(value: object) -> bool:
    """Whether a value of any type contains a bcrypt hash."""
    return value is not None and _HASH.search(value if isinstance(value, str) else str(value)) is not None


def check_plain(name: str, plain: object) -> str:
    """Return the plain text; raise an Error, which never shows it, if it cannot be hashed."""
    if not isinstance(plain, str):
        raise Error(f"{name} takes text, not {type(plain).__name__}")
    if plain == "":
        raise Error(f"{name} is empty: give a value, or None")
    if set(plain) <= {"*", "•"} or plain in (UNKNOWN, KEYCLOAK):
        raise Error(f"{name} is a mask, not a secret: a stored secret cannot be read back, only replaced")
    if "\0" in plain:
        raise Error(f"{name} holds a NUL character: leave it out")
    size = len(plain.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise Error(f"{name} is {size} bytes long, bcrypt takes {MAX_BYTES}: shorten it")
    return plain


def weakness_of_password(plain: str) -> str:
    """Return the weaknesses of a password, without quoting it; "" if the server's API would accept it."""
    asked = {"upper case": str.isupper, "lower case": str.islower, "digit": str.isdigit}
    faults = [f"under {MIN_PASSWORD} characters"] if len(plain) < MIN_PASSWORD else []
    faults += [f"no {name}" for name, is_one in asked.items() if not any(map(is_one, plain))]
    return ", ".join(faults + ([] if any(not char.isalnum() for char in plain) else ["no special character"]))


def weakness_of_key(plain: str) -> str:
    """Return the weakness of an API key, without quoting it; "" if it has none."""
    import uuid  # 3 ms, needed for a new key only

    with contextlib.suppress(ValueError):
        if uuid.UUID(plain).version == 1:
            return "a version 1 UUID: it contains a time and a network address"
    return f"under {MIN_KEY} characters" if len(plain) < MIN_KEY else ""


def new_salt() -> str:
    """Return a new random salt."""
    import bcrypt

    return bcrypt.gensalt(ROUNDS).decode()


def new_key() -> str:
    """Return a new API key: a random UUID in lower case, which every release accepts."""
    import uuid

    return str(uuid.uuid4())


def make_hash(plain: str, salt: str | None = None) -> str:
    """Return the hash of a plain text, with a new salt unless one is given. Takes 0.3 seconds."""
    import bcrypt

    return bcrypt.hashpw(plain.encode("utf-8", "surrogatepass"), (salt or new_salt()).encode()).decode()


def matches(plain: object, stored: str | None) -> bool:
    """Whether a hash is that of a plain text. Takes 0.3 seconds."""
    if not isinstance(plain, str) or not plain or not stored or not is_hash(stored):
        return False
    encoded = plain.encode("utf-8", "surrogatepass")
    if len(encoded) > MAX_BYTES or "\0" in plain:
        return False
    import bcrypt

    return bcrypt.checkpw(encoded, stored.encode())
