"""Inputs and results as vantage6 4 stores them: base64 of JSON text. Encrypted ones cannot be read here."""

from __future__ import annotations

import base64
import binascii
import json


def encoded(text: str) -> str:
    """Return a text as it is stored."""
    return base64.b64encode(text.encode()).decode()


def readable(stored: str) -> str:
    """Return the JSON text that a stored text encodes; any other text, such as an encrypted one, as it is."""
    try:
        text = base64.b64decode(stored, validate=True).decode()
        json.loads(text)
    except (binascii.Error, ValueError, RecursionError):
        return stored
    return text
