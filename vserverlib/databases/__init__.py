"""SQLite files and PostgreSQL databases: creating, opening, upgrading, copying, backing up and restoring them."""
