"""The grammar of topics and names (spec 3.5), and who may use the broker's own.

    name  = word *( "." word )          ; at most 255 characters
    word  = 1*( ALPHA / DIGIT / "_" / "-" )

No wildcards: a topic names one thing. Topics below ``zbus.`` are answered by the broker itself
and cannot be served.
"""

from __future__ import annotations

import re

from zbus.errors import InvalidName
from zbus.protocol.limits import NAME_MAX, NAME_PATTERN

__all__ = ["RESERVED", "check_name", "check_topic", "is_name", "is_reserved"]

RESERVED = "zbus."
_NAME = re.compile(NAME_PATTERN)


def is_name(text: str) -> bool:
    """Whether this is a well-formed topic or name."""
    return len(text) <= NAME_MAX and _NAME.fullmatch(text) is not None


def is_reserved(topic: str) -> bool:
    """Whether the broker itself answers this topic."""
    return topic.startswith(RESERVED)


def check_name(text: object, what: str = "name") -> str:
    """The name, if it is a text that keeps the grammar; else ``InvalidName``, which quotes it."""
    if isinstance(text, str) and is_name(text):
        return text
    raise InvalidName(f"{what} {text!r:.80} is not valid")


def check_topic(text: object) -> str:
    """A topic that a peer may serve or push to; the broker's own are refused."""
    topic = check_name(text, "topic")
    if is_reserved(topic):
        raise InvalidName(f"topic {topic!r} is reserved for the broker")
    return topic
