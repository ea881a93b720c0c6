"""The name of a database, as it is typed: a URL of PostgreSQL, a path, or what only looks like an address.

It owns the spelling: which names are URLs, how one is shown (without a password), how libpq is given it, why others are
refused, and what is typed to run a command on one. Nothing here connects to anything: that is servers.py's. It is
imported before all else, and so imports next to nothing.
"""

from __future__ import annotations

import os
import re

from vserverlib import inert

DEFAULT = "vserver.db"  # what is meant where nothing is named
VARIABLE = "VSERVER_DATABASE"  # of the environment, which names another one

URL = re.compile(r"postgres(?:ql)?(\+\w+)?://", re.IGNORECASE)  # SQLAlchemy's too: postgresql+psycopg2://…
SPELLINGS = ("postgresql://", "postgres://")  # those that libpq knows
ADDRESS = re.compile(r"(postgres\w*(?:\+\w+)?:/*|[\w+.-]{2,}:/+)", re.IGNORECASE)  # a path does not begin like this
KEYWORDS = ("dbname", "host", "hostaddr", "port", "user", "password", "passfile", "service", "sslmode", "options")
SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")  # libpq's

PAIRS = re.compile(rf"\s*(?:{'|'.join((*KEYWORDS, *SECRETS))})\s*=", re.IGNORECASE)  # libpq's strings begin like this
FIRST_SECRET = re.compile(rf"\b((?:{'|'.join(SECRETS)})\s*=).*", re.IGNORECASE | re.DOTALL)
KEYWORD = re.compile(rf"\b({'|'.join((*KEYWORDS, *SECRETS))})\s*=", re.IGNORECASE)
LOG_IN = re.compile(rf"({ADDRESS.pattern}[^:@/]*):[^@/]*@", re.IGNORECASE)  # user:password@, as libpq reads it
MISREAD = re.compile(rf"({ADDRESS.pattern}[^:@/?]*)(?::.*|@[^/]*)@", re.IGNORECASE | re.DOTALL)  # one with / or @ in it
QUERY = re.compile(r"\?(?=[\w%]+=)")  # where the options of a URL begin

MEANT = "postgresql://USER@HOST/DATABASE"


def is_url(name: str | os.PathLike[str]) -> bool:
    """Whether a name is the URL of a PostgreSQL database."""
    return URL.match(os.fspath(name)) is not None


def for_libpq(url: str) -> str:
    """Return a URL as libpq takes it: what SQLAlchemy spells in its own way begins as libpq's own."""
    return url if url.startswith(SPELLINGS) else URL.sub(SPELLINGS[0], url, count=1)


def shown(url: str) -> str:
    """Return a URL as it may be shown and typed again: without a password."""
    return inert(plain(url), 200)


def command(name: str, *words: str) -> str:
    """Return what is typed to run a command on a database, by how it is shown."""
    import shlex  # nothing is told of most databases

    is_meant = name == DEFAULT and not os.environ.get(VARIABLE)
    return shlex.join(["vserver", *([] if is_meant else ["-d", name]), *words])


def plain(name: str) -> str:
    """Return the name of a database without the passwords in it; that of a URL is then one that libpq takes.

    In doubt more is taken away than a password. A path is as it was.
    """
    if PAIRS.match(name):
        return FIRST_SECRET.sub(r"\1", name)
    if not ADDRESS.match(name):
        return name
    head, *options = QUERY.split(for_libpq(LOG_IN.sub(r"\1@", name)), maxsplit=1)
    kept = [pair for pair in options[0].split("&") if not _is_secret(pair)] if options else []
    return MISREAD.sub(r"\1@", head) + ("?" + "&".join(kept) if kept else "")


def _is_secret(pair: str) -> bool:
    key = pair.partition("=")[0]
    if "%" in key:
        from urllib.parse import unquote  # few write an option so

        key = unquote(key)
    return key.strip().lower() in SECRETS


def refusal(name: str) -> str | None:
    """Return why a name that looks like an address is no database here, and what to type; None for a URL or a path."""
    if PAIRS.match(name):
        typed = " ".join(dict.fromkeys(f"{key.lower()}=…" for key in KEYWORD.findall(name)))
        return f"a connection string ({typed}) is not the name of a database here: type a URL, {MEANT}"
    found = ADDRESS.match(name)
    if found is None or is_url(name):
        return None
    scheme = found[1].rstrip("/")
    if scheme.lower().startswith("postgres"):
        return f'"{inert(scheme)}" is no URL of PostgreSQL as it is typed: it is {MEANT}, with two slashes'
    if "://" in name or "@" in name:
        return f'"{inert(scheme)}//" is no database that vserver knows: use a path, or {MEANT}'
    return None
