"""The texts and numbers in Python source: their positions, their values, and the source without them.

Python's own parser finds them; nothing is executed. Positions count characters.
"""

from __future__ import annotations

import ast
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from vserverlib.scanning import MASK, scan

Place = tuple[int, int]  # the start and the end of a node in the source

TEMPLATE: Any = getattr(ast, "TemplateStr", ast.JoinedStr)  # t"…", of Python 3.14
FORMATTED = (ast.JoinedStr, TEMPLATE)
SINGLE = (True, False, None, ...)  # constants that hold no secret
NAMED = ("name", "arg", "asname", "rest", "id")  # attributes of nodes that hold the name being assigned


def parsed(source: str) -> ast.AST | None:
    """Return the syntax tree of a source, None if it is not Python. As at the prompt, `await` may stand anywhere."""
    if "\r" in source.replace("\r\n", "\n"):
        return None  # a line end in Python only
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings(action="ignore"):
            tree: ast.AST = compile(source, "<typed>", "exec", flags, dont_inherit=True)
            return tree
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return None


def is_same(tree: ast.AST, source: str) -> bool:
    """Whether a source has a given syntax tree, apart from texts, numbers, and names that were masked."""
    other = parsed(source)
    pairs: list[tuple[Any, Any]] = [(tree, other)]
    while pairs:
        one, two = pairs.pop()
        if isinstance(two, ast.Constant | ast.JoinedStr) and _is_leaf(one):
            if isinstance(one, ast.Constant) and _is_single(one) and one.value is not getattr(two, "value", MASK):
                return False
        elif isinstance(one, ast.AST) and type(one) is type(two):
            pairs += [(getattr(one, name, None), getattr(two, name, None)) for name in one._fields]
        elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
            pairs += zip(one, two, strict=True)
        elif one != two:
            return False
    return True


def _is_single(node: Any) -> bool:
    return any(node.value is value for value in SINGLE)


def _is_leaf(node: Any) -> bool:
    is_read = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    return is_read or isinstance(node, (ast.Constant, *FORMATTED))


def value(text: str) -> Any:
    """Return the str or bytes of a literal's source; None if it is formatted or not closed."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


class Places:
    """The positions of the nodes of a source. Python's own count lines and bytes."""

    def __init__(self, source: str) -> None:
        self.lines = [line.encode(errors="surrogatepass") for line in source.split("\n")]
        lengths = (len(line) + 1 for line in source.split("\n"))
        self.starts = [0, *itertools.accumulate(lengths)]

    def of(self, node: Any) -> Place:
        """Return the position of a node."""
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _at(self, line: int, column: int) -> int:
        before = self.lines[line - 1][:column].decode(errors="surrogatepass")
        return self.starts[line - 1] + len(before)


def leaves(node: ast.AST) -> Iterator[Any]:
    """Return the constants, formatted texts and names of a tree, in its order; a formatted text is one leaf."""
    nodes = [node]
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.Constant, ast.Name, *FORMATTED)):
            yield node
        else:
            nodes += reversed(list(ast.iter_child_nodes(node)))


def _is_text(leaf: Any) -> bool:
    return isinstance(leaf, FORMATTED) or isinstance(getattr(leaf, "value", None), str | bytes)


def texts(nodes: list[Any]) -> list[Any]:
    """Return the texts within some nodes."""
    return [leaf for node in nodes for leaf in leaves(node) if _is_text(leaf)]


def word(node: Any) -> str:
    """Return the text of a node; for bytes and formatted texts, their source."""
    return str(node.value) if isinstance(getattr(node, "value", None), str) else ast.unparse(node)


def replacement(text: str, source: str, place: Place) -> str:
    """Return the source of a text that replaces another one, with the same number of lines."""
    lines = source.count("\n", *place)
    body = text.encode("unicode_escape").decode().replace('"', '\\"')
    return '"""' + body + "\\\n" * lines + '"""' if lines else f'"{body}"'


def masked(source: str, tree: Any, is_defined: Callable[[str], bool], *, names_only: bool = False) -> str:
    """Return a source with a mask for each text, number, comment, and undefined name.

    names_only: mask the undefined names only.
    """
    places, own = Places(source), set(_given(tree))
    pieces, at = [], 0
    for leaf in sorted(leaves(tree), key=lambda leaf: (leaf.lineno, leaf.col_offset)):
        start, end = places.of(leaf)
        pieces.append(source[at:start] if names_only else _without_comments(source[at:start]))
        if isinstance(leaf, ast.Name):
            is_kept = not isinstance(leaf.ctx, ast.Load) or leaf.id in own or is_defined(leaf.id)
        else:
            is_kept = names_only or (isinstance(leaf, ast.Constant) and _is_single(leaf))
        pieces.append(source[start:end] if is_kept else _masked_leaf(leaf, source, (start, end)))
        at = end
    return "".join([*pieces, source[at:] if names_only else _without_comments(source[at:])])


def _masked_leaf(leaf: Any, source: str, place: Place) -> str:
    """Return a mask of the leaf's own type: bytes cannot stand beside str."""
    held = getattr(leaf, "value", MASK)
    numbers = {int: "0", float: "0.0", complex: "0j"}
    return numbers.get(type(held)) or ("b" * isinstance(held, bytes) + replacement(MASK, source, place))


def _without_comments(gap: str) -> str:
    return "".join(f"# {MASK}" if token.kind == "comment" else token.text for token in scan(gap))


def _given(tree: ast.AST) -> Iterator[str]:
    """Return the names that a source assigns, or mentions other than by reading them."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
            given = [getattr(node, name, None) for name in NAMED]
            yield from (name for name in [*given, *getattr(node, "names", ())] if isinstance(name, str))
