"""The migrations from an empty database to the current schema, applied in order by schemas.py."""
