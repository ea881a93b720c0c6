"""How bash, zsh and fish ask what Tab is to offer, and how each is answered: what `vserver completion` prints.

click has such scripts, and a protocol of environment variables, which are kept. Ours do better where a name may hold
anything: nothing of an answer is split, matched with files or run by a shell; and bash, which takes = and : for the
ends of words, is told what stands in the place of the part that it will replace, quoted as that part is.

What is offered is completers.py's. Whatever comes from there, only text that is plain to a terminal goes out.
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

LONGEST = 200  # characters of what is offered: longer names are left out
MOST_HELP = 60  # characters that are told of it
TAIL = "COMP_TAIL"  # of our script for bash: the part of that word that will be replaced
ATTACHED = re.compile(r"--[\w-]+=")  # an option whose value is in the same word
ASSIGNMENT = re.compile(r"\w+=")  # before a command: for its environment
PLAIN = frozenset("_@%+,./:=-")  # with letters and digits, what means nothing to a shell in the middle of a word


class Word(NamedTuple):
    """A word of a command line: as it was typed, as the program would be given it, and the quote that is still open."""

    raw: str
    text: str
    quote: str


def split(line: str, fish: bool = False) -> list[Word]:
    """Return the words of a command line; the last one, which may be empty, is what the line ends in.

    fish: whether a backslash means something within single quotes.
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
    """Return the word that starts here."""
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
    """Whether a backslash before a character, the end of the line perhaps, makes it plain and goes away itself."""
    if quote == "'":
        return fish and char in ("'", "\\")
    return not quote or char in ("$", "`", '"', "\\", "\n")


def quoted(text: str, quote: str) -> str:
    """Return a text as it is typed in bash after this quote, or without one: all of it stands for itself."""
    if quote == "'":
        return text.replace("'", "'\\''")
    if quote == '"':
        return re.sub(r'[$`"\\]', r"\\\g<0>", text).replace("!", '"\\!"')
    return "".join(char if char.isalnum() or char in PLAIN or not char.isascii() else f"\\{char}" for char in text)


def is_plain(text: str) -> bool:
    """Whether a text can be shown and typed as it is: neither long, nor with anything that a terminal would obey.

    It goes out as UTF-8: to a terminal of another encoding, bytes of it would mean something else.
    """
    is_unicode = str(sys.stdout.encoding).lower().startswith("utf")
    return printable(text, LONGEST) == text and (is_unicode or text.isascii())


class Dialect(ShellComplete):
    """What the three have in common. Where more is to be typed behind what is offered, an item `open` says so first."""

    repeats_option: ClassVar[bool] = True  # whether --where= is part of what replaces --where=status

    def source(self) -> str:
        """Return the script. click's own also runs bash, to warn of old ones: ours gets on with them."""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one."""
        words, at = [word.text for word in self.words()], int(os.environ["COMP_CWORD"])
        return words[1:at], words[at] if at < len(words) else ""

    def words(self) -> list[Word]:
        """Return the words from the name of the program on, as far as the shell has sent them."""
        words = split(os.environ["COMP_WORDS"], fish=self.name == "fish")
        return list(dropwhile(lambda word: ASSIGNMENT.match(word.raw), words))

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return what is offered, as far as it is plain text."""
        self.ctx_args["obj"] = args  # see completers.Command
        option = ATTACHED.match(incomplete) if self.repeats_option else None
        offered = super().get_completions(args, incomplete)
        found = [item for item in offered if item.type == "file" or is_plain(item.value)]
        for item in found:
            item.value = (option[0] if option else "") + item.value
            item.help = printable(" ".join((item.help or "").split()), MOST_HELP) or None
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
class Bash(Dialect, BashComplete):
    """bash: replaces what follows the last quote, = or : of a word (COMP_WORDBREAKS), and quotes nothing itself."""

    source_template = SOURCE_BASH
    kept: Word | None = None  # what stands before the part that will be replaced; None where somebody else asks

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
            item.value = quoted(item.value.removeprefix(kept.text), kept.quote)
        return ours


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
    (( $#values )) && compadd "${(@u)how}" -V %(prog_name)s -d shown -a -- values
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


@add_completion_class
class Zsh(Dialect, ZshComplete):
    """zsh: quotes what it inserts, and is told of each offer in three lines."""

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
class Fish(Dialect, FishComplete):
    """fish: quotes what it inserts, and sends the word that is typed in COMP_CWORD."""

    source_template = SOURCE_FISH

    def get_completion_args(self) -> tuple[list[str], str]:
        words, typed = [word.text for word in self.words()], os.environ["COMP_CWORD"]
        incomplete = _word(typed, 0, fish=True).text
        return words[1:-1] if words[-1] in ("", incomplete) else words[1:], incomplete


def script(shell: str, program: click.Command) -> str:
    """Return what a shell of this name is to run, so that it asks at Tab."""
    return DIALECTS[shell](program, {}, "vserver", "_VSERVER_COMPLETE").source()


DIALECTS: dict[str, type[Dialect]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}
