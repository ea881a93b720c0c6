"""SQLite files and PostgreSQL databases: opening, making, upgrading, copying them, and putting them back."""
