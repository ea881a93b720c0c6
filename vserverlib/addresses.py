"""The name of a database as a user types it: a PostgreSQL URL, a path, or something that only looks like an address.

It owns the syntax: it recognizes URLs, splits them, converts them for libpq, shows them without a password, says why
another name is refused, and builds the command line for a database. It connects to nothing (servers.py does). Every
start imports it first, so it imports next to nothing.

A shown URL consists of parts that are known not to be a password: user, hosts, numeric ports, the database name, and
the values of options that libpq does not call secret. A name that cannot be split without doubt is shown as its scheme
alone, so a password stays hidden wherever it stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from vserverlib import printable

DEFAULT = "vserver.db"  # the database if the user names none
VARIABLE = "VSERVER_DATABASE"  # the environment variable that names another default
URL_FORM = "postgresql://USER@HOST/DATABASE"


class Form:
    """A regular expression that is compiled on first use: every start parses names, and most need few of these."""

    def __init__(self, text: str, flags: int = 0) -> None:
        self.text, self.flags = text, flags

    def __getattr__(self, name: str) -> Any:
        return getattr(re.compile(self.text, self.flags), name)


URL = Form(r"postgres(?:ql)?(?P<driver>\+\w+)?://", re.IGNORECASE)
SPELLINGS = ("postgresql://", "postgres://")  # the schemes that libpq accepts
FILE_URL = Form(r"sqlite(?:\+pysqlite)?:///", re.IGNORECASE)  # SQLAlchemy's URL of a SQLite file
# The beginning of any address; a path has none. The group `scheme` may be shown.
ADDRESS = Form(r"(?P<scheme>postgres\w*(?:\+\w+)?(?=:|//)|[\w+.-]*(?=://)|[\w+.-]{2,}(?=:/)):?/*", re.IGNORECASE)
OF_SCHEME = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+.-"
LOG_IN = Form(r"\s*(?:[^\s@]*//)?[^:/\s]*:.*@.*", re.DOTALL)  # user:password@host, without a scheme
# SQLAlchemy's regular expression (engine/url.py of 1.4, which vantage6 servers of release 4 use).
DRIVEN = Form(
    r"[\w+]+://(?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?:(?:\[(?P<ipv6>[^/?]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>[^/?]*))?)?"
    r"(?:/(?P<database>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
QUERY = Form(r"\?(?=[\w%]+=)")  # the start of a URL's options
HOSTS = Form(r"(?:\[[^\]]*\]|[^/?])*")  # the hosts of a URL, with their ports
PLACE = Form(r"(?:\[[\w:.%]*\]|[\w.%~-]*)(?P<port>:.*)?", re.DOTALL)  # one host and its port
PORT = Form(r":?[0-9]{0,5}", re.ASCII)
HOST_AND_PORT = Form(r"[A-Za-z0-9.-]*:[0-9]*")  # in SQLAlchemy's option `host`

# libpq's options, except those that it calls secret (a test asks libpq) and those that hold arbitrary text.
OPTIONS = frozenset(
    (
        *("host", "hostaddr", "port", "dbname", "user", "passfile", "service", "sslmode", "options"),
        *("application_name", "fallback_application_name", "client_encoding", "connect_timeout"),
        *("channel_binding", "require_auth"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        *("replication", "gssencmode", "gsslib", "gssdelegation", "krbsrvname", "requirepeer", "target_session_attrs"),
        *("sslcert", "sslkey", "sslcertmode", "sslrootcert", "sslcrl", "sslcrldir", "sslsni", "sslcompression"),
        *("sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version", "load_balance_hosts"),
        *("min_protocol_version", "max_protocol_version", "servicefile", "sslkeylogfile"),
        *("oauth_issuer", "oauth_client_id", "oauth_scope"),
    )
)
SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")  # libpq's
KEYWORD = rf"(?:{'|'.join(sorted((*OPTIONS, *SECRETS)))})\s*="
QUOTES = "'\"< \t\n"  # what an unpaired quote or bracket leaves before a name
PAIRS = Form(rf"[{QUOTES}\s]*(?:{KEYWORD}|\w+\s*=.*\s{KEYWORD})", re.IGNORECASE | re.DOTALL)  # connection strings
FIRST_PAIR = Form(rf"[^=]*?=?[{QUOTES}]*\b(?={KEYWORD})", re.IGNORECASE)  # no other value precedes it
ANY_PAIR = Form(rf"\b{KEYWORD}", re.IGNORECASE)
ASSIGNED = Form(rf"(?![./~]).*?\b(?:{'|'.join(SECRETS)})\s*=", re.IGNORECASE | re.DOTALL)  # anywhere in the name
TWO_NAMES = Form(r"://|=")  # in a URL's database: another address or a connection string follows
PAIR = Form(r"\s*(\w+)\s*=\s*([\w.,/+-]*)(?=\s|$)", re.ASCII)  # the value is unquoted and unescaped

DRIVER = "begin it with postgresql+psycopg2://"
ENCODED = "write % as %25, @ as %40, / as %2F, ? as %3F and # as %23 in a user name or password"


# A name as the user types it


def unwrapped(name: str | os.PathLike[str]) -> str:
    """Return an address without surrounding blanks and one pair of quotes; a path stays as it is.

    Both come from a shell or a file of environment variables.
    """
    text = os.fspath(name)
    bare = text.strip()
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\"":
        bare = bare[1:-1].strip()
    return bare if bare != text and _looks_like_one(bare) else text


def unquoted(name: str) -> str:
    """Return the value of an environment variable without a pair of quotes, unless a file has that name."""
    bare = name.strip()
    is_quoted = len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "'\""
    return bare[1:-1] if is_quoted and not os.path.lexists(name) else name


def is_url(name: str | os.PathLike[str]) -> bool:
    """Whether a name is the URL of a PostgreSQL database."""
    text = os.fspath(name)
    return "://" in text and URL.match(unwrapped(text)) is not None


def file_of(name: str) -> str:
    """Return the path in a SQLite URL, as SQLAlchemy reads it; return any other name unchanged."""
    text = unwrapped(name)
    found = FILE_URL.match(text)
    return QUERY.split(text[found.end() :], maxsplit=1)[0] if found else text


def _looks_like_one(text: str) -> bool:
    return any(form.match(text) for form in (ADDRESS, PAIRS)) or "://" in text


# Split into parts


class Parts(NamedTuple):
    """The parts of a URL as they are written there. log_in: all before the @, including a password."""

    log_in: str | None
    hosts: str
    database: str | None
    options: tuple[str, ...] | None

    @property
    def fault(self) -> str | None:
        """Return why a part may contain part of a password: a character is not encoded that has to be."""
        unknown = [pair for pair in self.options or () if _key(pair) not in OPTIONS and _key(pair) not in SECRETS]
        if QUERY.search(self.log_in or "") or any("@" in part for part in (self.hosts, self.database or "", *unknown)):
            return "it has an @ that does not end a user name and password"
        places = [PLACE.fullmatch(place) for place in self.hosts.split(",")]
        if not all(place and PORT.fullmatch(place["port"] or "") for place in places):
            return "its host is not a valid name, or its port is not a number"
        return None

    def without_secrets(self, start: str) -> str:
        """Return the URL without passwords. start: its scheme and slashes."""
        if self.fault is not None or TWO_NAMES.search(self.database or ""):
            return f"{start}..."
        user = "" if self.log_in is None else f"{self.log_in.partition(':')[0]}@"
        database = "" if self.database is None else f"/{self.database}"
        options = [pair for pair in self.options or () if _key(pair) in OPTIONS]
        query = "?" + "&".join(options) if options else ""
        return f"{start}{user}{self.hosts}{database}{query}"


def _apart(rest: str) -> Parts:
    """Split the text after `scheme://` as libpq does (conninfo_uri_parse_options in fe-connect.c)."""
    log_in: str | None
    log_in, at, behind = rest.partition("@")
    if not at or "/" in log_in:
        log_in, behind = None, rest
    hosts = HOSTS.match(behind)
    assert hosts is not None  # it also matches the empty text
    path, question, query = behind[hosts.end() :].partition("?")
    return Parts(log_in, hosts[0], path[1:] if path else None, tuple(query.split("&")) if question else None)


def _parts(url: str) -> Parts:
    """Split a PostgreSQL URL: as SQLAlchemy does if it names a driver, else as libpq does."""
    if not (URL.match(url) or {"driver": None})["driver"]:
        return _apart(url.partition("://")[2])
    found = DRIVEN.match(url)
    assert found is not None  # the caller has matched URL
    log_in = None if found["user"] is None else f"{found['user']}:{found['password'] or ''}"
    host = f"[{found['ipv6']}]" if found["ipv6"] else found["host"] or ""
    hosts = host if found["port"] is None else f"{host}:{found['port']}"
    options = None if found["query"] is None else tuple(found["query"].split("&"))
    return Parts(log_in, hosts, found["database"], options)


def _key(pair: str) -> str:
    """Return the name of an option of a URL."""
    key = pair.partition("=")[0]
    if "%" in key:
        from urllib.parse import unquote  # rarely needed

        key = unquote(key)
    return key


# Converted for libpq


def for_libpq(url: str) -> str:
    """Return a URL in libpq's syntax. One with a driver, such as a server's own URI, is read as SQLAlchemy reads it.

    See fault() for URLs that are wrong.
    """
    text = unwrapped(url)
    found = URL.match(text)
    if found is None or text.startswith(SPELLINGS):
        return text
    return SPELLINGS[0] + (_driven(text) if found["driver"] else text[found.end() :])


def _driven(url: str) -> str:
    """Return the part after `postgresql://` of a SQLAlchemy URL, rewritten for libpq.

    SQLAlchemy decodes user and password, but not the database name. An option may occur several times; `host` may, each
    with its port.
    """
    from urllib.parse import parse_qsl, quote, unquote  # rarely needed

    found = DRIVEN.match(url)
    assert found is not None  # the caller has matched URL
    user, password = (None if found[name] is None else quote(unquote(found[name]), "") for name in ("user", "password"))
    log_in = "" if user is None else f"{user}{'' if password is None else f':{password}'}@"
    database = f"/{quote(found['database'], '@')}" if found["database"] else "/"
    place, pairs = _placed(found["ipv6"], found["host"] or "", found["port"] or "")
    pairs += _several_hosts(parse_qsl(found["query"] or ""))
    query = "&".join(f"{quote(key, '')}={quote(value, '@')}" for key, value in pairs)
    return f"{log_in}{place}{database}" + (f"?{query}" if query else "")


def _placed(ipv6: str | None, host: str, port: str) -> tuple[str, list[tuple[str, str]]]:
    """Return host and port as part of a URL; of several hosts as options, where one port serves all."""
    if "," in host:
        return "", [("host", host), *([("port", port)] if port else [])]
    place = f"[{ipv6}]" if ipv6 else host
    return f"{place}:{port}".removesuffix(":").replace("%", "%25"), []


def _several_hosts(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return options with repeated hosts, or host:port pairs, merged for libpq: host=a,b and port=1,2."""
    hosts = [value for key, value in pairs if key == "host"]
    if not (len(hosts) > 1 or (hosts and HOST_AND_PORT.fullmatch(hosts[0]))):
        return pairs
    named = [host.partition(":") for host in hosts]
    others = [(key, value) for key, value in pairs if key != "host"]
    ports = [("port", ",".join(port for *_, port in named))] if any(port for *_, port in named) else []
    return [*others, ("host", ",".join(host for host, *_ in named)), *ports]


def fault(url: str) -> str | None:
    """Return why a URL is ambiguous and how to write it; None if it is not. Shows nothing of the URL."""
    text = unwrapped(url)
    why = _parts(text).fault
    if why is None:
        return None
    is_driven = "+" in text.partition("://")[0]
    return f"{why}: {ENCODED}" + ("" if is_driven else f"; for the uri of a vantage6 server: {DRIVER}")


# Shown


def shown(url: str) -> str:
    """Return a URL without its password, as it can be shown and typed again."""
    return printable(without_password(url), 200)


def command(name: str, *words: str) -> str:
    """Return the command line that runs a command on a database, printable, for a shell such as bash."""
    is_default = name == DEFAULT and not os.environ.get(VARIABLE)
    typed = ["vserver", *([] if is_default else ["-d", name]), *words]
    return " ".join(map(_quoted, typed))


def _quoted(word: str) -> str:
    import shlex  # few messages need it

    escaped = word.replace("\\", r"\\").replace("'", r"\'")
    if (safe := printable(escaped, 10 * len(escaped))) != escaped:
        return f"$'{safe}'"
    plain = word.replace("…", "x")  # the ellipsis, which a person replaces, needs no quotes
    return word if shlex.quote(plain) == plain else shlex.quote(word)


def without_password(name: str) -> str:
    """Return the name of a database without its passwords; a URL in libpq's syntax. A path stays as it is.

    In doubt it removes more than the password.
    """
    text = unwrapped(name)
    if _is_plain(text) or FILE_URL.match(text):
        return name
    if URL.match(text):
        url = for_libpq(text)
        start = url[: url.index("://") + 3]
        return f"{start}..." if _parts(text).fault else _apart(url[len(start) :]).without_secrets(start)
    if PAIRS.match(text):
        return "".join(_plain_pairs(text))
    if found := ADDRESS.match(text):
        return _apart(text[found.end() :])._replace(options=None).without_secrets(found[0])
    if _is_disguised(text):
        return "..."
    if "://" in text or ASSIGNED.match(text):
        return _plain_behind(text)
    return name


def _plain_behind(text: str) -> str:
    """Return an address or pairs behind other text, such as the name of a variable, without passwords."""
    address, pair = text.find("://"), ANY_PAIR.search(text)
    if pair and not 0 <= address < pair.start():
        before = FIRST_PAIR.match(text)
        return before[0] + "".join(_plain_pairs(text[before.end() :])) if before else "..."
    prefix = text[:address].rstrip(OF_SCHEME)
    return prefix + without_password(text.removeprefix(prefix))


def _is_plain(text: str) -> bool:
    """Whether a name has nothing of an address or a connection string."""
    return text.isascii() and not ("=" in text or ":" in text or "//" in text)


def _plain_pairs(text: str) -> Iterator[str]:
    """Return libpq's key=value pairs up to the first that may hold a secret or cannot be parsed with certainty."""
    text, at = text.lstrip(QUOTES), 0
    while (found := PAIR.match(text, at)) and found[1].lower() in OPTIONS:
        yield found[0]
        at = found.end()
    if text[at:].strip():
        key = re.match(r"\s*\w+\s*=", text[at:])
        yield key[0] if key else "..."


def _is_disguised(text: str) -> bool:
    """Whether a text is an address in letters that look like ASCII, such as full-width ones."""
    if text.isascii():
        return False
    import unicodedata  # rarely needed

    return _looks_like_one(unicodedata.normalize("NFKC", text))


def refusal(name: str) -> str | None:
    """Return why a name that looks like an address is not accepted, and what to type; None for a URL or a path."""
    text = unwrapped(name)
    if _is_plain(text) or is_url(text) or FILE_URL.match(text):
        return None
    if PAIRS.match(text):
        keys = re.findall(rf"\b{KEYWORD}", "".join(_plain_pairs(text)), re.IGNORECASE)
        typed = " ".join(f"{key.rstrip(' =').lower()}=…" for key in keys) or "…"
        return f"a connection string ({typed}) is not the name of a database here: type a URL, {URL_FORM}"
    if found := ADDRESS.match(text):
        return _refused_address(found["scheme"], text)
    if "://" in text or ASSIGNED.match(text) or _is_disguised(text):
        return f"an address with text before it, or in letters outside ASCII, is not a database: type a URL, {URL_FORM}"
    if LOG_IN.fullmatch(text) and not os.path.lexists(text):
        return f"a name like user:password@host is not a database: type a URL, {URL_FORM}, or ./ before a path"
    return None


def _refused_address(scheme: str, text: str) -> str | None:
    if scheme.lower().startswith("postgres"):
        return f'"{printable(scheme)}:" does not begin a PostgreSQL URL: type {URL_FORM}, with two slashes'
    if "://" in text or "@" in text:
        return f'"{printable(scheme)}://" is not a database that vserver can open: use a path, or {URL_FORM}'
    return None
