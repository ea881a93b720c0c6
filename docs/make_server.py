"""Write docs/calls.md: the calls that the server answers or refuses, and the rules of the roles.

    python docs/make_server.py

A test compares the page with the output of this script.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

CALLS = """\
# The calls of the server

Generated from `vserverlib/serving` by [make_server.py](make_server.py): change the tables there, then run `make docs`.

The paths are below `/api`. GET, PATCH and DELETE also take an id, as in `task/12`. The token is a user's (U), a node's
(N) or a container's (C). `/api/openapi.json` has queries and bodies. See [the server](server.md).
"""
REFUSED = "Other methods of these are answered with 501 and the reason: "
ROLES = """\
A rule is an operation (V view, E edit, C create, D delete, R receive, S send) in scopes: g everywhere, c in one's
collaborations, o in one's organization, w one's own.
"""


def page() -> str:
    """Return the page."""
    return f"{CALLS}\n{_served()}\n{REFUSED}{_refused()}.\n\n## Roles\n\n{ROLES}\n{_roles()}"


def _served() -> str:
    from vserverlib.serving import routes

    methods: dict[str, list[str]] = {}
    kinds: dict[str, set[str]] = {}
    for route in routes.ROUTES:
        if route.kind != routes.REFUSED:
            path = route.path.removesuffix("/{id}").replace("{id}", "ID")
            methods.setdefault(path, []).append(route.method)
            kinds.setdefault(path, set()).update(route.callers)
    letters = {path: "".join(kind[0].upper() for kind in routes.ANYBODY if kind in kinds[path]) for path in kinds}
    rows = [(f"`{path}`", " ".join(dict.fromkeys(found)), letters[path]) for path, found in methods.items()]
    return _table(("call", "methods", "token"), rows)


def _refused() -> str:
    from vserverlib.serving import routes

    paths = [route.path.partition("/{")[0] for route in routes.ROUTES if route.kind == routes.REFUSED]
    return ", ".join(f"`{path}`" for path in dict.fromkeys(paths))


def _roles() -> str:
    from vserverlib.serving import permissions

    rows = [(resource, *cells.values()) for resource, cells in permissions.table().items()]
    return _table(("", *permissions.COLUMNS), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (f"| {' | '.join(cells)} |".replace("  ", " ") for cells in rows)
    return "\n".join([f"| {' | '.join(titles)} |".replace("  ", " "), f"|{'---|' * len(titles)}", *lines, ""])


if __name__ == "__main__":
    (HERE / "calls.md").write_text(page(), encoding="utf-8")
    print("written: docs/calls.md")
