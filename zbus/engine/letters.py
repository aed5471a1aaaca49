"""Letters: a Shareable under way as a body of the bus, with its topic and its sender's props.

Rules of this room:

* The FL topic travels in a header, since it may be any text. The sender's public props travel
  beside the Shareable, and come out as its peer props.
* Headers that say who an earlier sender was are left out. The sender's Shareable is untouched,
  so that it can be sent again, to others, and from several threads (contract 12.9).
* What came in is total: a letter, or ``Malformed``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zbus.engine.constants import ReservedHeaderKey
from zbus.engine.shareable import Shareable
from zbus.engine.wire import body_of, message_of, peer_context_of
from zbus.errors import Malformed
from zbus.peer.body import decode_body, encode_body

__all__ = ["letter_of", "received", "replied", "reply_of", "sealed", "unsealed", "weight_of"]

_HEADERS = ReservedHeaderKey.HEADERS
_TOPIC = ReservedHeaderKey.TOPIC
_JAR = ReservedHeaderKey.COOKIE_JAR
_PEER_PROPS = ReservedHeaderKey.PEER_PROPS
_PEER_CTX = ReservedHeaderKey.PEER_CTX


def letter_of(request: Shareable, topic: str, props: Mapping[str, Any]) -> list[Any]:
    """A request with its topic.

    Raises:
        TypeError: the request is no Shareable.
        ValueError: its headers are no dict.
    """
    letter = body_of(request, props)
    _own_headers(letter[0])[_TOPIC] = topic
    return letter


def reply_of(reply: Shareable, request: Shareable | None, props: Mapping[str, Any]) -> list[Any]:
    """A reply, with the cookie jar of its request."""
    letter = body_of(reply, props)
    headers = _own_headers(letter[0])
    asked = request.get(_HEADERS) if request is not None else None
    jar = asked.get(_JAR) if type(asked) is dict else None
    if jar:
        headers[_JAR] = jar
    return letter


def received(letter: Any) -> tuple[Shareable, dict[str, Any]]:
    """A request that came in, with its peer props, and these props.

    Raises:
        Malformed: it is no letter.
    """
    shareable, props = message_of(letter)
    headers = shareable.get(_HEADERS)
    if headers is None:
        headers = shareable[_HEADERS] = {}
    elif type(headers) is not dict:
        raise Malformed("a Shareable whose headers are no dict")
    headers[_PEER_PROPS] = props
    return shareable, props


def replied(letter: Any) -> Shareable:
    """A reply that came in, with its peer props and its peer context.

    Raises:
        Malformed: it is no letter.
    """
    shareable, props = received(letter)
    try:
        shareable[_HEADERS][_PEER_CTX] = peer_context_of(props)
    except ValueError as error:
        raise Malformed(f"public properties that cannot be: {error}") from None
    return shareable


def sealed(letter: list[Any]) -> list[bytes]:
    """The letter as bytes, to be sent later: nothing of the sender's is kept.

    Raises:
        UnencodableBody: it holds a value of a type outside the closed set.
        TooLarge: it is too large.
    """
    packed, frames = encode_body(letter)
    return [packed, *map(bytes, frames)]


def weight_of(parts: list[bytes]) -> int:
    """The bytes of what is sealed."""
    return sum(map(len, parts))


def unsealed(parts: Any) -> Any:
    """What was sealed.

    Raises:
        Malformed: nothing was.
    """
    if type(parts) is not list or not parts or not all(type(part) is bytes for part in parts):
        raise Malformed("a letter that is not sealed")
    return decode_body(parts[0], tuple(parts[1:]))


def _own_headers(content: dict[Any, Any]) -> dict[str, Any]:
    headers = content.get(_HEADERS)
    if headers is not None and not isinstance(headers, dict):
        raise ValueError(f"the headers of a Shareable must be a dict, not {type(headers)}")
    own: dict[str, Any] = dict(headers or ())
    own.pop(_PEER_PROPS, None)
    own.pop(_PEER_CTX, None)
    content[_HEADERS] = own
    return own
