"""Algorithms that are built in: they need neither vantage6's packages nor pandas."""
