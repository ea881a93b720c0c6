"""What a read-only session may have SQLite do: what reads, whatever it is given, and nothing else.

SQLite asks for each thing that its parser finds in a statement (sqlite.org/c3ref/set_authorizer.html). Which columns
are read as NULL is not decided here.
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


# Pragmas that read, whatever they are given (sqlite.org/pragma.html)...
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

# ... and those that read if they are given nothing.
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

# Tables that show nothing but what they are given. sqlite_dbpage, for one, has the pages of the file, with every hash.
TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree"})
SCHEMA_TABLES = frozenset({"sqlite_master", "sqlite_schema"})


def allows(action: int, table: str | None, column: str | None, modules: frozenset[str]) -> bool:
    """Whether SQLite may do something: an action, and what it is about, as SQLite calls them.

    modules: the names of all tables that SQLite makes itself, in small letters.
    """
    name = (table or "").lower()
    if action == sqlite3.SQLITE_PRAGMA:
        return name in READ_PRAGMAS or (column is None and name in SETTINGS)
    if action == sqlite3.SQLITE_READ:
        return name not in modules or name in TABLE_FUNCTIONS or name.startswith("pragma_")
    if action == sqlite3.SQLITE_UPDATE:  # asked when a table-valued function is first used; a real change is asked more
        return name in SCHEMA_TABLES and bool(modules)
    return action in READ_ACTIONS and not (action == sqlite3.SQLITE_FUNCTION and column == "load_extension")


def denied(action: int, table: str | None, column: str | None) -> str:
    """Return what was denied, if it is no change of the database: then writing to it is no remedy. "" if it is one."""
    if action == sqlite3.SQLITE_PRAGMA and column is None:
        return f"PRAGMA {table}"
    return str(table) if action == sqlite3.SQLITE_READ else ""
