"""Great Expectations' own page of a result, as it writes it, made safe to open.

It draws style sheets, scripts and a logo from remote addresses, and writes what it is given into
HTML as it is. Here every string of the result is escaped before it renders, what would be loaded or
run is taken out, links stay in the Data Docs, and the page forbids the rest itself.
"""

import functools
import html
import re
from importlib import resources
from typing import Any

from great_expectations.core.expectation_validation_result import (
    expectationSuiteValidationResultSchema,
)
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

LOADED = re.compile(
    r"<script\b.*?</script>|<link\b[^>]*>|<img\b[^>]*>| onclick=\"[^\"]*\"", re.DOTALL
)
REMOTE = re.compile(r"url\((?!['\"]?#)[^)]*\)|(?<=\bhref=)\"(?!#)[^\"]*\"")
POLICY = (
    '<head><meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
)
INDEX = '"../../index.html"'


def render_page(result: Any) -> str:
    """Return the framework's page of a validation result, which stays as it is."""
    safe = expectationSuiteValidationResultSchema.load(escaped(result.to_json_dict()))
    page = view().render(ValidationResultsPageRenderer().render(safe))
    page = REMOTE.sub(INDEX, LOADED.sub("", page)).replace("<head>", POLICY, 1)
    style = resources.files("bigel").joinpath("contracts/templates/gx.css").read_text("utf-8")
    return page.replace("</head>", f"<style>{style}</style></head>", 1)


def headed(page: str, text: str) -> str:
    """Return a page with a line of text at its top.

    >>> headed("<body class='x'><p>…</p></body>", "day <1>.csv")
    "<body class='x'><p>day &lt;1&gt;.csv</p><p>…</p></body>"
    """
    line = f"<p>{html.escape(text)}</p>"
    return re.sub(r"<body[^>]*>", lambda start: start[0] + line, page, count=1)


@functools.cache
def view() -> Any:
    """Return the framework's templates, which are compiled once in a process."""
    return DefaultJinjaPageView()


def escaped(value: Any) -> Any:
    """Escape every string in nested lists, tuples and dictionaries.

    >>> escaped({"<a>": ["<b>", ("c", 1)]})
    {'&lt;a&gt;': ['&lt;b&gt;', ('c', 1)]}
    """
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {escaped(key): escaped(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(escaped(one) for one in value)
    return value
