"""The steps that lead from an empty database to the present schema, applied in order by schemas.py."""
