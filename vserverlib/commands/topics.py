"""The texts of `vserver help TOPIC`, as Markdown: the terminal and the pages in docs/ have the same text.

Rules, formats and units come from the modules that own them. Exit statuses and environment variables are defined here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import click

from vserverlib import addresses, signals
from vserverlib.commands.options import NOT_READ
from vserverlib.messages import THEMES
from vserverlib.terminal import watching

WIDTH = 80  # columns, also in a wider terminal

EXIT_STATUSES = {
    "0": "Success.",
    "1": "Failure; stderr has one line that explains it. `wait` and `run`: a task failed. `check`: there are errors or "
    "warnings. Without a message: the reader of the pipe has closed it, as `head` does.",
    "2": "Usage error: an unknown option, entity or field, or options that exclude each other.",
    f"{watching.TIMED_OUT}": "`wait` timed out.",
    f"{NOT_READ}": "`check`, `wait` and `run`: the database or a task could not be read, or posted. In other "
    "commands that is 1.",
    f"{signals.INTERRUPTED}": "Ctrl-C.",
    "143, 129": "SIGTERM, SIGHUP, after a cleanup. Shells see these statuses; other programs see -15, -1.",
}
ENVIRONMENT = {
    addresses.VARIABLE: f"The database to open without `-d`: a path or URL. Default: `{addresses.DEFAULT}`.",
    "VSERVER_STRICT": "`1` refuses to save anything that prints a warning, as `--strict` does.",
    "VSERVER_ACTOR": "Your name in the journal. Default: the user name of the operating system.",
    "VSERVER_THEME": f"The background of the terminal: {', '.join(f'`{theme}`' for theme in THEMES)} (no colours).",
    "VSERVER_HOME": "The folder of the history and of the last check. Default: `vserver` in the user's data folder, "
    "such as `~/.local/share` (`XDG_DATA_HOME`).",
    "VSERVER_PAGER": "The pager for output longer than the screen; empty for none, as with `--no-pager`. Default: "
    "`PAGER`, or else `less -FRX`.",
    "NO_COLOR": "Any value turns off colours.",
    "COLUMNS": "The width of tables. Default: the width of the terminal, or 120 in a pipe.",
    "TERM": "`dumb` turns off colours and progress bars.",
    "TMPDIR": "The folder of private copies, such as those of `--sandbox`.",
    "PGPASSWORD": "The password for a PostgreSQL server. `~/.pgpass` is safer. libpq's other variables work too.",
}
FORMATS = {
    "table": "A table that fits the terminal.",
    "json": "An array of objects, or one object.",
    "jsonl": "One object per line; a list of any length takes constant memory.",
    "csv": "For spreadsheets: `'` escapes formulas, null is empty.",
    "yaml": "Ambiguous texts are quoted.",
    "html": "One file for a browser, without scripts; needs jinja2.",
    "name": "Arguments for other commands, such as `task/12`.",
}


def page(topic: str, program: click.Command) -> str:
    """Return a topic as text for a terminal, formatted as `--help` is."""
    formatter = click.HelpFormatter(width=WIDTH)
    for part in re.split("^#+ ", markdown(topic, program), flags=re.MULTILINE)[1:]:
        title, *blocks = part.strip().split("\n\n")
        with formatter.section(title):
            for number, block in enumerate(blocks):
                if number:
                    formatter.write_paragraph()
                _write(block, formatter)
    return formatter.getvalue().strip()


def _write(block: str, formatter: click.HelpFormatter) -> None:
    """Write a table, a block of code or a paragraph of Markdown."""
    lines = block.splitlines()
    if block.startswith("|"):
        formatter.write_dl([_cells(line) for line in lines[2:]], col_max=WIDTH // 2)
    elif block.startswith("```"):
        formatter.write("".join(f"  {line}\n" for line in lines[1:-1]))
    else:
        formatter.write_text(block)


def _cells(line: str) -> tuple[str, str]:
    """Return the first columns of a row as one, and the last one. Only the last one keeps the marks of code."""
    *first, last = (cell.strip() for cell in line.strip("|").split("|"))
    return "  ".join(first).replace("`", ""), last


def markdown(topic: str, program: click.Command) -> str:
    """Return a topic as Markdown."""
    return TEXTS[topic](program)


def _environment(program: click.Command) -> str:
    rows = ((f"`{name}`", about) for name, about in ENVIRONMENT.items())
    return f"# Environment\n\n{_table(('variable', 'meaning'), rows)}"


def _exit_statuses(program: click.Command) -> str:
    return f"# Exit statuses\n\n{_table(('status', 'meaning'), EXIT_STATUSES.items())}"


def _formats(program: click.Command) -> str:
    rows = ((f"`-o {name}`", f"{about} In {_commands_with(name, program)}.") for name, about in FORMATS.items())
    return f"# Formats\n\n{_table(('option', 'format'), rows)}\n{FORMATS_TEXT}"


def _commands_with(output: str, program: click.Command) -> str:
    """Return the commands that have an output format."""
    commands: dict[str, click.Command] = getattr(program, "commands", {})
    options = ((name, option) for name in sorted(commands) for option in commands[name].params)
    choices = {
        name: option.type.choices
        for name, option in options
        if isinstance(option.type, click.Choice) and option.name == "output"
    }
    found = [name for name in choices if output in choices[name]]
    return "all commands with `-o`" if len(found) == len(choices) else ", ".join(f"`{name}`" for name in found)


def _rules(program: click.Command) -> str:
    from vserverlib.entities import rules

    ends = {rules.AT_SAVE: " (save only)", rules.AT_CHECK: " (check only)"}
    rows = ((rule.code, rule.level, rule.breaks + ends.get(rule.when, "")) for rule in rules.RULES)
    return f"# Rules\n\n{RULES_TEXT}\n{_table(('code', 'level', 'broken by'), rows)}"


def _servers(program: click.Command) -> str:
    return SERVERS_TEXT


def _filters(program: click.Command) -> str:
    return FILTERS_TEXT


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = (f"| {' | '.join(line)} |\n" for line in [titles, *rows])
    return f"{next(lines)}{'|---' * len(titles)}|\n{''.join(lines)}"


TEXTS: dict[str, Callable[[click.Command], str]] = {
    "environment": _environment,
    "exit-statuses": _exit_statuses,
    "filters": _filters,
    "formats": _formats,
    "rules": _rules,
    "servers": _servers,
}
FORMATS_TEXT = """\
Data goes to stdout, messages to stderr. A table of `list` has 50 rows, and of
`log` 20; the other formats have all rows, unless `--limit` or `--page` says
otherwise. `--fields id,initiator.country` selects fields, also of linked
entities; `--fields help` lists them.

`show -o json` prints the row that `list` has and, under `related`, the rows
that belong to it, such as the results of a task. docs/schema.json is the schema.

JSON has numbers, booleans, null and texts with escaped control characters.
Times are ISO 8601 in UTC: `2026-03-01T09:30:00Z`. Invalid values that other
programs stored are printed unchanged.
"""

SERVERS_TEXT = """\
# Servers

`-d` takes the database of a vantage6 server: a SQLite file, or a PostgreSQL
URL. The server may run meanwhile. Without `--write`, it is only viewed.

## Look

```sh
vserver -d server.sqlite overview
vserver -d server.sqlite list users
```

## Plan and apply

```sh
vserver -d server.sqlite --write --dry-run passwd anna
vserver -d server.sqlite --write passwd anna
vserver -d server.sqlite --write shell
```

`--write` goes before the command. The command works on a private copy; then
its plan is printed, with all that is deleted, and a question. Nothing changes
in the server's database before you answer yes. The plan is applied after a
backup, in one transaction, all or nothing.

| option | meaning |
|---|---|
| `--dry-run` | Only print the plan; with `-o json`, for programs. |
| `--yes` | Apply without asking, as scripts must. The prompt asks all the same. |
| `--no-backup` | Apply without a backup. |

At the prompt, `db.plan()` shows the plan and `db.apply()` applies it;
`user.unlock()` and `result.fail()` are the commands `unlock` and `fail`. If a
script fails, nothing more is applied. If somebody changed a row meanwhile,
nothing is written, and the message has both values.

## Undo

```sh
vserver -d server.sqlite log
vserver -d server.sqlite --write undo
```

## Refused

New tasks and results, which nodes would not see; deleting, renaming or creating
the user `root`; in release 5, what Keycloak keeps: passwords, API keys, new users and
nodes. Releases 1 to 3.10 are only viewed. `init`, `demo`, `restore`, `upgrade`,
`copy`, `backup` and `import` without `--merge` are not for `--write`.
"""

RULES_TEXT = """\
Saving an entity applies the rules of a vantage6 server's API, and prints a
warning for each rule that it breaks. `--strict` refuses to save instead.
`vserver check` applies the rules to the whole database, and `vserver check
--explain CODE` gives the reason for a rule and the remedy.
"""

FILTERS_TEXT = """\
# Filters

A filter is a field, an operator and a value. All filters must match. On the
command line, quote `<`, `>`, `!` and spaces:

```sh
vserver list tasks --where status=failed --where 'created_at>-7d'
```

At the prompt:

```python
db.Task.where("status=failed", "created_at>2026-02-01")
```

## Operators

| operator | meaning |
|---|---|
| `=` `!=` | equal; not equal, or missing |
| `<` `<=` `>` `>=` | order of numbers, times or texts |
| `~` | contains, ignoring the case of ASCII letters |

## Fields

| field | example |
|---|---|
| a field of the entity | `name~average` |
| a link, by id or name | `collaboration=1`, `collaboration=Rare tumours [pilot]` |
| a field of a linked entity | `task.collaboration.encrypted=true` |
| a computed field of a task | `status=failed`, `complete=true`, `progress<0.5`, `done`, `total`, `finished_at` |
| a computed field of a result | `state=failed`, `complete=false` |
| the size of a relation | `nodes=0`, `children>2` |

## Values

| value | meaning |
|---|---|
| `null` | no value; for a time, also an invalid one |
| empty, as in `name=` | the empty text |
| `"null"` | the text between the quotes |
| `true` `false` `yes` `no` | for `complete` and `encrypted` |

## Times

A time is in UTC, or has an offset: `2026-02-03 11:02 +01:00`.

| value | span |
|---|---|
| `2026`, `2026-02` | the year, the month |
| `2026-02-03`, `today` | the day |
| `2026-02-03 10`, `2026-02-03 10:02` | the hour, the minute |
| `2026-02-03 10:02:44` | the second |
| `2d` or `-2d`, `now` | one moment; units: `s`, `m`, `h`, `d`, `w` |

`created_at<2026-02-03` finds earlier days, `>` later days; `=`, `<=` and `>=`
include the day.
"""
