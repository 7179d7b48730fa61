"""Great Expectations' own rendering of a result, made safe to open.

Its pages draw style sheets, scripts and a logo from remote addresses, and its index is empty
without them. Its sections write values of the data into HTML as they are, so that a behavior
named ``<script>`` would run. Here a one-line template takes the place of its page, and every
string of the result is escaped before it is rendered.
"""

import copy
import html
from typing import Any

import jinja2
from great_expectations.render.renderer import ValidationResultsPageRenderer
from great_expectations.render.view import DefaultJinjaPageView

from bigel.contracts.engine import Judgement

SECTIONS = (
    "{% for section in sections %}{% set section_loop = loop %}"
    "{% include 'section.j2' %}{% endfor %}"
)


def render_sections(judgements: list[Judgement]) -> dict[str, str]:
    """Return the framework's HTML of each table, without its page around it."""
    view = DefaultJinjaPageView()
    page = jinja2.DictLoader({"page.j2": SECTIONS})
    view.env.loader = jinja2.ChoiceLoader([page, view.env.loader])
    renderer = ValidationResultsPageRenderer()
    sections = {}
    for judgement in judgements:
        document = renderer.render(_escaped_result(judgement.result))
        del document.sections[0]  # an overview that our page gives better
        sections[judgement.suite.table] = view.render(document)
    return sections


def _escaped_result(result: Any) -> Any:
    safe = copy.deepcopy(result)
    for one in safe.results:
        one.result = escaped(one.result)
        one.exception_info = escaped(one.exception_info)
        one.expectation_config.kwargs = escaped(one.expectation_config.kwargs)
        if one.expectation_config.description:
            one.expectation_config.description = escaped(one.expectation_config.description)
    return safe


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
