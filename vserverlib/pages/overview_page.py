"""The overview as a page: the figures of queries/dashboard.py."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from vserverlib.entities import rules
from vserverlib.entities.progress import ACTIVE
from vserverlib.pages import rendering
from vserverlib.queries import kinds, listing
from vserverlib.queries.dashboard import Dashboard
from vserverlib.queries.overview import UNSEEN_AFTER, Share
from vserverlib.terminal import check_report

MOST_SHARES = 30  # collaborations, and organizations


def main(found: Dashboard, title: str, link: str | None = None, query: str = "") -> Markup:
    """Return the main part. link: the address before the id of a task; None: tasks are no links. query: after it."""
    figures = found.overview
    return rendering.main_part(
        "overview.html",
        found=found,
        figures=figures,
        title=title,
        name=name(found, title),
        counts=[listing.pluralize(count, kinds.kind(plural)) for plural, count in figures.entities.items()],
        check=_check(found),
        collaborations=_shares(figures.collaborations),
        organizations=_shares(figures.organizations),
        most=MOST_SHARES,
        unseen_before=found.moment - UNSEEN_AFTER,
        link=link,
        query=query,
    )


def name(found: Dashboard, title: str) -> str:
    """Return the name of the page, for the tab of a browser."""
    return f"{found.overview.tasks[ACTIVE]:,} active · {title}"


def _shares(shares: list[Share]) -> list[Share]:
    return [share for share in shares if share.total]


def _check(found: Dashboard) -> Any:
    """Return when the last check was, and its summary; None if it is not seen, or never was."""
    last = found.overview.check
    if last is None:
        return None
    counts = {rules.ERROR: last.error, rules.WARNING: last.warning, rules.INFO: last.info}
    return last.at, check_report.summary(counts)
