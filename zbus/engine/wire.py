"""Messages of engines as bodies of the bus: a Shareable with its sender's properties, and back.

Rules of this room:

* The types are a closed set: those of bodies (spec section 12), ``Shareable``, ``FLContext`` as
  its public properties, and the enums and dataclasses in ``peer.register``. Anything else is
  refused at the sender, with its type and place. No pickle.
* A message is a list of a Shareable's content and its sender's public properties, as plain
  dicts, so that a small one is packed in one call. A Shareable within is marked as one. A
  subclass of Shareable is sent as a Shareable at the top, and refused within.
* Nothing of the caller's is changed, and nothing of its containers is kept.
* Arrays ride in their own frames, and arrive read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zbus.engine.context import FLContext
from zbus.engine.shareable import Shareable
from zbus.errors import Malformed
from zbus.peer.body import encode_body
from zbus.peer.register import register_form

__all__ = ["body_of", "check", "message_of", "peer_context_of"]


def body_of(shareable: Shareable, public_props: Mapping[str, Any]) -> list[Any]:
    """What ``Peer.request`` or ``Peer.push`` takes for this message.

    Raises:
        TypeError: ``shareable`` is no Shareable.
    """
    if not isinstance(shareable, Shareable):
        raise TypeError(f"request must be a Shareable, not {type(shareable)}")
    return [dict(shareable), dict(public_props)]


def check(shareable: Shareable, public_props: Mapping[str, Any]) -> None:
    """Raise where this message cannot be sent, without sending it.

    Raises:
        UnencodableBody: it holds a value of a type outside the closed set; named with its place.
        TooLarge: it is too large besides its arrays, buffers and texts.
    """
    encode_body(body_of(shareable, public_props))


def message_of(body: Any) -> tuple[Shareable, dict[str, Any]]:
    """The Shareable that a body says, and its sender's public properties.

    Raises:
        Malformed: it says neither.
    """
    if type(body) is not list or len(body) != 2 or not type(body[0]) is type(body[1]) is dict:
        raise Malformed("a body that is no message between engines")
    shareable = Shareable.__new__(Shareable)
    shareable.update(body[0])
    return shareable, body[1]


def peer_context_of(public_props: Mapping[str, Any]) -> FLContext:
    """The context that says who the peer is.

    Raises:
        ValueError: a key is not a str.
    """
    context = FLContext()
    context.set_public_props(public_props)
    return context


def _shareable_of(content: Any) -> Shareable:
    if type(content) is not dict:
        raise Malformed("a Shareable that is no dict")
    shareable = Shareable.__new__(Shareable)
    shareable.update(content)
    return shareable


def _context_of(props: Any) -> FLContext:
    if type(props) is not dict:
        raise Malformed("an FLContext that is no dict")
    return peer_context_of(props)


register_form("zbus.engine.Shareable", Shareable, dict, _shareable_of)
register_form("zbus.engine.FLContext", FLContext, FLContext.get_all_public_props, _context_of)
