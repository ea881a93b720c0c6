"""Commands that people type from habit: what to type here instead.

Only the entity and the name of the typed words are repeated, because any other word may hold a secret.
"""

from __future__ import annotations

from collections.abc import Sequence

CREATE = ("add", "new", "insert", "register")
ROLES = {"grant": "+=", "revoke": "-="}
APPLY = "apply"  # of kubectl


def instead(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words of the command that does what was typed; () if it is not known."""
    name, given = words[0], [word for word in words[1:] if not word.startswith("-")]
    if name in CREATE:
        named = [word for word in given[:2] if "=" not in word]
        return ("create", *named, *("ENTITY", "NAME")[len(named) :], "FIELD=VALUE")
    if name in ROLES:
        user, role = _user_and_role(given)
        return ("set", "user", user, f"roles{ROLES[name]}{role}")
    return ("import", *(given[:1] or ["FILE"]), "--merge") if name == APPLY else ()


def _user_and_role(given: Sequence[str]) -> tuple[str, str]:
    """Return the user and the role of `grant USER ROLE`, or of `grant ROLE to USER`."""
    if len(given) == 3 and given[1].lower() in ("to", "from"):
        return given[2], given[0]
    return (given[0], given[1]) if len(given) == 2 else (given[0] if len(given) == 1 else "USER", "ROLE")
