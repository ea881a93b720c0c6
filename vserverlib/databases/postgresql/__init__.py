"""Databases of ours on a PostgreSQL server: reaching one, sessions, ids, backups."""
