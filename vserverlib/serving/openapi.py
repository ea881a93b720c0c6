"""The OpenAPI document of the server, from the table of routes."""

from __future__ import annotations

import re
from typing import Any

from vserverlib.serving.others import VERSION
from vserverlib.serving.requests import Shape
from vserverlib.serving.routes import LIST, NOBODY, REFUSED, ROUTES, Route

PATH = "openapi.json"
PAGES = {"page": {"type": "integer", "minimum": 1}, "per_page": {"type": "integer", "minimum": 1}}
FLAGS = ("delete_dependents", "include_root", "encrypted", "is_user_created")
TOKEN = "token"  # a name


def document(api_path: str) -> dict[str, Any]:
    """Return the document. api_path: the path before all calls."""
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(f"/{route.path}", {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "vserver", "version": VERSION, "description": "The API of vantage6 4.15, as far as served."},
        "servers": [{"url": api_path or "/"}],
        "components": {"securitySchemes": {TOKEN: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}},
        "paths": paths,
    }


def _operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{re.sub('[^a-z0-9]+', '_', route.path).strip('_')}",
        "summary": route.summary,
        "tags": [route.path.partition("/")[0], *([REFUSED] if route.kind == REFUSED else [])],
        "parameters": [*_in_path(route), *_in_query(route)],
        "responses": {"default": {"description": "JSON", "content": {"application/json": {}}}},
    }
    if route.callers != NOBODY:
        found["security"] = [{TOKEN: []}]
    if route.takes is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _schema(route.takes)}}}
    return found


def _in_path(route: Route) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", route.path)
    schema = {"type": "integer", "minimum": 0}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _in_query(route: Route) -> list[dict[str, Any]]:
    found = {name: _type(name) for name in route.query}
    if route.kind == LIST:
        found |= PAGES
    return [{"name": name, "in": "query", "schema": schema} for name, schema in found.items()]


def _type(name: str) -> dict[str, Any]:
    if name in FLAGS:
        return {"type": "boolean"}
    if name.endswith("_id"):
        return {"type": "integer", "minimum": 0}
    is_time = name.endswith(("_from", "_till"))
    return {"type": "string", "format": "date-time"} if is_time else {"type": "string"}


def _schema(shape: Shape) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: field.kind.schema for name, field in shape.items()},
        "required": [name for name, field in shape.items() if field.needed],
    }
