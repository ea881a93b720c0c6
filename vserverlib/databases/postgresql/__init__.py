"""Databases of ours on a PostgreSQL server: connections, sessions, ids, backups."""
