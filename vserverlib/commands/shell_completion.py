"""The scripts that complete in bash, zsh and fish, and the answers to them.

The protocol of environment variables is click's. Our scripts also handle names with any characters: no shell splits,
expands or runs an answer. bash ends words at = and :, so it gets only the text that replaces its last part, quoted in
the same way.

completers.py owns the completions. Only text that is safe for a terminal leaves this module.
"""

from __future__ import annotations

import os
import re
import sys
from itertools import dropwhile
from typing import ClassVar, NamedTuple

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

from vserverlib import printable

MAX_LENGTH = 200  # characters of a completion: longer names are left out
MAX_HELP = 60  # characters of its description
TAIL = "COMP_TAIL"  # set by our bash script: the part of the word that will be replaced
ATTACHED = re.compile(r"--[\w-]+=")  # an option with its value in the same word
ASSIGNMENT = re.compile(r"\w+=")  # of a variable, before the command
FIELD = re.compile(r"[\w.,-]*=")  # before a value
PLAIN = frozenset("_@%+,./:=-")  # characters that no shell interprets inside a word


class Word(NamedTuple):
    """A word of a command line: as typed, as the program receives it, and the quote that is still open."""

    raw: str
    text: str
    quote: str


def split(line: str, fish: bool = False) -> list[Word]:
    """Return the words of a command line; the last one, at its end, may be empty.

    fish: whether a backslash escapes inside single quotes.
    """
    found, at = [], 0
    while True:
        while at < len(line) and line[at].isspace():
            at += 1
        word = _word(line, at, fish)
        found.append(word)
        at += len(word.raw)
        if at >= len(line):
            return found


def _word(line: str, start: int, fish: bool = False) -> Word:
    """Return the word that starts at an index."""
    at, text, quote = start, "", ""
    while at < len(line) and (quote or not line[at].isspace()):
        char, following = line[at], line[at + 1 : at + 2]
        if char == "\\" and _is_escaped(following, quote, fish):
            text += following
            at += 1
        elif char == quote or (not quote and char in ('"', "'")):
            quote = "" if quote else char
        else:
            text += char
        at += 1
    return Word(line[start:at], text, quote)


def _is_escaped(char: str, quote: str, fish: bool) -> bool:
    """Whether a backslash escapes this character, "" at the end of the line."""
    if quote == "'":
        return fish and char in ("'", "\\")
    return not quote or char in ("$", "`", '"', "\\", "\n")


def quoted(text: str, quote: str, plain: frozenset[str] = PLAIN) -> str:
    """Return a text as typed in bash after this open quote, or without one, so that bash reads it literally.

    plain: characters that need no backslash.
    """
    if quote == "'":
        return text.replace("'", "'\\''")
    if quote == '"':
        return re.sub(r'[$`"\\]', r"\\\g<0>", text).replace("!", '"\\!"')
    return "".join(char if char.isalnum() or char in plain or not char.isascii() else f"\\{char}" for char in text)


def is_plain(text: str) -> bool:
    """Whether a text can be shown and typed unchanged: it is short, and has nothing that a terminal would interpret.

    Non-ASCII text is printed as UTF-8, so a terminal with another encoding gets none.
    """
    is_unicode = str(sys.stdout.encoding).lower().startswith("utf")
    return printable(text, MAX_LENGTH) == text and (is_unicode or text.isascii())


class Shell(ShellComplete):
    """A shell that completes. An item `open` comes first if more text will follow, so that no space is added."""

    repeats_option: ClassVar[bool] = True  # whether the completion of --where=sta repeats --where=

    def source(self) -> str:
        """Return the script. click's version also runs bash to warn about old releases, which ours supports."""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the incomplete one, and that one."""
        words, at = [word.text for word in self.words()], int(os.environ["COMP_CWORD"])
        return words[1:at], words[at] if at < len(words) else ""

    def words(self) -> list[Word]:
        """Return the words that the shell has sent, from the name of the program on."""
        words = split(os.environ["COMP_WORDS"], fish=self.name == "fish")
        return list(dropwhile(lambda word: ASSIGNMENT.match(word.raw), words))

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return the completions that are safe text."""
        self.ctx_args["obj"] = args  # see completers.Command
        option = ATTACHED.match(incomplete) if self.repeats_option else None
        offered = super().get_completions(args, incomplete)
        found = [item for item in offered if item.type == "file" or is_plain(item.value)]
        for item in found:
            item.value = (option[0] if option else "") + item.value
            item.help = printable(" ".join((item.help or "").split()), MAX_HELP) or None
        opened = [CompletionItem("", type="open")] if any(item.open for item in found) else []
        return opened + found


SOURCE_BASH = """\
%(complete_func)s() {
    local item
    COMPREPLY=()
    while IFS= read -r item; do
        case $item in
            plain,*) COMPREPLY+=("${item#plain,}") ;;
            open,*) compopt -o nospace 2>/dev/null ;;
            file,*) compopt -o default 2>/dev/null ;;
        esac
    done < <(env COMP_WORDS="${COMP_LINE:0:COMP_POINT}" COMP_CWORD=-1 COMP_TAIL="$2" %(complete_var)s=bash_complete \\
        "${1/#\\~\\//$HOME/}" 2>/dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null || complete -F %(complete_func)s %(prog_name)s
"""


@add_completion_class
class Bash(Shell, BashComplete):
    """bash replaces the text after the last quote, = or : of a word (COMP_WORDBREAKS), and adds no quotes."""

    source_template = SOURCE_BASH
    kept: Word | None = None  # the text before the replaced part; None if another script asks

    def get_completion_args(self) -> tuple[list[str], str]:
        tail, typed = os.environ.get(TAIL), self.words()[-1].raw
        if tail is not None and typed.endswith(tail):
            self.kept = _word(typed.removesuffix(tail), 0)
        return super().get_completion_args()

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        found = super().get_completions(args, incomplete)
        kept = self.kept
        if kept is None:
            return found
        ours = [item for item in found if item.type != "plain" or item.value.startswith(kept.text)]
        for item in ours:
            item.value = _rest(item, kept)
        return ours


def _rest(item: CompletionItem[str], kept: Word) -> str:
    """Return the text after the kept part. Escaping : and = keeps a name one word, which the next Tab shows whole."""
    rest = item.value.removeprefix(kept.text)
    field, equals, value = rest.partition("=") if "=" not in kept.text and FIELD.match(rest) else ("", "", rest)
    return quoted(field + equals, kept.quote) + quoted(value, kept.quote, PLAIN - {":", "="})


SOURCE_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a response values shown how
    local type value help
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    response=("${(@f)$(env COMP_WORDS="${(j: :)words[1,CURRENT]}" COMP_CWORD=-1 %(complete_var)s=zsh_complete \\
        "${${(Q)words[1]}/#\\~\\//$HOME/}" 2>/dev/null)}")
    for type value help in "${(@)response}"; do
        case $type in
            plain)
                values+=("$value")
                if [[ $help == _ ]]; then shown+=("$value"); else shown+=("$value  -- $help"); how+=(-l); fi ;;
            open) how+=(-S '') ;;
            file) _files ;;
        esac
    done
    (( $#values )) && compadd -M 'm:{a-zA-Z}={A-Za-z}' "${(@u)how}" -V %(prog_name)s -d shown -a -- values
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


@add_completion_class
class Zsh(Shell, ZshComplete):
    """zsh quotes the text that it inserts. Each completion is three lines."""

    source_template = SOURCE_ZSH
    repeats_option = False

    def format_completion(self, item: CompletionItem[str]) -> str:
        return f"{item.type}\n{item.value}\n{item.help or '_'}"


SOURCE_FISH = """\
function %(complete_func)s
    set -l program (commandline -opc | string match -rv '^\\w+=')[1]
    set -l line (commandline -cp | string collect)
    for item in (env COMP_WORDS=$line COMP_CWORD=(commandline -ct) %(complete_var)s=fish_complete \\
            (string replace -r '^~/' "$HOME/" -- $program) 2>/dev/null)
        set -l value (string replace -r '^\\w+,' '' -- $item)
        switch $item
            case 'plain,*'
                printf '%%s\\n' $value
            case 'file,*'
                set -l option (string match -r '^--[\\w-]+=' -- $value; or echo)
                for path in (__fish_complete_path (string replace -- $option '' $value))
                    printf '%%s\\n' $option$path
                end
        end
    end
end

complete --no-files --keep-order --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


@add_completion_class
class Fish(Shell, FishComplete):
    """fish quotes the text that it inserts, and sends the incomplete word in COMP_CWORD."""

    source_template = SOURCE_FISH

    def get_completion_args(self) -> tuple[list[str], str]:
        words, typed = [word.text for word in self.words()], os.environ["COMP_CWORD"]
        incomplete = _word(typed, 0, fish=True).text
        return words[1:-1] if words[-1] in ("", incomplete) else words[1:], incomplete


def script(shell: str, program: click.Command) -> str:
    """Return the script of a shell."""
    return SHELLS[shell](program, {}, "vserver", "_VSERVER_COMPLETE").source()


SHELLS: dict[str, type[Shell]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}
