"""The grammar of topics and names, against a second reading of it."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zbus.errors import InvalidName, Malformed
from zbus.protocol.codec import decode, encode
from zbus.protocol.limits import NAME_MAX
from zbus.protocol.message import Hello, Parcel, Role, Serve
from zbus.protocol.topics import RESERVED, check_name, check_topic, is_name, is_reserved
from zbus.testing import strategies as zst

LETTERS = set(string.ascii_letters + string.digits + "_-")


def is_lawful(text: str) -> bool:
    """The ABNF of clause 3.5, read without a regular expression."""
    return len(text) <= 255 and all(word and set(word) <= LETTERS for word in text.split("."))


NEARLY = st.text(st.sampled_from("aZ09_-...\n \u00e9/*>\0"), max_size=12)


@given(zst.names() | NEARLY | st.text(max_size=8))
@example("")
@example("a\n")
@example("a" * NAME_MAX)
@example("a" * (NAME_MAX + 1))
@example("\u0661")
@example("a..b")
def test_the_grammar_is_that_of_the_specification(text: str) -> None:
    """A name is words of ASCII letters, digits, ``_`` and ``-`` with single dots between; the
    end of a line and digits of other scripts are no part of it."""
    assert is_name(text) is is_lawful(text)


@given(zst.names() | NEARLY)
def test_a_bad_name_is_refused_and_quoted(text: str) -> None:
    """``check_name`` gives good names back, and says what is wrong with others."""
    if is_lawful(text):
        assert check_name(text) == text
    else:
        with pytest.raises(InvalidName) as caught:
            check_name(text, "peer name")
        assert caught.value.what == f"peer name {text!r:.80} is not valid"


@pytest.mark.parametrize("wrong", [None, 7, b"name", ["name"], ("a",)])
def test_what_is_no_text_is_no_name(wrong: object) -> None:
    """A caller that passes something else than text is told so, by the same error."""
    with pytest.raises(InvalidName, match="is not valid"):
        check_name(wrong)
    with pytest.raises(InvalidName, match="is not valid"):
        check_topic(wrong)


def test_a_huge_text_is_quoted_in_short() -> None:
    """Whoever logs the error does not log a megabyte."""
    with pytest.raises(InvalidName) as caught:
        check_name("a " * 500_000)
    assert len(str(caught.value)) < 300


@given(zst.topics())
def test_topics_may_be_served(topic: str) -> None:
    """Every lawful topic that the broker does not keep for itself may be served."""
    assert check_topic(topic) == topic


@pytest.mark.parametrize("topic", ["zbus.status", "zbus.x", "zbus.a.b"])
def test_topics_of_the_broker_are_refused(topic: str) -> None:
    """Nobody can serve what the broker answers itself, or push to it."""
    assert is_reserved(topic)
    assert is_name(topic)
    with pytest.raises(InvalidName, match="reserved"):
        check_topic(topic)


@pytest.mark.parametrize("topic", ["zbus", "zbusx.a", "Zbus.status", "a.zbus.status"])
def test_topics_like_those_of_the_broker_are_free(topic: str) -> None:
    """Only what starts with ``zbus.`` is kept."""
    assert not is_reserved(topic)
    assert check_topic(topic) == topic


@given(NEARLY | zst.names() | zst.names().map(lambda name: RESERVED + name))
def test_the_wire_keeps_the_same_grammar(text: str) -> None:
    """A Hello or Serve gets through exactly if its name and topics do (spec 3.5)."""
    hello = Hello(text, Role.ENGINE, 1, (), 1, b"")
    assert _gets_through(Parcel(hello)) is is_name(text)
    may_be_served = is_name(text) and not is_reserved(text)
    assert _gets_through(Parcel(Serve((text,), ()))) is may_be_served
    assert _gets_through(Parcel(Serve((), (text,)))) is may_be_served


def _gets_through(parcel: Parcel) -> bool:
    try:
        return decode(encode([parcel])) == [parcel]
    except Malformed:
        return False
