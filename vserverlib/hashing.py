"""Passwords and API keys: what may become one, its bcrypt hash, and whether a plain text fits a hash.

The formula is bcrypt's, as vantage6 uses it: `$2b$`, 12 rounds (0.3 seconds). Nothing here touches a database.
"""

from __future__ import annotations

import contextlib
import re

from vserverlib import Error

ROUNDS = 12
SHORTEST_PASSWORD, SHORTEST_KEY = 8, 16  # characters: a shorter one is weak
LONGEST = 72  # bytes: bcrypt looks at no more
MASK = "********"
UNKNOWN = "$2b$12$" + 53 * "."  # a mask in the form of a hash: it stands for one that is there, and not to be known
KEYCLOAK = "$2b$12$" + "kept.in.Keycloak".ljust(53, ".")  # the same, for a secret that a server of release 5 never had
_HASH = re.compile(r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}", re.ASCII)


def is_hash(text: str) -> bool:
    """Whether a text is a ready bcrypt hash, of which something may be known."""
    return _HASH.fullmatch(text) is not None and text not in (UNKNOWN, KEYCLOAK)


def holds_hash(value: object) -> bool:
    """Whether a value of any type holds a bcrypt hash, among other text too."""
    return value is not None and _HASH.search(value if isinstance(value, str) else str(value)) is not None


def check_plain(name: str, plain: object) -> str:
    """Return the plain text; raise an Error, which never shows it, where it cannot become a hash."""
    if not isinstance(plain, str):
        raise Error(f"{name} takes text, not {type(plain).__name__}")
    if plain == "":
        raise Error(f"{name} is empty: give one, or None for none")
    if set(plain) <= {"*", "•"} or plain in (UNKNOWN, KEYCLOAK):
        raise Error(f"{name} is a mask, not a secret: what is stored cannot be read back, only replaced")
    if "\0" in plain:
        raise Error(f"{name} holds a NUL character: leave it out")
    size = len(plain.encode("utf-8", "surrogatepass"))
    if size > LONGEST:
        raise Error(f"{name} is {size} bytes long, bcrypt takes {LONGEST}: shorten it")
    return plain


def weakness_of_password(plain: str) -> str:
    """Return what makes a password weak, without a word of it; "" for one that the server's API would take."""
    asked = {"upper case": str.isupper, "lower case": str.islower, "digit": str.isdigit}
    faults = [f"under {SHORTEST_PASSWORD} characters"] if len(plain) < SHORTEST_PASSWORD else []
    faults += [f"no {name}" for name, is_one in asked.items() if not any(map(is_one, plain))]
    return ", ".join(faults + ([] if any(not char.isalnum() for char in plain) else ["no special character"]))


def weakness_of_key(plain: str) -> str:
    """Return what makes an API key weak, without a word of it; "" for a good one."""
    import uuid  # 3 ms that only a new key has to pay

    with contextlib.suppress(ValueError):
        if uuid.UUID(plain).version == 1:
            return "a version 1 UUID: it tells a time and a network address"
    return f"under {SHORTEST_KEY} characters" if len(plain) < SHORTEST_KEY else ""


def new_salt() -> str:
    """Return a fresh salt."""
    import bcrypt

    return bcrypt.gensalt(ROUNDS).decode()


def new_key() -> str:
    """Return an API key: a random UUID in lower case, which is what every release takes."""
    import uuid

    return str(uuid.uuid4())


def make_hash(plain: str, salt: str | None = None) -> str:
    """Return the hash of a plain text, with a salt of its own unless one is given. Takes 0.3 seconds."""
    import bcrypt

    return bcrypt.hashpw(plain.encode("utf-8", "surrogatepass"), (salt or new_salt()).encode()).decode()


def fits(plain: object, stored: str | None) -> bool:
    """Whether a plain text is the one that was hashed. Takes 0.3 seconds."""
    if not isinstance(plain, str) or not plain or not stored or not is_hash(stored):
        return False
    encoded = plain.encode("utf-8", "surrogatepass")
    if len(encoded) > LONGEST or "\0" in plain:
        return False
    import bcrypt

    return bcrypt.checkpw(encoded, stored.encode())
