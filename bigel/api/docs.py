"""What may be asked, as one page that needs no script and nothing from elsewhere."""

from collections.abc import Mapping
from typing import Any

from bigel.templates import templates_of

HIDDEN = ("HTTPValidationError", "ValidationError")  # shapes of refusals, the same everywhere
LIMITS = (("minimum", "from"), ("maximum", "to"), ("maxItems", "at most"), ("enum", "one of"))

Schema = Mapping[str, Any]


def docs_page(schema: Schema, here: str) -> str:
    """Return the page of an OpenAPI schema.

    Args:
        schema: as ``FastAPI.openapi`` gives it.
        here: the address in the examples.
    """
    shapes = schema["components"]["schemas"]
    page = templates_of("api").get_template("docs.html.j2")
    return page.render(
        info=schema["info"],
        here=here,
        questions=[
            _question(path, method, one)
            for path, methods in schema["paths"].items()
            for method, one in methods.items()
        ],
        shapes={
            name: {"told": shape.get("description", ""), "fields": _fields(shape)}
            for name, shape in shapes.items()
            if name not in HIDDEN
        },
    )


def _question(path: str, method: str, found: Schema) -> dict[str, Any]:
    """Return what a path answers to a method, and what may be given along."""
    given = [
        {"name": one["name"], "where": one["in"], "required": one.get("required", False)}
        | _told(one["schema"], one.get("description", ""))
        for one in found.get("parameters", [])
    ]
    body = found.get("requestBody", {}).get("content", {}).get("application/json", {})
    answer = found["responses"]["200"]["content"]["application/json"]["schema"]
    return {
        "asked": f"{method.upper()} {path.replace(':path', '')}",
        "told": found.get("description", found.get("summary", "")),
        "given": given,
        "body": refs(body["schema"]) if body else [],
        "answer": refs(answer),
    }


def _fields(shape: Schema) -> list[dict[str, Any]]:
    required = shape.get("required", [])
    return [
        {"name": name, "required": name in required}
        | _told(field, field.get("description", ""))
        | {"shapes": refs(field)}
        for name, field in shape.get("properties", {}).items()
    ]


def _told(field: Schema, description: str) -> dict[str, str]:
    default = "" if field.get("default") in (None, []) else f"default {field['default']}"
    told = [one for one in (description, _limits(field), default) if one]
    return {"kind": kind(field), "told": "; ".join(one.rstrip(".") for one in told)}


def _limits(field: Schema) -> str:
    found = []
    for name, word in LIMITS:
        if name in field:
            value = field[name]
            shown = ", ".join(value) if isinstance(value, list) else f"{value:,.10g}"
            found.append(f"{word} {shown}")
    inner = [_limits(one) for one in field.get("anyOf", [])]
    return " ".join(found) or next(filter(None, inner), "")


def kind(field: Schema) -> str:
    """Return the kind of a value in words.

    >>> kind({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]})
    'array of string or null'
    >>> kind({"type": "object", "additionalProperties": {"$ref": "#/components/schemas/OneList"}})
    'object of OneList'
    """
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(map(kind, field["anyOf"]))
    of = field.get("items") or field.get("additionalProperties")
    name = str(field.get("type", "any"))
    return f"{name} of {kind(of)}" if isinstance(of, dict) else name


def refs(field: Any) -> list[str]:
    """Return the names of the shapes that a schema refers to.

    >>> refs({"type": "array", "items": {"$ref": "#/components/schemas/Listed"}})
    ['Listed']
    """
    if isinstance(field, dict):
        own = [str(field["$ref"]).rpartition("/")[2]] if "$ref" in field else []
        return own + [name for value in field.values() for name in refs(value)]
    return [name for value in field for name in refs(value)] if isinstance(field, list) else []
