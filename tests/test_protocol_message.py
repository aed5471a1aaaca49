"""The items: their wire order is that of the specification, and texts always fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golden import KINDS
from zbus.protocol.codec import decode, encode
from zbus.protocol.limits import TEXT_MAX
from zbus.protocol.message import (
    AGAIN,
    UNKNOWN_ID,
    Bye,
    Cause,
    Fault,
    Flag,
    Item,
    Key,
    Parcel,
    Push,
    Request,
    Role,
    as_text,
    with_flags,
    with_ttl,
    without_session,
)
from zbus.testing import strategies as zst

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "protocol.md").read_text("utf-8")
EVERY_KIND = {kind.__name__: kind for kind in get_args(Item)}


def section(number: str) -> str:
    """One subsection of the specification, without its heading."""
    found = re.search(rf"^### {re.escape(number)} .*?\n(.*?)(?=^###? |\Z)", PAGE, re.M | re.S)
    assert found is not None, f"the specification has no section {number}"
    return found[1]


def rows(number: str, heading: str) -> list[list[str]]:
    """The rows of the table below this heading row."""
    lines = section(number).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {heading}")) + 2
    table = lines[start:]
    length = next((n for n, line in enumerate(table) if not line.startswith("|")), len(table))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[:length]]


@pytest.mark.parametrize("name", KINDS)
def test_fields_stand_as_the_golden_encoder_says(name: str) -> None:
    """The types and the independent encoder have the same kinds, fields and order."""
    number, fields = KINDS[name]
    kind = EVERY_KIND[name]
    assert kind.__struct_config__.tag == number
    assert kind.__struct_fields__ == tuple(fields.split())


@pytest.mark.parametrize("name", EVERY_KIND)
def test_fields_stand_as_the_specification_says(name: str) -> None:
    """Section 4.n of the specification is kind n, and its table has the fields in wire order."""
    kind = EVERY_KIND[name]
    number = kind.__struct_config__.tag
    assert f"### 4.{number} {name}\n" in PAGE
    assert f"Kind {number}," in section(f"4.{number}")
    fields = kind.__struct_fields__
    table = rows(f"4.{number}", "# |") if fields else []
    expected = [[str(place), field] for place, field in enumerate(fields, 1)]
    assert [row[:2] for row in table] == expected


def test_causes_and_flags_stand_as_the_specification_says() -> None:
    """The page lists every cause, flag and role with its number, and no others."""
    causes = [[str(int(cause)), cause.name] for cause in Cause]
    assert [row[:2] for row in rows("4.4", "cause")] == causes
    flags = [[str(int(flag)), flag.name] for flag in Flag]
    assert [row[:2] for row in rows("4.5", "flag")] == flags
    (role,) = (row for row in rows("4.1", "# |") if row[1] == "role")
    assert role[3] == ", ".join(f"{int(role)} {role.name.lower()}" for role in Role)


def test_words_that_are_no_errors_have_codes_of_their_own() -> None:
    """AGAIN and UNKNOWN_ID are in the table of codes, and share no number with an error."""
    codes = {row[1]: int(row[0]) for row in rows("4.7", "code")}
    assert (codes["AGAIN"], codes["UNKNOWN_ID"]) == (AGAIN, UNKNOWN_ID)
    assert len(set(codes.values())) == len(codes)


@given(zst.items())
def test_items_are_values(item: Item) -> None:
    """Two items that say the same are equal, and nobody can change one."""
    copy = type(item)(*(getattr(item, name) for name in item.__struct_fields__))
    assert copy == item
    for name in item.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(item, name, None)


@given(zst.requests(), st.integers(0, 2**53), st.integers(0, 15))
def test_a_request_is_forwarded_with_less_time_and_other_flags(
    request: Request, ttl_ms: int, flags: int
) -> None:
    """A broker changes what is left of the time, or the flags, and nothing else (spec 6.2)."""
    shorter = with_ttl(request, ttl_ms)
    marked = with_flags(request, flags)
    assert (shorter.ttl_ms, marked.flags) == (ttl_ms, flags)
    assert with_ttl(shorter, request.ttl_ms) == request == with_flags(marked, request.flags)


@given(zst.pushes())
def test_a_push_is_forwarded_without_its_session(push: Push) -> None:
    """The session is between a sender and its broker; a receiver never sees it (spec 7.2)."""
    forwarded = without_session(push)
    assert forwarded.session == 0
    assert forwarded == Push(0, *(getattr(push, name) for name in push.__struct_fields__[1:]))


def test_a_key_is_what_names_a_request() -> None:
    """Keys of equal parts are equal and find each other in a table."""
    assert {Key("engine-1", 1, 7): "open"}[Key("engine-1", 1, 7)] == "open"
    assert Key("engine-1", 1, 7) != Key("engine-1", 2, 7)


# -- texts ----------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=40)


@given(ANY_TEXT | ANY_TEXT.map(lambda text: text * 100))
def test_any_text_can_be_said(text: str) -> None:
    """Whatever a handler raised with, lone surrogates and megabytes too, fits into a Fault."""
    said = as_text(text)
    parcels = [
        Parcel(Fault("a", 1, 1, 401, 2, 0, said)),
        Parcel(Bye(Cause.DENIED, said)),
    ]
    assert decode(encode(parcels)) == parcels
    assert len(said) == min(len(text), TEXT_MAX)


@given(st.text(max_size=TEXT_MAX))
def test_a_text_that_can_be_said_stays_as_it_is(text: str) -> None:
    """Nothing that fits is changed."""
    assert as_text(text) == text


def test_what_utf_8_cannot_say_becomes_a_question_mark() -> None:
    """One mark for each, so that the text stays readable."""
    assert as_text("n\udc80e\ud800") == "n?e?"
