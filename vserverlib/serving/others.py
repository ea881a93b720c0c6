"""The other calls: empty lists, refusals, the version and the health of the server."""

from __future__ import annotations

import models
from vserverlib.serving.answers import Answer, message, page_of_values
from vserverlib.serving.refusals import Refusal, not_found
from vserverlib.serving.requests import Request

VERSION = "4.15.2"  # of the API, which clients compare with their own


def version(request: Request) -> Answer:
    """Return the version of the API."""
    return Answer({"version": VERSION})


def health(request: Request) -> Answer:
    """Return whether the database answers."""
    models.database.execute_sql("SELECT 1").fetchone()
    return Answer({"database": True})


def blob_status(request: Request) -> Answer:
    """Return that there is no blob storage."""
    return Answer({"blob_store_enabled": False})


def nothing(request: Request) -> Answer:
    """Return an empty list."""
    return page_of_values(request, [])


def no_such(request: Request) -> Answer:
    """Return a 404."""
    raise not_found(request.path.rstrip("/").split("/")[-2], request.parameters["id"])


def ports_deleted(request: Request) -> Answer:
    """Say that the ports of a run are deleted: nodes always ask for that."""
    return message("Ports deleted")


def unsupported(request: Request) -> Answer:
    """Say that this server does not do that: a 501."""
    kind = request.path.removeprefix(request.server.api_path).strip("/").partition("/")[0]
    raise Refusal(501, REASONS[kind])


REASONS = {
    "role": "this server has the default roles only: roles cannot be created or changed",
    "study": "this server has no studies: post tasks to the collaboration",
    "algorithmstore": "this server has no algorithm stores: name the image in the task",
    "recover": "this server sends no mail: an administrator sets a new password with: vserver passwd USERNAME",
    "vpn": "this server has no VPN",
    "port": "this server has no VPN, and so no ports",
    "blobstream": "this server has no blob storage: send inputs and results in the task and the run",
}
