"""The report of a check: rule by rule, the worst first. checks.py finds; this module displays."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.padding import Padding
from rich.text import Text

from vserverlib import pluralize
from vserverlib.entities import rules
from vserverlib.entities.checks import Finding, Findings
from vserverlib.entities.rules import Rule
from vserverlib.terminal.views import Look

SHOWN = 10  # rows of one rule
INDENT = 2
NUMBER = re.compile(r"\d+")
COLOURS = {rules.ERROR: "red", rules.WARNING: "yellow", rules.INFO: "none"}


class Report:
    """Findings: for each rule the number of rows that break it, the first of them, and the remedy.

    command: returns a command line from words, such as Target.command; without it, none is shown.
    """

    def __init__(self, found: Findings, command: Callable[..., str] | None = None) -> None:
        self.found, self.command = found, command

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        look = Look(options.encoding)
        codes = sorted(self.found.counts, key=lambda code: rules.LEVELS.index(rules.BY_CODE[code].level))
        for code in codes:
            yield from self._rule(rules.BY_CODE[code], look)
        yield Text(summary(self.found.levels), "bold" if codes else "dim")

    def _rule(self, rule: Rule, look: Look) -> Iterator[Any]:
        count = self.found.counts[rule.code]
        yield Text.assemble(
            (rule.code, "bold"), " ", (rule.level, COLOURS[rule.level]), f" {count:,} {look.dash} {plain(rule.breaks)}"
        )
        shown = [finding for finding in self.found if finding.code == rule.code][:SHOWN]
        lines = [Text(look.safe(finding.message)) for finding in shown]
        lines += [Text(f"{look.more} {count - len(shown):,} more", "dim")] if count > len(shown) else []
        lines.append(Text(f"remedy: {rule.remedy}", "dim"))
        lines += [Text(look.safe(line), "dim") for line in self._commands(rule, shown)]
        for line in lines:
            yield Padding(line, (0, 0, 0, INDENT), expand=False)
        yield Text()

    def _commands(self, rule: Rule, shown: list[Finding]) -> Iterator[str]:
        """Yield the command of the first finding; of a rule for the whole database, the first of each kind."""
        found: dict[str, str] = {}
        for finding in shown:
            found.setdefault(NUMBER.sub("", finding.command) if not rule.entity else "", finding.command)
        if self.command is not None:
            yield from (self.command(*shlex.split(words)) for words in found.values() if words)


def plain(text: str) -> str:
    """Return the text of a rule without the backquotes that the documentation needs."""
    return text.replace("`", "")


def summary(levels: dict[str, int]) -> str:
    """Return the number of findings in words: "2 errors, 1 warning". Findings of level info are notes."""
    words = [pluralize(count, NOUNS[level]) for level, count in levels.items() if count]
    return ", ".join(words) or "nothing found"


NOUNS = {rules.ERROR: "error", rules.WARNING: "warning", rules.INFO: "note"}
