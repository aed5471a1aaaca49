"""A Shareable is a dict whose headers stand apart from its content."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.engine.constants import ReservedHeaderKey, ReturnCode
from zbus.engine.shareable import Shareable, make_copy, make_reply


def test_a_new_shareable_has_headers_and_nothing_else() -> None:
    """Content can be given; headers start empty all the same."""
    assert Shareable() == {"__headers__": {}}
    assert Shareable({"a": 1, "__headers__": {"b": 2}}) == {"a": 1, "__headers__": {}}


def test_without_a_return_code_it_is_ok() -> None:
    """The default is OK, or what the caller says."""
    shareable = Shareable()
    assert shareable.get_return_code() == ReturnCode.OK
    assert shareable.get_return_code("?") == "?"
    shareable.set_return_code(ReturnCode.ERROR)
    assert shareable.get_return_code() == ReturnCode.ERROR
    assert shareable.get_header(ReservedHeaderKey.RC) == ReturnCode.ERROR


def test_headers_survive_clear() -> None:
    """Missing headers are made anew where one is set."""
    shareable = Shareable()
    shareable.clear()
    assert shareable.get_header("a", 1) == 1
    shareable.set_header("a", 2)
    assert shareable.get_header("a") == 2


def test_headers_that_are_no_dict_are_an_error() -> None:
    """Whoever put something else there hears of it when a header is read."""
    shareable = Shareable()
    shareable["__headers__"] = [1]
    with pytest.raises(ValueError, match="must be a dict, not <class 'list'>"):
        shareable.get_header("a")


@given(st.dictionaries(st.text(), st.integers()))
def test_cookies_stay_in_their_jar(cookies: dict[str, int]) -> None:
    """Every cookie comes out of the jar, and the jar is one header."""
    shareable = Shareable()
    for name, cookie in cookies.items():
        shareable.add_cookie(name, cookie)
    assert {name: shareable.get_cookie(name) for name in cookies} == cookies
    assert (shareable.get_cookie_jar() or {}) == cookies
    assert len(shareable) == 1


@pytest.mark.parametrize("props", [None, [], "text"])
def test_peer_props_that_are_no_dict_hold_nothing(props: Any) -> None:
    """Looking one up gives the default."""
    shareable = Shareable()
    shareable.set_peer_props(props)
    assert shareable.get_peer_props() is props
    assert shareable.get_peer_prop("a", "default") == "default"


def test_a_peer_context_is_a_header() -> None:
    """It can be set and got, and does not touch the content."""
    shareable = Shareable()
    shareable.set_peer_context("peer")
    assert shareable.get_peer_context() == "peer"
    assert list(shareable) == ["__headers__"]


def test_a_reply_has_its_code_and_headers() -> None:
    """Headers that are no dict are none."""
    reply = make_reply(ReturnCode.TIMEOUT, {"a": 1})
    assert (reply.get_return_code(), reply.get_header("a")) == (ReturnCode.TIMEOUT, 1)
    assert make_reply("OK", [("a", 1)]).get_header("a") is None


def test_a_copy_has_headers_of_its_own() -> None:
    """Headers are deep copies without the excluded ones; the content is shared."""
    source = Shareable({"a": []})
    source.set_header("deep", [1])
    source.set_header("not", 1)
    twin = make_copy(source, exclude_headers=["not"])
    twin.get_header("deep").append(2)
    assert source.get_header("deep") == [1]
    assert twin.get_header("not", "none") == "none"
    assert twin["a"] is source["a"]
    assert type(twin) is Shareable
