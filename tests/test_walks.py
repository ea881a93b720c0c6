"""The walks of newcomers: each page runs from its first command to its last, in an empty home, as it is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import pages

WALKS = sorted((Path(__file__).parent.parent / "docs").glob("walk-*.md"))


@pytest.mark.parametrize("page", WALKS, ids=lambda page: page.stem)
def test_a_walk_runs_as_its_page_says(page: Path, tmp_path: Path) -> None:
    pages.walk(page, tmp_path)


# How pages are run


def page_of(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text)
    return page


@pytest.mark.parametrize(
    "text",
    [
        "```sh\necho one\n```\n\n```text\ntwo\n```\n",
        "```sh\necho one >&2\n```\n\n```text\n```\n",
        "```sh\nprintf 'one\\ntwo\\n'\n```\n\n```text\none\n```\n",
        "```sh\necho one\n```\n\n```text\none\n```\n\n```status\n1\n```\n",
        "```sh\nvserver shell\n```\n\n```python\n1 + 1  # → 3\n```\n",
        "```bash\necho one\n```\n",
    ],
)
def test_a_difference_from_the_page_is_noticed(text: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        pages.walk(page_of(tmp_path, text), tmp_path)


def test_times_and_what_was_left_out_may_differ() -> None:
    assert pages.is_alike("seen 2026-03-01 09:30 UTC (3 d)\n", "seen 2026-03-02 10:00 UTC (12 d)")
    assert pages.is_alike("a\nb\nc\nd\n", "…\nb\n…")
    assert not pages.is_alike("a\nb\nc\n", "…\nb")
    assert not pages.is_alike("a…\nb\n", "…\na")
