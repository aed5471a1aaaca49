"""The form of the policy's rules: who may do what, as a table of TOML.

    [policy.rules."site-1"]
    request = ["jobs.*"]
    push = ["metrics.*"]
    in_flight = 64

Rules of this room:

* ``"open"`` is no rules at all: who is in may do everything. A table, also an empty one, denies
  what it does not allow.
* What it holds beside its fields, or what is no pattern of topics, refuses the whole.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from zbus.broker.forms import Count, Size
from zbus.broker.units import show_size
from zbus.protocol.policy import Rule
from zbus.protocol.topics import is_name

__all__ = ["Rules"]

_OPEN = "open"
_DIRECTIONS = ("request", "serve", "push")
_COUNT = Count(1, 1_000_000)
_SIZE = Size(1, 2**40)
_COUNTS = ("in_flight", "rate", "push_rate")
_SIZES = ("bytes", "push_bytes")
_KEYS = (*_DIRECTIONS, *_COUNTS, *_SIZES)
_Table = Mapping[str, Rule]


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules by the name of a peer, or ``"open"``."""

    @property
    def expected(self) -> str:
        return (
            '"open", or a table for each name with request, serve, push (lists of topics, '
            '"jobs.*" or "*"), in_flight, and rate, bytes, push_rate and push_bytes (a second)'
        )

    def read(self, value: object) -> _Table | None:
        if value == _OPEN:
            return None
        if not isinstance(value, dict):
            raise ValueError('it is neither a table nor "open"')
        return {name: _rule(name, value[name]) for name in value}

    def read_text(self, text: str) -> _Table | None:
        if text == _OPEN:
            return None
        try:
            tables = tomllib.loads(f"rules = {text}")
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"it is no TOML: {error}") from None
        if tables.keys() != {"rules"}:
            raise ValueError("it holds more than one value")
        return self.read(tables["rules"])

    def show(self, value: _Table | None) -> str:
        if value is None:
            return json.dumps(_OPEN)
        shown = (f"{json.dumps(name)} = {_shown(rule)}" for name, rule in value.items())
        return f"{{{', '.join(shown)}}}"


def _rule(name: str, table: object) -> Rule:
    if not is_name(name):
        raise ValueError(f"{name!r:.80} is no name of a peer")
    if not isinstance(table, dict):
        raise ValueError(f"{name} is no table")
    for key in table:
        if key not in _KEYS:
            raise ValueError(f"{name} has {key!r:.40}, which is no part of a rule")
    lists = {key: _patterns(name, key, table.get(key, [])) for key in _DIRECTIONS}
    counts = {key: _COUNT.read(table[key]) for key in _COUNTS if key in table}
    sizes = {key: _SIZE.read(table[key]) for key in _SIZES if key in table}
    return Rule(
        **lists,
        in_flight=counts.get("in_flight", 0),
        rate=counts.get("rate", 0),
        bytes_s=sizes.get("bytes", 0),
        push_rate=counts.get("push_rate", 0),
        push_bytes_s=sizes.get("push_bytes", 0),
    )


def _patterns(name: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key} of {name} is no list")
    for pattern in value:
        bare = pattern.removesuffix(".*") if isinstance(pattern, str) else ""
        if pattern != "*" and not is_name(bare):
            raise ValueError(f"{key} of {name}: {pattern!r:.80} is no pattern of topics")
    return tuple(value)


def _shown(rule: Rule) -> str:
    parts = [
        f"{key} = {json.dumps(list(getattr(rule, key)))}"
        for key in _DIRECTIONS
        if getattr(rule, key)
    ]
    parts += [f"{key} = {count}" for key in _COUNTS if (count := getattr(rule, key))]
    parts += [
        f'{key} = "{show_size(size)}"' for key in _SIZES if (size := getattr(rule, f"{key}_s"))
    ]
    return f"{{{', '.join(parts)}}}"
