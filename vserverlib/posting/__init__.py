"""Posting tasks to the server that runs on this machine: `vserver run`, and post() at the prompt and in scripts."""

DEFAULT_LABEL = "default"  # of a database of the nodes
