"""Whether inputs are encrypted. The server has no keys: it looks at their form.

An input that anybody can read is base64 of text. An encrypted one is base64(key)$base64(iv)$base64(text).
"""

from __future__ import annotations

import base64
import binascii

from vserverlib.serving.refusals import Refusal

PARTS = 3


def is_readable(text: str) -> bool:
    """Whether a text is base64 of text in UTF-8."""
    try:
        base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return False
    return True


def is_encrypted(text: str) -> bool:
    """Whether a text has the form of an encrypted one."""
    parts = text.split("$")
    return len(parts) == PARTS and all(part and _is_base64(part) for part in parts)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def require(text: str, encrypted: bool) -> None:
    """Raise a 400 for an input that is readable in an encrypted collaboration, or unreadable in another."""
    if encrypted and not is_encrypted(text):
        raise Refusal(400, "the input is not encrypted, but the collaboration is: set up encryption in the client")
    if not encrypted and not is_readable(text):
        raise Refusal(400, "the input is not base64 of text; the collaboration is not encrypted: do not encrypt it")
