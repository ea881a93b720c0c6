"""Passwords for commands: typed at the terminal without being shown, or one line of stdin. Never an argument."""

from __future__ import annotations

import sys

import click

from vserverlib import Error


def typed(prompt: str, option: str) -> str:
    """Ask for a password twice. option: that reads it from stdin, for the message without a terminal."""
    if not sys.stdin.isatty():
        raise Error(f"no terminal to type the password: pipe it in with {option}")
    password: str = click.prompt(prompt, hide_input=True, confirmation_prompt="Repeat the password", err=True)
    return password


def piped(option: str) -> str:
    """Return the one line of stdin. option: that asked for it."""
    try:
        line, *more = sys.stdin.buffer.read().decode().splitlines() or [""]
    except UnicodeDecodeError:
        raise Error("stdin is not UTF-8 text: no password was set") from None
    if more:
        raise Error(f"{option} takes one line, not {len(more) + 1}: no password was set")
    return line


def require(password: str, option: str) -> str:
    """Return a password that was read; an Error if it is empty."""
    if not password:
        raise Error(f"User.password is empty: {option} takes one line; no password was set")
    return password
