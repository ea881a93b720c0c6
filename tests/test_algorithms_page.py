"""The page on algorithms of your own: it runs as printed, and an edit of its algorithm counts at the next run."""

from __future__ import annotations

from pathlib import Path

from helpers import pages

PAGE = pages.ROOT / "docs" / "algorithms.md"
EDIT = """
```sh
sed -i 's/"sum": sum(values)/"sum": 2 * sum(values)/' mean.py && vserver run demo/mean:1 central column=age
```

```text
✓ completed  Utrecht  (result 5)
  110.0
```
"""


def test_the_page_runs_as_it_says_and_an_edit_counts_at_once(tmp_path: Path) -> None:
    text = PAGE.read_text().replace("vserver start", "vserver start --port 0")
    assert text != PAGE.read_text()
    page = tmp_path / "page.md"
    page.write_text(text + EDIT)
    home = tmp_path / "home"
    home.mkdir()
    pages.walk(page, home)
