"""Write the pages that have the texts of the commands: docs/commands.md, docs/topics.md and docs/filters.md.

    python docs/make_commands.py

commands.md has the output of `--help`, topics.md the topics of `vserver help`. filters.md has the topic `filters`, then
sections that are written by hand. A test compares the pages with the output of this script.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

WIDTH = 100  # columns of the help texts
COMMANDS = """\
# The commands

Generated from `vserver --help` by [make_commands.py](make_commands.py): change the help texts, then run `make docs`.

Data goes to stdout; messages, warnings and errors go to stderr, one line each. [Topics](topics.md) has the exit
statuses, environment variables, formats and rules, [filters](filters.md) the filters.
"""
TOPICS = """\
# Topics

Generated from `vserver help TOPIC` by [make_commands.py](make_commands.py): change the texts in
`vserverlib/commands/topics.py`, then run `make docs`. [Filters](filters.md) has a page of its own.

"""
FILTERS = """\
# Filters

Generated from `vserver help filters` by [make_commands.py](make_commands.py), up to "Details": change the text in
`vserverlib/commands/topics.py`, then run `make docs`.
"""
BY_HAND = "\n## Details\n"  # begins the part of filters.md that is written by hand


def pages() -> dict[str, str]:
    """Return the texts of the pages, by file name."""
    return {"commands.md": commands(), "topics.md": topics(), "filters.md": filters()}


def commands() -> str:
    return "\n".join([COMMANDS, *sections()])


def sections() -> Iterator[str]:
    """Return a section for the program, then one for each command, in the order of the help."""
    import vserver

    program = context(vserver.main, "vserver", None)
    yield section(program)
    for name in vserver.main.list_commands(program):
        command = vserver.main.get_command(program, name)
        if command is not None and not command.hidden:
            yield section(context(command, name, program))


def context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    return click.Context(command, info_name=name, parent=parent, **settings)


def section(command: click.Context) -> str:
    title = command.command_path.removeprefix("vserver ")
    return f"## {title}\n\n```text\n{command.get_help().rstrip()}\n```\n"


def topics() -> str:
    import vserver
    from vserverlib.commands import help_page
    from vserverlib.commands import topics as texts

    found = [texts.markdown(name, vserver.main) for name in help_page.TOPICS if name != "filters"]
    return TOPICS + "\n".join(text.replace("# ", "## ", 1) for text in found)


def filters() -> str:
    import vserver
    from vserverlib.commands import topics as texts

    generated = texts.markdown("filters", vserver.main).removeprefix("# Filters\n")
    return FILTERS + generated + BY_HAND + (HERE / "filters.md").read_text().partition(BY_HAND)[2]


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text)
        print(f"written: docs/{name}")
