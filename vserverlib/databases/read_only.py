"""The rules of a read-only session for SQLite's authorizer: allow what reads, refuse everything else.

SQLite asks for each operation in a statement when it parses it (sqlite.org/c3ref/set_authorizer.html). sqlite.py
decides which columns read as NULL.
"""

from __future__ import annotations

import sqlite3

READ_ACTIONS = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_SAVEPOINT,
        sqlite3.SQLITE_RECURSIVE,
    }
)


# Pragmas that read with any argument (sqlite.org/pragma.html)...
READ_PRAGMAS = frozenset(
    {
        "collation_list",
        "compile_options",
        "data_version",
        "database_list",
        "foreign_key_check",
        "foreign_key_list",
        "freelist_count",
        "function_list",
        "index_info",
        "index_list",
        "index_xinfo",
        "integrity_check",
        "module_list",
        "page_count",
        "pragma_list",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)

# ... and pragmas that read without an argument.
SETTINGS = frozenset(
    {
        "application_id",
        "auto_vacuum",
        "busy_timeout",
        "cache_size",
        "encoding",
        "foreign_keys",
        "journal_mode",
        "journal_size_limit",
        "locking_mode",
        "max_page_count",
        "mmap_size",
        "page_size",
        "query_only",
        "recursive_triggers",
        "schema_version",
        "secure_delete",
        "synchronous",
        "temp_store",
        "trusted_schema",
        "user_version",
        "wal_autocheckpoint",
        "writable_schema",
    }
)

# Table functions that return only their arguments. Others expose more: sqlite_dbpage has all pages, and every hash.
TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree"})
SCHEMA_TABLES = frozenset({"sqlite_master", "sqlite_schema"})


def allows(action: int, table: str | None, column: str | None, modules: frozenset[str]) -> bool:
    """Whether to allow an operation. table, column: SQLite's two arguments for the action.

    modules: the lower-case names of all tables that SQLite's modules provide.
    """
    name = (table or "").lower()
    if action == sqlite3.SQLITE_PRAGMA:
        return name in READ_PRAGMAS or (column is None and name in SETTINGS)
    if action == sqlite3.SQLITE_READ:
        return name not in modules or name in TABLE_FUNCTIONS or name.startswith("pragma_")
    if action == sqlite3.SQLITE_UPDATE:  # the first use of a table-valued function; a real update asks for more
        return name in SCHEMA_TABLES and bool(modules)
    return action in READ_ACTIONS and not (action == sqlite3.SQLITE_FUNCTION and column == "load_extension")


def denied(action: int, table: str | None, column: str | None) -> str:
    """Return the denied operation if it is not a write, for which "open it for writing" is no remedy; else ""."""
    if action == sqlite3.SQLITE_PRAGMA and column is None:
        return f"PRAGMA {table}"
    return str(table) if action == sqlite3.SQLITE_READ else ""
