"""Changing the database of a vantage6 server: copy it, plan changes, apply them, undo them."""
