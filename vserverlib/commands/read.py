"""The commands that look, and change nothing: list, show, overview, check.

Each parses, calls one function, and prints what it returns; vserver.py puts them into the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from vserverlib import pluralize, printable
from vserverlib.commands import completers, printing
from vserverlib.commands.options import (
    CHOOSING,
    JSON_OUTPUT,
    LIST_OUTPUT,
    OUTPUT,
    PAGING,
    SHOWN,
    Paging,
    Target,
    command,
)
from vserverlib.messages import notify

CHUNK = 1000  # rows of one table, where a list is so long that it is printed as several


@command("list")
@click.argument("entity", shell_complete=completers.plurals)
@LIST_OUTPUT
@SHOWN
@CHOOSING
@PAGING
@click.pass_obj
def list_command(
    target: Target, /, entity: str, output: str, fields: str | None, wide: bool, paging: Paging, **asked: Any
) -> None:
    """List one kind of ENTITY, oldest first.

    ENTITY is organizations, users, collaborations, nodes, tasks or results; the singular will do.

    A FILTER is a field, an operator (= != < <= > >=, or ~ for "contains") and a value: status=failed,
    collaboration=ROTTERDAM, organization.country=NL, created_at>-2d, finished_at=null.
    """
    from vserverlib.queries import kinds, listing

    model = kinds.kind(entity)
    if fields == "help":
        return _print_fields(model, output)
    columns = _columns(model, output, fields, wide)
    with target.open(read_only=True):
        query = listing.query(model, **asked)
        if paging.everything:
            pages = listing.pages(query, CHUNK, columns, iso=output != "table")
        else:
            pages = iter([listing.page(query, paging.first, paging.size, columns, iso=output != "table")])
        last = printing.pages(pages, output, wide)
        printing.tell_of_more(last, paging, asked["where"], asked["search"])
    return None


def _columns(model: Any, output: str, fields: str | None, wide: bool) -> Any:
    """Return what is listed; a usage error where two options contradict each other."""
    from vserverlib.queries import columns

    if wide and (fields is not None or output != "table"):
        raise click.UsageError("--wide is for a table of all columns: leave out --fields and -o")
    if output == "name":
        if fields is not None:
            raise click.UsageError("-o name prints what other commands take, such as task/12: leave out --fields")
        return (columns.reference(model),)
    if fields is not None:
        return columns.chosen(model, fields)
    return columns.table_columns(model) if output == "table" else columns.COLUMNS[model]


def _print_fields(model: Any, output: str) -> None:
    """Print what can be named in --fields, --where and --sort."""
    from vserverlib.queries import columns, formats
    from vserverlib.terminal import views

    if output != "table":
        return printing.write(formats.WRITERS[output], columns.described(columns.known(model)))
    views.console().print(views.glossary(columns.described(columns.known(model))))
    links = ", ".join(f"{link.name}.…" for link in model._meta.refs)
    return notify(f"and any field of what a link leads to: {links}") if links else None


@command()
@click.argument("entity", shell_complete=completers.nouns)
@click.argument("id_or_name", metavar="ID|NAME", required=False, shell_complete=completers.labels)
@OUTPUT
@click.pass_obj
def show(target: Target, entity: str, id_or_name: str | None, output: str) -> None:
    """Show all about one ENTITY.

    That is its fields, how many others belong to it, and the first of them. Of a task it is how far each organization
    is, on a line of time, and the tasks that it came from and led to.

    ENTITY is organization, user, collaboration, node, task or result. One word will do, too: task/12.
    """
    from vserverlib.entities import finding
    from vserverlib.queries import columns, kinds, listing

    if id_or_name is None and "/" not in entity:
        raise click.UsageError(f"which {printable(entity)}? Give an id or a name, or both words as one: task/12")
    model = kinds.kind(entity.partition("/")[0] if id_or_name is None else entity)
    with target.open(read_only=True):
        found = finding.one(model, entity if id_or_name is None else id_or_name)
        if output == "table":
            from vserverlib.terminal import panels, views

            views.console().print(panels.entity_panel(found))
        else:
            printing.document(listing.of_entities([found], columns.COLUMNS[model])[0], output)


@command()
@OUTPUT
@click.pass_obj
def overview(target: Target, output: str) -> None:
    """Show how things stand.

    That is how many tasks are in each state, how far collaborations and organizations are, who is waited for longest,
    and which nodes were not seen for a day.
    """
    from vserverlib.queries import overview as figures

    with target.open(read_only=True) as database:
        found = figures.overview(database)
    if output == "table":
        from vserverlib.entities import fields
        from vserverlib.terminal import overview_screen, views

        views.console().print(overview_screen.OverviewView(found, database.title, fields.now()))
    else:
        printing.document(figures.as_data(found), output)


@command("check")
@click.argument("entities", metavar="[ENTITY]...", nargs=-1)
@click.option("--rule", "codes", metavar="CODE", multiple=True, help="Ask only this rule, such as NOD002. Repeatable.")
@click.option("--explain", metavar="CODE", help="Tell what a rule says, why, and what to do; ask nothing.")
@JSON_OUTPUT
@click.pass_context
def check_command(
    ctx: click.Context, entities: tuple[str, ...], codes: tuple[str, ...], explain: str | None, output: str
) -> None:
    """Tell what breaks the rules of the server's API, and what is wrong with the file.

    Without ENTITY it asks all: the rules, SQLite's own check of the file, links that lead nowhere, and whether the
    tables are those of a new database. Nothing is changed. The exit status is 1 when there are errors or warnings.

    ENTITY is organizations, users, collaborations, nodes, tasks or results.
    """
    from vserverlib.entities import checks
    from vserverlib.queries import inspection, kinds

    if explain is not None:
        _explain(inspection.find(explain))
        return
    asked = inspection.chosen([kinds.kind(entity)._meta.table_name for entity in entities], codes)
    with ctx.obj.open(read_only=True) as database:
        levels = checks.levels(_print_findings(inspection.inspect(database, asked), output))
        if not entities and not codes:
            _remember(database, levels)
    if levels["error"] or levels["warning"]:
        ctx.exit(1)
    number = pluralize(len(asked), "rule was", "rules were")
    notify(f"all is well: {number} asked, and nothing above level info was found")


def _explain(rule: Any) -> None:
    from vserverlib.terminal import check_report

    click.echo(f"{rule.code}, {rule.level}, asked {rule.when}")
    for title, text in (("breaks it", rule.breaks), ("why", rule.why), ("remedy", rule.remedy)):
        click.echo(f"{title + ':':<11}{check_report.plain(text)}")


def _print_findings(found: Iterator[Any], output: str) -> Any:
    """Print findings, and return how many there are by rule."""
    from collections import Counter

    from vserverlib.entities import checks
    from vserverlib.queries import formats
    from vserverlib.terminal import check_report, views

    if output == "table":
        few = checks.Findings(found, keep=check_report.SHOWN)
        if few:
            views.console().print(check_report.Report(few))
        return few.counts
    counts: Counter[str] = Counter()
    rows = (finding._asdict() for finding in checks.counting(found, counts))
    printing.write(formats.WRITERS[output], rows)
    return counts


def _remember(database: Any, levels: dict[str, int]) -> None:
    from vserverlib.entities import checks

    try:
        checks.remember(database, levels)
    except OSError as error:
        notify(f"what was found is not kept for the overview: {printable(error, 200)}", "yellow")


COMMANDS = (list_command, show, overview, check_command)
