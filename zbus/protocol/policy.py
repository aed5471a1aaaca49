"""Who may be called what, and do what: identities, rules and limits (promises P14, P15).

Rules of this room:

* An identity is a name that a key proved. It may be called that name, or anything below it:
  ``site-1`` is also ``site-1.engine-3``. Nobody else may. A peer that proved nothing is local,
  and may have any name that no other identity holds.
* Where there are rules, what no rule allows is denied. The rule of a peer is that of the longest
  name above its own; for a local peer without one it is ``local``. Without rules, all who are in
  may do everything.
* A pattern is a topic, ``jobs.*`` for all below it, or ``*``. ``zbus.ping`` is everybody's.
* A topic is judged before anybody looks who serves it, so that a refusal does not tell.
* Limits are the rule's, shared by all peers that it is for. A request beyond them is refused, a
  push is kept back at its sender. A repeated request was counted before; a repeated push counts,
  for it is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from zbus.errors import Executed, Malformed, NotAuthorized, Overloaded, ZbusError
from zbus.protocol.codec import decode_manifest
from zbus.protocol.effect import Route
from zbus.protocol.message import Cause, Flag, Hello, Parcel, Request

__all__ = ["LOCAL_RULE", "Grants", "Policy", "Rule", "is_below"]

LOCAL_RULE = "local"
_ALWAYS = "zbus.ping"
_REMEMBERED = 1_024
_RETRY_S = 0.05
_REPEAT, _LARGE = int(Flag.REPEAT), int(Flag.LARGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is allowed: patterns of topics by direction, and limits, where 0 is none.

    ``in_flight`` requests may be open at once; ``rate`` may begin and ``bytes_s`` of bodies be
    asked in a second; ``push_rate`` and ``push_bytes_s`` may be pushed in a second.
    """

    request: tuple[str, ...] = ()
    serve: tuple[str, ...] = ()
    push: tuple[str, ...] = ()
    in_flight: int = 0
    rate: int = 0
    bytes_s: int = 0
    push_rate: int = 0
    push_bytes_s: int = 0


class Grants:
    """A rule in force, with what its peers have used of it."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._members: dict[int, Collection[object]] = {}
        self._may_request = _Patterns(rule.request)
        self._may_serve = _Patterns(rule.serve)
        self._may_push = _Patterns(rule.push)
        self._requests = _Bucket(rule.rate)
        self._bytes = _Bucket(rule.bytes_s)
        self._pushes = _Bucket(rule.push_rate)
        self._push_bytes = _Bucket(rule.push_bytes_s)

    def join(self, open_requests: Collection[object]) -> None:
        """A peer comes under this rule; the collection holds what it has open."""
        self._members[id(open_requests)] = open_requests

    def leave(self, open_requests: Collection[object]) -> None:
        """It does no longer."""
        self._members.pop(id(open_requests), None)

    def may_serve(self, topic: str) -> bool:
        """Whether it may serve this topic."""
        return self._may_serve.allow(topic)

    def may_push(self, topic: str) -> bool:
        """Whether it may push to this topic."""
        return self._may_push.allow(topic)

    def push_window(self, window: int) -> int:
        """How many pushes may be under way at once: not more than may be pushed in a second,
        so that what is kept back is not sent in vain."""
        return min(window, self.rule.push_rate or window)

    def push_wait_s(self, count: int, size: int, now: float) -> float:
        """Seconds for which so many pushes, of so many bytes, are kept back. 0 is now: they are
        counted."""
        wait_s = max(self._pushes.wait_s(now), self._push_bytes.wait_s(now))
        if wait_s <= 0.0:
            self._pushes.take(count)
            self._push_bytes.take(size)
        return wait_s

    def refusal(self, parcel: Parcel, now: float) -> ZbusError | None:
        """Why this request is refused, if it is."""
        item = parcel.item
        assert isinstance(item, Request)
        repeat = item.flags & _REPEAT
        if item.topic != _ALWAYS and not self._may_request.allow(item.topic):
            executed = Executed.MAYBE if repeat else Executed.NO
            text = f'the policy of this broker does not let this peer ask for "{item.topic}"'
            return NotAuthorized(text, executed=executed)
        return None if repeat else self._excess(item, parcel, now)

    def _excess(self, item: Request, parcel: Parcel, now: float) -> Overloaded | None:
        rule = self.rule
        if rule.in_flight and sum(map(len, self._members.values())) >= rule.in_flight:
            text = f"{rule.in_flight} requests are open, which is all that the policy allows"
            return Overloaded(text, retry_after_s=_RETRY_S)
        wait_s = max(self._requests.wait_s(now), self._bytes.wait_s(now))
        if wait_s > 0.0:
            return Overloaded("faster than the policy allows", retry_after_s=wait_s)
        self._requests.take(1)
        self._bytes.take(_size(item, parcel))
        return None


def _size(item: Request, parcel: Parcel) -> int:
    if item.flags & _LARGE:
        with suppress(Malformed):  # which its handler's side will say
            return sum(decode_manifest(item.body).parts)
    return len(item.body) + sum(map(len, parcel.frames))


class Policy:
    """The rules of a broker, by name; None for none. ``prove`` says who a route is: the name
    of its key, empty for a local one, None for a key that is trusted no longer."""

    def __init__(
        self,
        rules: Mapping[str, Rule] | None = None,
        prove: Callable[[Route], str | None] = lambda route: "",
    ) -> None:
        self.prove = prove
        self._grants = None if rules is None else {each: Grants(rules[each]) for each in rules}
        self._none = Grants(Rule())

    def grants_of(self, name: str, identity: str) -> Grants | None:
        """What a peer of this name may do; None is everything."""
        if self._grants is None:
            return None
        above = name
        while above:
            if above in self._grants:
                return self._grants[above]
            above = above.rpartition(".")[0]
        return self._none if identity else self._grants.get(LOCAL_RULE, self._none)

    def refusal(self, route: Route, hello: Hello) -> tuple[Cause, str] | None:
        """Why whoever is at this route may not attach like this, if it may not."""
        identity = self.prove(route)
        if identity is None:
            return Cause.DENIED, "the key of this peer is trusted no longer"
        if identity and not is_below(hello.name, identity):
            return Cause.NAME_TAKEN, f'a key of "{identity}" may not be called "{hello.name}"'
        denied = self.not_served(hello.name, identity, hello.topics)
        return (Cause.DENIED, denied) if denied else None

    def not_served(self, name: str, identity: str, topics: Iterable[str]) -> str:
        """In words, why a peer may not serve all of these; empty if it may."""
        grants = self.grants_of(name, identity)
        for topic in topics:
            if grants is not None and not grants.may_serve(topic):
                return f'the policy of this broker does not let this peer serve "{topic}"'
        return ""


def is_below(name: str, identity: str) -> bool:
    """Whether an identity may be called this."""
    return name == identity or name.startswith(f"{identity}.")


class _Patterns:
    """Patterns of topics, and what they said of topics lately."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._exact = frozenset(each for each in patterns if not each.endswith("*"))
        self._prefixes = tuple(each[:-1] for each in patterns if each.endswith("*"))
        self._said: dict[str, bool] = {}

    def allow(self, topic: str) -> bool:
        said = self._said.get(topic)
        if said is None:
            if len(self._said) >= _REMEMBERED:
                self._said.clear()
            said = topic in self._exact or topic.startswith(self._prefixes)
            self._said[topic] = said
        return said


class _Bucket:
    """So much a second, with a second's worth at once; 0 is no limit. It may be overdrawn by
    one that is larger than what is left, and is then closed until that is made good."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._left = float(rate)
        self._at: float | None = None

    def wait_s(self, now: float) -> float:
        """Seconds until there is something in it."""
        if not self._rate:
            return 0.0
        if self._at is not None:
            gained = max(now - self._at, 0.0) * self._rate
            self._left = min(self._left + gained, float(self._rate))
        self._at = now
        return max((1.0 - self._left) / self._rate, 0.0)

    def take(self, amount: int) -> None:
        self._left -= amount
