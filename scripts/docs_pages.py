"""Pages of the site that no hand keeps, as a hook of MkDocs.

The reference: settings from ``bigel.config``, verbs from Typer, the answers over HTTP from OpenAPI;
what is public in Python is listed here, and mkdocstrings reads its docstrings. And files outside
docs/, to which documents link.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from typer.cli import get_docs_for_click

from bigel.api.app import create_app
from bigel.config import Config
from bigel.config.write import to_toml
from flows.cli import app

ROOT = Path(__file__).parents[1]
OUTSIDE = {  # file at the root: page of the site; documents link to the file, as on a code host
    "data_contracts/README.md": "contracts.md",
    "examples/ten_lines.py": "ten_lines.md",
    "LICENSE": "license.md",
}
PUBLIC = {
    "The model": ("bigel.fit", "bigel.Recommender", "bigel.recommender.Explanation"),
    "Settings": ("bigel.config.load_config", "bigel.config.parse_config"),
    "The pipeline": (
        "bigel.pipeline.run_pipeline",
        "bigel.pipeline.run_without_training",
        "bigel.pipeline.run_and_summarize",
        "bigel.store.Workspace",
    ),
    "Below a Recommender": (
        "bigel.lists.bundle.load_bundle",
        "bigel.lists.similar.similar",
        "bigel.lists.vectors.write_vectors",
    ),
    "Errors": ("bigel.errors",),
}
ASKS_ANOTHER = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\ssrc=[\"']?(?:https?:)?//[^\s>]*"
    r"|<link\b(?![^>]*rel=[\"']?(?:canonical|next|prev))[^>]*href=[\"']?(?:https?:)?//[^\s>]*"
)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    pages = {
        "reference/python.md": python_page(),
        "reference/settings.md": settings_page(),
        "reference/command_line.md": command_page(),
        "reference/http.md": http_page(),
        **{page: outside_page(name) for name, page in OUTSIDE.items()},
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links to files outside docs/ lead to their pages."""
    for name, target in OUTSIDE.items():
        markdown = markdown.replace(f"](../{name}", f"]({target}")
    return markdown


def on_post_build(config: Any) -> None:
    """Refuse a site whose pages would ask another machine.

    Raises:
        PluginError: naming page and address.
    """
    for page in Path(config.site_dir).rglob("*.html"):
        if found := ASKS_ANOTHER.search(page.read_text("utf-8")):
            raise PluginError(f"{page}: a reader's browser would ask {found[0]!r}")


def outside_page(name: str) -> str:
    """Return a file of the root as a page."""
    text = (ROOT / name).read_text("utf-8")
    if name.endswith(".md"):
        return text
    language = "python" if name.endswith(".py") else "text"
    return f"# {name}\n\n```{language}\n{text}```\n"


def python_page() -> str:
    """Return what is public in Python, for mkdocstrings to fill in."""
    lines = ["# Python", "", "How to use it: [From Python](../python.md)."]
    for title, names in PUBLIC.items():
        lines += ["", f"## {title}"]
        for name in names:
            lines += ["", f"::: {name}"]
    return "\n".join(lines)


def settings_page() -> str:
    """Return every section and key: default, kind, meaning."""
    schema = Config.model_json_schema()
    lines = [
        "# Settings",
        "",
        "A TOML file has these sections; `bigel config FILE.toml` prints them with their values,",
        "`--set SECTION.KEY=VALUE` overrides one. Each key stands here with its default.",
    ]
    for name in Config.model_fields:
        lines += section_lines(name, schema["properties"][name], schema, Config().model_dump())
    return "\n".join(lines)


def section_lines(path: str, place: Any, schema: Any, values: Any) -> Iterator[str]:
    """Yield the lines of a section, those inside it last."""
    section = resolved(place, schema)
    own = values[path.rpartition(".")[2]]
    depth = "##" + "#" * path.count(".")
    yield from ("", f"{depth} [{path}] {{ #{path} }}", "", plain(section.get("description", "")))
    inner = []
    for key, field in section.get("properties", {}).items():
        if "properties" in resolved(field, schema):
            inner.append((key, field))
            continue
        default = to_toml(own[key])
        told = f"`{key} = {default}`" if default is not None else "Unset"
        yield from ("", f"#### {key} {{ #{path}.{key} }}", "")
        yield f"{told} · {kind(field, schema)}"
        yield from ("", plain(field.get("description", "")))
    for key, field in inner:
        yield from section_lines(f"{path}.{key}", field, schema, own)


def resolved(place: Any, schema: Any) -> Any:
    """Return what a place of a JSON schema refers to."""
    for part in place.get("$ref", "#").split("/")[1:]:
        schema = schema[part]
        place = schema
    return place


def kind(place: Any, schema: Any) -> str:
    """Say what values a place of a JSON schema takes."""
    if "properties" in resolved(place, schema):
        name = place["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    place = resolved(place, schema)
    if choices := place.get("anyOf"):
        return " or ".join(kind(one, schema) for one in choices if one.get("type") != "null")
    if choices := place.get("enum"):
        return "one of " + ", ".join(f"`{one}`" for one in choices)
    if "const" in place:
        return f"`{place['const']}`"
    match place.get("type"):
        case "array":
            member = place.get("items") or place["prefixItems"][0]
            return f"list of: {kind(member, schema)}"
        case "object":
            member = place.get("additionalProperties")
            return f"table of: {kind(member, schema)}" if isinstance(member, dict) else "table"
    names = {"integer": "whole number", "number": "number", "boolean": "true or false"}
    said = names.get(place.get("type", ""), "text")
    limits = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    return ", ".join([said, *(f"{limits[key]} {place[key]}" for key in limits if key in place)])


def plain(text: str) -> str:
    """Escape what Markdown would take for its own, but for code between backticks."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([*_<\[\]])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def command_page() -> str:
    """Return the help of every verb."""
    command = typer.main.get_command(app)
    untruncated(command)
    context = typer.Context(command, info_name="bigel")
    text = get_docs_for_click(obj=command, ctx=context, name="bigel")
    text = re.sub(r"\[/?bold\]", "`", text.replace("# `bigel`", "# Command line", 1))
    text = re.sub(r"^\* `--help`: Show this message and exit.\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\*\*Options\*\*:\n\n(?!\*)", "", text)
    text = re.sub(r"^Example: (.*)$", r"Example:\n\n```bash\n\1\n```", text, flags=re.MULTILINE)
    lines, verb = [], "bigel"
    for line in text.splitlines():
        if heading := re.fullmatch(r"#+ `(.*)`", line):
            verb = heading[1].replace(" ", "-")
        lines.append(re.sub(r"^\* `(\w+)`:", rf"* [`\1`](#{verb}-\1):", line))
    return "\n".join(lines)


def untruncated(command: Any) -> None:
    """Let a verb be listed with its whole first sentence."""
    command.short_help = (command.help or "").partition("\n\n")[0].replace("\n", " ")
    for verb in getattr(command, "commands", {}).values():
        untruncated(verb)


def http_page() -> str:
    """Return what `bigel api` answers, by its OpenAPI description."""
    follower: Any = None  # nothing is asked here
    schema = create_app(follower).openapi()
    lines = ["# HTTP", "", schema["info"]["description"], ""]
    lines += ["`bigel api` answers these; how to run it: [Serving](../operations.md#serving)."]
    for path, methods in schema["paths"].items():
        for method, told in methods.items():
            lines += ["", f"## {method.upper()} {path}", "", told["description"], ""]
            lines += [
                f"* `{one['name']}`, {one['in']}: {words(one['schema'], schema)}"
                for one in told.get("parameters", ())
            ]
            lines += ["", *body_line("Body", told.get("requestBody"))]
            lines += ["", *body_line("Answer", told["responses"]["200"])]
    for name, body in schema["components"]["schemas"].items():
        if "description" in body:  # FastAPI's own have none
            lines += ["", f"## {name}", "", body["description"], ""]
            lines += [f"* `{key}`: {words(one, schema)}" for key, one in body["properties"].items()]
    return "\n".join(lines)


def body_line(title: str, place: Any) -> Iterator[str]:
    """Yield a line that links to a body's fields, where there is one."""
    if place:
        name = place["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        yield f"{title}: [{name}](#{name.lower()})"


def words(field: Any, schema: Any) -> str:
    """Return kind, default and meaning of a field of a JSON schema."""
    default = to_toml(field.get("default"))
    told = f", by default `{default}`" if default is not None else ""
    meaning = field.get("description", "")
    return f"{kind(field, schema)}{told}{'. ' if meaning else ''}{meaning}"
