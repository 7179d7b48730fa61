"""The framework's own sections: whole, and with every value of the data as text."""

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigel.contracts.engine import Judge, Judgement
from bigel.contracts.rendering import escaped, render_sections
from bigel.contracts.suites import Suite

# Words that would run, load, close a tag, or be filled in by a template.
EVIL = [
    "<script>alert(1)</script>",
    "<img src=//x onerror=alert(1)>",
    "</td></table>",
    '" onclick="alert(1)',
    "{{ 7 * 7 }}",
    "{% raw %}",
    "${value_set}",
    "$",
    "%s & %(x)s",
]
IN_SET = "expect_column_values_to_be_in_set"


class Page(HTMLParser):
    """Collect tags, names of attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += [data.strip()] if data.strip() else []


def judge(table: pl.DataFrame, kind: str, name: str = "rows", **rest: Any) -> Judgement:
    description = rest.pop("description", None)
    rule = {"type": kind, "severity": "critical", "kwargs": rest}
    rule |= {"description": description} if description else {}
    suite = Suite(f"test.{name}", {}, (rule,), Path(f"test.{name}.json"))
    return Judge().judge(suite, table, {})


@pytest.fixture(scope="module")
def evil() -> tuple[Judgement, str]:
    """A failed expectation whose data, arguments and words all try to break out."""
    table = pl.DataFrame({"name": EVIL})
    judgement = judge(table, IN_SET, column="name", value_set=["<b>z</b>", "$q"])
    return judgement, render_sections([judgement])["rows"]


def test_values_of_the_data_are_shown_as_they_are_and_do_nothing(
    evil: tuple[Judgement, str],
) -> None:
    page = Page(evil[1])
    assert set(EVIL) <= set(page.text)
    assert not page.tags & {"script", "img", "link", "iframe", "b"}
    assert not {name for name in page.attributes if name.startswith("on")}


def test_arguments_of_the_expectation_are_text_too(evil: tuple[Judgement, str]) -> None:
    page = Page(evil[1])
    assert "$q" in page.text
    assert "z" not in page.text and "b" not in page.tags


def test_words_of_the_suite_are_text_too() -> None:
    table = pl.DataFrame({"name": ["a"]})
    words = "one of <i>ours</i> & no $other"
    judged = judge(table, IN_SET, column="name", value_set=["b"], description=words)
    page = Page(render_sections([judged])["rows"])
    assert words in page.text


@pytest.mark.parametrize(
    ("kind", "column"),
    [(IN_SET, "<script>x</script>"), ("expect_column_values_to_be_between", "name")],
)
def test_what_could_not_be_evaluated_is_shown_with_its_reason(kind: str, column: str) -> None:
    table = pl.DataFrame({"name": ["a"]})
    limits = {"value_set": ["b"]} if kind == IN_SET else {"min_value": 1}
    judgement = judge(table, kind, column=column, **limits)
    page = Page(render_sections([judgement])["rows"])
    assert judgement.result.results[0].exception_info["raised_exception"]
    assert "script" not in page.tags
    text = " ".join(page.text)
    assert "raised an exception" in text
    assert column in text
    assert "Traceback" not in text


def test_rendering_leaves_the_result_as_it_was(evil: tuple[Judgement, str]) -> None:
    before = copy.deepcopy(evil[0].result.to_json_dict())
    render_sections([evil[0]])
    assert evil[0].result.to_json_dict() == before
    assert evil[0].result.results[0].result["partial_unexpected_list"][0] == EVIL[0]


def test_each_table_has_its_own_section_without_a_page_around_it() -> None:
    first = judge(
        pl.DataFrame({"ours": [1]}), "expect_column_values_to_be_unique", "a", column="ours"
    )
    second = judge(
        pl.DataFrame({"theirs": [1]}), "expect_column_values_to_be_unique", "b", column="theirs"
    )
    sections = render_sections([first, second])
    assert list(sections) == ["a", "b"]
    assert "ours" in Page(sections["a"]).text and "theirs" not in sections["a"]
    assert "theirs" in Page(sections["b"]).text
    for text in sections.values():
        assert not Page(text).tags & {"html", "head", "body", "style", "link", "script"}
        assert "Overview" not in text
        assert re.search(r"\bsrc=|\bhref=", text) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("<>&\"'$ab"),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text("<&ab"), inner)
    ),
    max_leaves=12,
)


def strings_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for one in pair for text in strings_of(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in strings_of(one)]
    return []


@given(value=JSON)
def test_no_string_keeps_a_mark_of_html_and_nothing_else_changes(value: Any) -> None:
    before = copy.deepcopy(value)
    safe = escaped(value)
    assert value == before
    for text, plain in zip(strings_of(safe), strings_of(value), strict=True):
        assert not set("<>\"'") & set(text)
        assert Page(text + " ").text == ([plain.strip()] if plain.strip() else [])
    assert type(safe) is type(value)


def test_what_is_no_text_stays_the_same_object() -> None:
    thing = object()
    assert escaped([thing, (1, 2.5, None)])[0] is thing
    assert escaped((1, 2.5, None)) == (1, 2.5, None)
