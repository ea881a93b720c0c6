"""Queries over the entities: lists, figures, details, checks, and rows as text for programs."""
