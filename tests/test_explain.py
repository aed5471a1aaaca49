"""``zbus explain`` and the errors page: every error is found and told in full, from one source."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import NoHandler, RequestTimeout, ZbusError, every_error
from zbus.explain import EXIT_CODES, errors_page, explain, facts, find_error

KINDS = list(every_error())
each_error = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@each_error
def test_an_error_is_found_however_it_is_written(kind: type[ZbusError]) -> None:
    """Code, bare number and class name all find it, in any case and with spaces around."""
    name = kind.__name__
    for text in (f"ZB-{kind.number}", f" zb-{kind.number}\n", str(kind.number), name, name.lower()):
        assert find_error(text) is kind
    assert find_error(f"zbus.{name}") is kind


@given(st.text())
def test_finding_is_total(text: str) -> None:
    """Any text finds an error of the registry or nothing; it never raises."""
    assert find_error(text) in {None, *KINDS}


@pytest.mark.parametrize("text", ["", "ZB-", "ZB-0", "ZB-999", "ZbusError", "ZB-30", "3011"])
def test_what_is_no_error_is_not_found(text: str) -> None:
    """Near misses, and classes without a code, are nothing."""
    assert find_error(text) is None


def test_an_explanation_reads_like_this() -> None:
    """The whole text for one error, as a person sees it."""
    assert explain(NoHandler) == (
        "ZB-104 NoHandler: no peer serves that topic\n"
        "\n"
        'No peer serves that topic. ``wait_served`` and ``unserved="wait"`` wait for one.\n'
        "\n"
        "  did it run?   No. The handler was not run.\n"
        "  ask again?    It is safe: nothing can run twice.\n"
        "  what to do    See `zbus ls` for what is served, or ask with unserved='wait'.\n"
        "  exit code     4 (nobody serves it; it was not run)\n"
        "  caught as     zbus.NoHandler, zbus.RefusedError, zbus.RequestError, zbus.ZbusError,"
        " LookupError"
    )


@each_error
def test_the_three_views_say_the_same(kind: type[ZbusError]) -> None:
    """Text, facts and page hold the code, the remedy and the exit code of every error."""
    told = facts(kind)
    text, page = explain(kind), errors_page()
    assert told["code"] == f"ZB-{kind.number}"
    assert told["exit_code"] == kind.exit_code
    assert told["retry_safe"] is kind().retry_safe
    assert f"{told['code']} {told['name']}" in text
    assert f"\n### {told['code']} {told['name']}\n" in page
    assert kind.remedy in text
    assert kind.remedy in page
    assert f"exit code     {kind.exit_code} (" in text


@each_error
def test_facts_are_plain_values(kind: type[ZbusError]) -> None:
    """``--json`` can print them as they are."""
    assert json.loads(json.dumps(facts(kind))) == facts(kind)


def test_what_an_error_is_caught_as_catches_it() -> None:
    """The names are real bases, nearest first, without those that catch everything."""
    assert facts(RequestTimeout)["caught_as"] == [
        "zbus.RequestTimeout",
        "zbus.TargetError",
        "zbus.RequestError",
        "zbus.ZbusError",
        "TimeoutError",
        "OSError",
    ]


def test_every_link_of_the_page_has_its_heading() -> None:
    """The anchors of the table are those that the headings get."""
    page = errors_page()
    links = set(re.findall(r"\(#([\w-]+)\)", page))
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    assert links == {heading.lower().replace(" ", "-") for heading in headings}


def test_the_page_lists_every_exit_code() -> None:
    """Each exit code has its row."""
    for number, meaning in EXIT_CODES.items():
        assert f"| {number} | {meaning} |\n" in errors_page()
