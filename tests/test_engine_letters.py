"""Letters: what travels, and what comes out of any bytes."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given

from zbus.engine import FLContext, Shareable, make_reply
from zbus.engine.letters import letter_of, received, replied, reply_of, sealed, unsealed
from zbus.errors import Malformed, UnencodableBody
from zbus.peer.body import decode_body, encode_body
from zbus.testing.strategies import bodies


@given(bodies())
def test_a_letter_arrives(value: Any) -> None:
    """Any value that a body may have, with topic and props."""
    letter = letter_of(Shareable({"value": value}), "any topic", {"a": 1})
    there, props = received(decode_body(*encode_body(letter)))
    assert there.get_header("__topic__") == "any topic"
    assert there.get_peer_props() == props == {"a": 1}
    again = decode_body(*encode_body(value))
    assert repr(there["value"]) == repr(again)


@given(bodies())
def test_any_body_is_a_letter_or_malformed(body: Any) -> None:
    """Whatever a stranger says."""
    for read in (received, replied, unsealed):
        try:
            read(body)
        except Malformed:
            continue


@pytest.mark.parametrize(
    "body", [None, [], [{}], [{}, []], [{}, {}, {}], [{"__headers__": [1]}, {}], ({}, {})]
)
def test_what_is_no_letter(body: Any) -> None:
    """Each for a reason of its own."""
    with pytest.raises(Malformed):
        received(body)


def test_a_reply_with_impossible_props() -> None:
    """A key that is no text is no property."""
    with pytest.raises(Malformed):
        replied([{}, {7: 7}])


def test_a_reply_has_the_jar_of_its_request() -> None:
    """Over whatever the handler put there; without a jar, the handler's own stays."""
    request, reply = Shareable(), make_reply("OK")
    reply.set_cookie_jar({"own": 1})
    assert replied(reply_of(reply, request, {})).get_cookie_jar() == {"own": 1}
    request.add_cookie("crumb", 7)
    assert replied(reply_of(reply, request, {"a": 1})).get_cookie_jar() == {"crumb": 7}
    assert isinstance(replied(reply_of(reply, None, {})).get_peer_context(), FLContext)


@pytest.mark.parametrize("value", [b"x", "long" * 40_000, numpy.arange(100_000)])
def test_sealed_and_unsealed(value: Any) -> None:
    """As it is, with buffers of their own, and through a body again."""
    parts = sealed(letter_of(Shareable({"value": value}), "t", {}))
    there, _ = received(unsealed(decode_body(*encode_body(parts))))
    assert numpy.array_equal(there["value"], value)


def test_sealed_keeps_nothing_of_the_senders() -> None:
    """What is changed after the call is not sent (12.10)."""
    values, array = [1], numpy.zeros(100_000)
    parts = sealed(letter_of(Shareable({"values": values, "array": array}), "t", {}))
    values.append(2)
    array += 1
    there, _ = received(unsealed(parts))
    assert there["values"] == [1]
    assert not there["array"].any()


def test_what_cannot_be_sealed_raises() -> None:
    """At the sender."""
    with pytest.raises(UnencodableBody):
        sealed(letter_of(Shareable({"value": object()}), "t", {}))


def test_who_an_earlier_sender_was_does_not_travel() -> None:
    """A reply that is sent on has a sender of its own."""
    reply = replied([{}, {"a": 1}])
    headers = letter_of(reply, "t", {})[0]["__headers__"]
    assert headers == {"__topic__": "t"}
    assert reply.get_peer_context().get_prop("a") == 1


def test_headers_that_are_no_dict() -> None:
    """Are refused at the sender."""
    bad = Shareable()
    bad["__headers__"] = [1]
    with pytest.raises(ValueError, match="headers"):
        letter_of(bad, "t", {})
