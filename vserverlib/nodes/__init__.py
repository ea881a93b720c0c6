"""Nodes that compute runs as processes of this machine: `vserver node`. Knows no database."""
