"""`log` of a vantage6 server's database: the plans that vserver applied to it, newest first."""

from __future__ import annotations

import datetime
from typing import Any

import click

from vserverlib import addresses, printable
from vserverlib.commands import printing
from vserverlib.commands.options import Target
from vserverlib.commands.printing import Paging
from vserverlib.messages import notify

UNKNOWN = ("entity", "id", "session")  # of the journal, which a server's database does not have


def show(
    target: Target,
    output: str,
    paging: Paging,
    *,
    actor: str | None = None,
    since: str | None = None,
    changes: tuple[int, ...] = (),
    **others: Any,
) -> None:
    """Print the applied plans. others: the filters of a journal; a UsageError if there are any."""
    from vserverlib.plans import reverting, working_copy

    if chosen := next((name for name in UNKNOWN if others.get(name) is not None), None):
        raise click.UsageError(f"--{chosen} is for a journal, which a server's database does not have")
    after, of = _moment(since), working_copy.target_of(target.path)
    found = [
        record
        for record in reverting.log(of)
        if (actor is None or record.actor == actor) and record.at >= after and (not changes or record.number in changes)
    ]
    end = None if paging.everything else paging.first + paging.size
    shown = reverting.marked(of, found[paging.first : end])
    if output != "table":
        from vserverlib.queries import formats

        printing.write(formats.WRITERS[output], (_row(record, with_plan=bool(changes)) for record in shown))
    else:
        from vserverlib.terminal import plan_screen, views

        views.console().print(plan_screen.AppliedLog(shown, with_plans=bool(changes)))
    if found:
        printing.hint_at_pages(paging.first + len(shown) if shown else 0, len(found), paging)
    elif output == "table":
        notify(_nothing(target, reverting.copied_from(of), narrowed=bool(actor or since or changes)))


def _nothing(target: Target, original: Any, *, narrowed: bool) -> str:
    from vserverlib.plans import records

    name = printable(target.name, 200)
    if narrowed:
        return f"this account's records have nothing applied to {name} that matches"
    if original is not None:
        line = addresses.command(str(original), "log")
        return f"this account's records have nothing applied to {name}, but it is a copy of a file with some: {line}"
    return f"this account's records have nothing applied to {name}: {records.PER_ACCOUNT}"


def _moment(since: str | None) -> datetime.datetime:
    from vserverlib.entities import journal

    if since is None:
        return datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return datetime.datetime.fromisoformat(journal.stored_time(since)).replace(tzinfo=datetime.UTC)


def _row(record: Any, *, with_plan: bool) -> dict[str, Any]:
    """Return a record as an object for programs."""
    row = record._asdict()
    del row["orphan_links"], row["identity"]
    if not with_plan:
        del row["plan"]
    at = record.at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {**row, "at": at, "path": str(record.path)}
