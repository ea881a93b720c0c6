"""Changing the database of a vantage6 server: a private working copy, a plan of its changes, and applying it."""
