"""What a node reports of its databases: the columns of a CSV file."""

from __future__ import annotations

import csv

from vserverlib.nodes.jobs import Database

MAX_LINE = 100_000  # characters of the line with the names of columns
MAX_COLUMNS = 500


def columns(database: Database) -> list[str]:
    """Return the names of the columns of a CSV file; none for another database, or if the file cannot be read."""
    if database.type != "csv":
        return []
    try:
        with open(database.uri, encoding="utf-8-sig", errors="replace", newline="") as file:
            return next(csv.reader([file.readline(MAX_LINE)]), [])[:MAX_COLUMNS]
    except (OSError, csv.Error):
        return []
