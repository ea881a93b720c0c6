"""Refusing a request: a Refusal is an answer with an error status. Functions raise it; the desk then rolls back."""

from __future__ import annotations

from collections.abc import Mapping

from vserverlib import printable

LACKING = "You lack the permission to do that!"


class Refusal(Exception):
    """An answer with an error status. errors: by field, of a body that does not fit."""

    def __init__(self, status: int, message: str, errors: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors


def not_found(noun: str, id: object) -> Refusal:
    """Return the answer for an entity that does not exist."""
    return Refusal(404, f"{noun} id={printable(id)} is not found")


def lacking() -> Refusal:
    """Return the answer for a caller without the right: 401, as the clients expect it."""
    return Refusal(401, LACKING)
