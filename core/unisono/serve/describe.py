"""Description: ``/docs``, all routes and their fields, as a page without scripts, of the OpenAPI description."""

import html
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#8882;padding:.1em .3em;border-radius:3px}table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #8884}"
    ":root{color-scheme:light dark}"
)
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "maxLength": "length ≤"}


def add_description(app: FastAPI) -> None:
    """Add ``GET /docs``."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(page(app.openapi()), headers=policy)


def page(described: dict[str, Any]) -> str:
    """Return the page of an OpenAPI description."""
    return "".join(_page(described))


def _page(described: dict[str, Any]) -> Iterator[str]:
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>unisono: routes</title><style>{STYLE}</style>"
    yield "<h1>Routes</h1><p>For programs: <a href=/openapi.json>openapi.json</a></p>"
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            yield f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>"
            yield f"<p>{html.escape(route.get('summary', ''))}</p>"
            names = [(p["name"], p.get("schema", {}), p.get("required", False)) for p in route.get("parameters", [])]
            if names:
                yield from _table("in the path or the query", names)
            body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            if body is not None:
                schema = _resolved(body, described)
                required = schema.get("required", [])
                yield from _table(
                    "in the body", [(name, about, name in required) for name, about in schema["properties"].items()]
                )


def _table(title: str, rows: list[tuple[str, dict[str, Any], bool]]) -> Iterator[str]:
    yield f"<table><tr><th>{title}<th>type<th>default<th>what"
    for name, about, required in rows:
        default = "required" if required else repr(about["default"]) if "default" in about else ""
        cells = (f"<code>{html.escape(name)}</code>", *map(html.escape, (type_of(about), default)))
        yield f"<tr><td>{'<td>'.join(cells)}<td>{html.escape(about.get('description', ''))}"
    yield "</table>"


def type_of(schema: dict[str, Any]) -> str:
    """Return a schema's type, choices and range in words."""
    if "anyOf" in schema:
        return " or ".join(type_of(part) for part in schema["anyOf"])
    if "$ref" in schema:
        return schema["$ref"].rpartition(".")[2].rpartition("/")[2]
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if choices:
        return "one of " + ", ".join(map(str, choices))
    bounds = [f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema]
    kind = schema.get("type", "any")
    if kind == "array" and "items" in schema:
        kind = f"list of {type_of(schema['items'])}"
    return " ".join(
        [kind, *(["(a data: URL)"] if schema.get("format") == "file-path" else []), ", ".join(bounds)]
    ).strip()


def _resolved(schema: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """A schema, or the component that it refers to."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return described["components"]["schemas"][name] if name else schema
