"""The commands that only read: list, show, overview, why, check, help.

Each parses, calls one function and prints the result. vserver.py adds them to the program. Only `check --fix` writes:
clean_up.py has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import click

from vserverlib import UsageError, did_you_mean, pluralize, printable
from vserverlib.commands import clean_up, completers, html, printing
from vserverlib.commands.help_page import TOPICS
from vserverlib.commands.options import (
    COLUMNS,
    FILTERS,
    JSON_OUTPUT,
    LIST_OUTPUT,
    OUTPUT,
    PAGING,
    Target,
    command,
)
from vserverlib.commands.printing import Paging
from vserverlib.messages import notify

TABLE_ROWS = 1000  # a longer list is printed as several tables
ROWS_IN_MEMORY = 20  # of other formats: a result may have megabytes


@command("list")
@click.argument("entity", shell_complete=completers.plurals)
@FILTERS
@click.option("--newest", is_flag=True, help="Begin with the newest, as --sort -id does.")
@COLUMNS
@PAGING
@LIST_OUTPUT
@click.pass_obj
def list_command(
    target: Target,
    /,
    entity: str,
    output: str,
    fields: str | None,
    wide: bool,
    newest: bool,
    paging: Paging,
    **asked: Any,
) -> None:
    """List entities of one kind, oldest first.

    ENTITY is organizations, users, collaborations, nodes, tasks or results, or its singular.

    A FILTER is a field, an operator and a value, such as status=failed: see `vserver help filters`.

    $ vserver list tasks --where status=failed --newest
    $ vserver list results --where task.name~cox --where 'finished_at>2026-02-10'
    $ vserver list users --fields username,organization.country -o csv
    """
    from vserverlib.queries import kinds, listing

    model = kinds.kind(entity)
    if fields == "help":
        return _print_fields(model, output)
    columns = _columns(model, output, fields, wide)
    if newest and asked["sort"]:
        raise click.UsageError("--newest sorts by -id: leave out --sort, or write --sort with -id at its end")
    asked["sort"] = "-id" if newest else asked["sort"]
    with target.open(read_only=True):
        query = listing.query(model, **asked)
        if paging.everything:
            size = TABLE_ROWS if output == "table" else ROWS_IN_MEMORY
            pages = listing.pages(query, size, columns, iso=output != "table")
        else:
            pages = iter([listing.page(query, paging.first, paging.size, columns, iso=output != "table")])
        with printing.paged() as reader:
            last = printing.pages(pages, output, wide)
        if not reader.has_quit:
            printing.hint_at_more(last, paging, **asked)
    return None


def _columns(model: Any, output: str, fields: str | None, wide: bool) -> Any:
    """Return the columns to list. Raises a usage error for options that exclude each other."""
    from vserverlib.queries import columns

    if wide and (fields is not None or output != "table"):
        raise click.UsageError("--wide is for a table with all columns: leave out --fields and -o")
    if output == "name":
        if fields is not None:
            raise click.UsageError("-o name prints arguments for other commands, such as task/12: leave out --fields")
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
    with printing.paged():
        views.console().print(views.glossary(columns.described(columns.known(model))))
    links = ", ".join(f"{link.name}.…" for link in model._meta.refs)
    return notify(f"and the fields of linked entities: {links}") if links else None


@command()
@click.argument("entity", shell_complete=completers.nouns)
@click.argument("id_or_name", metavar="ID|NAME", required=False, shell_complete=completers.labels)
@click.option("--follow", is_flag=True, help="Print the log of a result as it grows, until its run has ended.")
@html.OUTPUT
@click.pass_context
def show(ctx: click.Context, /, entity: str, id_or_name: str | None, follow: bool, output: str) -> None:
    """Show one entity.

    Shows its fields and the entities that belong to it; for a task, the progress of each organization on a time line,
    and its parent and child tasks. In JSON and YAML, `related` has these as rows.

    ENTITY is organization, user, collaboration, node, task or result. ENTITY and ID can be one word: task/12.

    $ vserver show task 8
    $ vserver show result 1 --follow
    $ vserver show task/8 -o html > task-8.html
    """
    from vserverlib.entities import finding
    from vserverlib.queries import kinds

    target: Target = ctx.obj
    model = kinds.kind(entity.partition("/")[0] if id_or_name is None else entity)
    if id_or_name is None and "/" not in entity:
        raise target.which(model)
    if follow:
        if model.noun != "result" or output != "table":
            raise click.UsageError("--follow prints the log of a result: vserver show result ID --follow", ctx)
        return _follow(target, model, entity if id_or_name is None else id_or_name)
    with target.open(read_only=True) as database, printing.paged():
        found = finding.one(model, entity if id_or_name is None else id_or_name)
        if output == "table":
            from vserverlib.terminal import panels, views

            views.console().print(panels.entity_panel(found))
        elif output == "html":
            html.entity(database, found)
        else:
            from vserverlib.queries import related

            printing.document(related.document(found), output)
    return None


def _follow(target: Target, model: Any, word: str) -> None:
    from vserverlib.entities import finding
    from vserverlib.terminal import log_following

    with target.open(read_only=True) as database:
        log_following.follow(database, finding.one(model, word).id)


@command()
@click.argument("file", required=False, shell_complete=completers.files)
@click.option("--all", "everything", is_flag=True, help="Show all collaborations, organizations and unseen nodes.")
@html.OUTPUT
@click.pass_obj
def overview(target: Target, file: str | None, output: str, everything: bool) -> None:
    """Show a status overview.

    Shows the number of tasks in each state, the progress of collaborations and organizations, who has owed results for
    longest, and nodes that were not seen for a day. JSON and YAML always have all of them. `-o html` is the page that
    `vserver start` serves, as one file: FILE, or stdout.

    $ vserver overview
    $ vserver overview --all
    $ vserver overview -o html monday.html
    """
    from vserverlib.queries import overview as figures

    if file is not None and output != "html":
        raise click.UsageError(_why_no_file(file))
    if output == "html":
        return _overview_page(target, file)
    with target.open(read_only=True) as database:
        found = figures.overview(database)
    if output == "table":
        from vserverlib.entities import fields
        from vserverlib.terminal import overview_screen, views

        with printing.paged():
            views.console().print(overview_screen.OverviewView(found, database.title, fields.now(), everything))
    else:
        with printing.paged():
            printing.document(figures.as_data(found), output)
    return None


def _why_no_file(file: str) -> str:
    from vserverlib.commands import habits

    if habits.is_database(file):
        return habits.database_first(file, "overview")
    return "FILE is for -o html: leave it out, or send the output there with >"


def _overview_page(target: Target, file: str | None) -> None:
    from vserverlib.databases import storage

    with target.open(read_only=True) as database, printing.paged():
        html.overview(database, None if file in (None, "-") else storage.as_path(file))


@command("why")
@click.argument("task", shell_complete=completers.tasks)
@OUTPUT
@click.pass_obj
def why_command(target: Target, task: str, output: str) -> None:
    """Explain why a task is not finished.

    Names each organization that is waited for, since when, its node and when that was last seen, and what keeps it
    from finishing: no node, no membership, no key in an encrypted collaboration. Shows the end of the logs of failed
    results. The exit status is 0, whatever the answer.

    TASK is an id or a name.

    $ vserver why 11
    $ vserver why "Kaplan-Meier survival" -o json
    """
    from vserverlib.queries import why

    with target.open(read_only=True) as database:
        found = why.why(database, task)
    if output == "table":
        from vserverlib.terminal import views, why_report

        views.console().print(why_report.WhyView(found))
    else:
        printing.document(why.as_data(found), output)


@command("check")
@click.argument("entities", metavar="[ENTITY]...", nargs=-1, shell_complete=completers.plurals)
@click.option(
    "--rule",
    "codes",
    metavar="CODE",
    multiple=True,
    shell_complete=completers.rules,
    help="Apply only this rule, such as NOD002. Repeatable.",
)
@click.option(
    "--explain",
    metavar="CODE",
    shell_complete=completers.explained,
    help="Explain a rule and its remedy, without a check.",
)
@click.option("--fix", is_flag=True, help="First fix what needs no guess, after a confirmation.")
@click.option("--dry-run", is_flag=True, help="With --fix, only show what would be fixed.")
@click.option("--yes", is_flag=True, help="With --fix, skip the confirmation.")
@JSON_OUTPUT
@click.pass_context
def check_command(
    ctx: click.Context,
    /,
    entities: tuple[str, ...],
    codes: tuple[str, ...],
    explain: str | None,
    output: str,
    fix: bool,
    **options: bool,
) -> None:
    """Check the database against the server API's rules.

    Without ENTITY, also checks the file for damage, links to missing rows, invalid values, and changed tables. Changes
    nothing without --fix, which never changes organizations, users, nodes or tasks: the report names the command for
    these. The exit status is 1 if there are errors or warnings, and 4 if something could not be checked. `vserver
    help rules` lists the rules.

    ENTITY is organizations, users, collaborations, nodes, tasks or results.

    $ vserver check nodes results -o jsonl
    $ vserver check --explain NOD002
    $ vserver check --fix --yes
    """
    from vserverlib.entities import checks
    from vserverlib.queries import inspection, kinds

    if explain is not None:
        _explain(inspection.find(explain))
        return
    if not fix and any(options.values()):
        raise click.UsageError("--dry-run and --yes need --fix")
    asked = inspection.chosen([kinds.kind(entity)._meta.table_name for entity in entities], codes)
    if fix:
        clean_up.fix(ctx.obj, asked, **options)
        if options["dry_run"]:
            return
    with ctx.obj.open(read_only=True) as database:
        levels = checks.levels(_print_findings(ctx.obj, inspection.inspect(database, asked), output))
        if not entities and not codes:
            _remember(database, levels)
    if levels["error"] or levels["warning"]:
        ctx.exit(1)
    number = pluralize(len(asked), "rule was", "rules were")
    notify(f"all is well: {number} applied, without errors or warnings")


def _explain(rule: Any) -> None:
    from vserverlib.terminal import check_report

    click.echo(f"{rule.code}, {rule.level}, applied {rule.when}")
    for title, text in (("breaks it", rule.breaks), ("why", rule.why), ("remedy", rule.remedy)):
        click.echo(f"{title + ':':<11}{check_report.plain(text)}")


def _print_findings(target: Target, found: Iterator[Any], output: str) -> Any:
    """Print findings, and return their number by rule."""
    from collections import Counter, deque

    from vserverlib.entities import checks
    from vserverlib.queries import formats
    from vserverlib.terminal import check_report, views

    if output == "table":
        few = checks.Findings(found, keep=check_report.SHOWN)
        if few:
            to_change = partial(target.command, *(["--write"] if target.is_of_server else []))
            with printing.paged():
                views.console().print(check_report.Report(few, to_change))
        return few.counts
    counts: Counter[str] = Counter()
    rows = (finding._asdict() for finding in checks.counting(found, counts))
    with printing.paged():
        printing.write(formats.WRITERS[output], rows)
    deque(rows, maxlen=0)  # counts the rest if the user has quit the pager
    return counts


def _remember(database: Any, levels: dict[str, int]) -> None:
    from vserverlib.entities import checks

    try:
        checks.remember(database, levels)
    except OSError as error:
        notify(f"the overview will not show this check: {printable(error, 200)}", "yellow")


@command("help")
@click.argument("topic", metavar="[TOPIC|COMMAND]", required=False, shell_complete=completers.topics)
@click.pass_context
def help_command(ctx: click.Context, topic: str | None) -> None:
    """Show help for a topic or a command.

    TOPIC is environment, exit-statuses, filters, formats, rules or servers.

    $ vserver help filters
    $ vserver help list
    """
    program = ctx.find_root()
    commands: dict[str, click.Command] = getattr(program.command, "commands", {})
    if topic is None:
        _print_help(program.get_help())
    elif topic in TOPICS:
        from vserverlib.commands import topics

        _print_help(topics.page(topic, program.command))
    elif topic in commands:
        _print_help(commands[topic].make_context(topic, [], parent=program, resilient_parsing=True).get_help())
    else:
        near = did_you_mean(topic, [*TOPICS, *commands])
        raise UsageError(f'no help topic or command "{printable(topic)}"{near or ": see vserver help"}')


def _print_help(text: str) -> None:
    with printing.paged():
        click.echo(text)


COMMANDS = (list_command, show, overview, why_command, check_command, help_command)
