"""The framework's own page: whole, loading nothing, and with every string as text."""

import copy
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigel.contracts.contract import Contract
from bigel.contracts.expectations import judge
from bigel.contracts.gx_pages import escaped, render_page
from bigel.contracts.row_rules import Rule, count

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


@pytest.fixture(scope="module")
def evil() -> tuple[Any, str]:
    """A contract whose every word tries to break out, and the page of its result."""
    rules = [
        Rule("rows", words, "critical", holds=f"name <> '{n}<b>z</b>'")
        for n, words in enumerate(EVIL)
    ]
    contract = Contract("<i>test</i>", Path("x.toml"), "1", "", {"rows": ""}, rules)
    counts = count(pl.DataFrame({"name": ["1<b>z</b>"]}), rules, {}, contract.path)
    _, result = judge(contract, counts, {})
    return result, render_page(result)


def test_words_of_a_contract_are_shown_as_they_are_and_do_nothing(evil: tuple[Any, str]) -> None:
    shown = Page(evil[1])
    for number, words in enumerate(EVIL):
        assert f"rows: {words} (name <> '{number}<b>z</b>')" in shown.text
    assert not shown.tags & {"script", "img", "link", "iframe", "b"}
    assert not {name for name in shown.attributes if name.startswith("on")}
    assert "z" not in shown.text


def test_the_page_is_the_frameworks_own_and_loads_nothing(evil: tuple[Any, str]) -> None:
    text = evil[1]
    assert "Evaluates whether a batch of data matches expectations." in text
    observed = [word for word in Page(text).text if word in ("0", "1")][-len(EVIL) :]
    assert sorted(observed) == ["0"] * (len(EVIL) - 1) + ["1"]  # rows that break each rule
    assert [one.success for one in evil[0].results].count(False) == 1
    assert re.search(r"https?://|@import|<[^>]*\bsrc=", text) is None
    head = text.partition("</head>")[0]
    assert head.index("default-src 'none'") < head.index("<style")
    links = set(re.findall(r'href="([^"]*)"', text))
    assert {link for link in links if link[0] != "#"} == {"../../index.html"}


def test_rendering_leaves_the_result_as_it_was(evil: tuple[Any, str]) -> None:
    before = copy.deepcopy(evil[0].to_json_dict())
    render_page(evil[0])
    assert evil[0].to_json_dict() == before
    assert evil[0].results[0].expectation_config.description.startswith(f"rows: {EVIL[0]}")


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
