"""Rules, patterns and limits: zbus/protocol/policy.py."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.errors import Executed, NotAuthorized, Overloaded
from zbus.protocol.codec import encode_manifest
from zbus.protocol.effect import Lane, Route
from zbus.protocol.message import Cause, Flag, Hello, Manifest, Parcel, Request, Role
from zbus.protocol.policy import Grants, Policy, Rule, is_below

ROUTE = Route(Lane.FRONTEND, b"a")
TOPICS = ("jobs.run", "jobs", "jobsx", "metrics.cpu", "zbus.status")


def request(topic: str, *, flags: int = 0, body: bytes = b"") -> Parcel:
    return Parcel(Request("e", 1, 1, topic, "", 1000, flags, 1, (), "", body, 0))


def hello(name: str, *topics: str) -> Hello:
    return Hello(name, Role.ENGINE, 1, topics, 1, b"")


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("jobs.*", {"jobs.run"}),
        ("jobs", {"jobs"}),
        ("*", set(TOPICS)),
        ("zbus.*", {"zbus.status"}),
    ],
)
def test_p15_every_direction_has_its_patterns(pattern: str, allowed: set[str]) -> None:
    """What is allowed in one direction is not in another; the matrix is complete."""
    rules = {
        "request": Rule(request=(pattern,)),
        "serve": Rule(serve=(pattern,)),
        "push": Rule(push=(pattern,)),
    }
    for direction, topic in itertools.product(rules, TOPICS):
        grants = Grants(rules[direction])
        fits = topic in allowed
        refused = grants.refusal(request(topic), 0.0)
        assert (refused is None) is (fits and direction == "request")
        assert grants.may_serve(topic) is (fits and direction == "serve")
        assert grants.may_push(topic) is (fits and direction == "push")
        assert refused is None or isinstance(refused, NotAuthorized)


def test_p15_nothing_is_allowed_by_default() -> None:
    """But to ask whether the broker lives; without rules everything is."""
    grants = Policy({}).grants_of("e", "")
    assert grants is not None
    assert isinstance(grants.refusal(request("t"), 0.0), NotAuthorized)
    assert grants.refusal(request("zbus.ping"), 0.0) is None
    assert not grants.may_serve("t")
    assert Policy(None).grants_of("e", "") is None


def test_the_longest_name_above_has_the_rule() -> None:
    """A local peer without one has the rule of that name, one with a key never has."""
    rules = {name: Rule(request=(name,)) for name in ("a", "a.b", "local")}
    policy = Policy(rules)

    def rule_of(name: str, identity: str) -> tuple[str, ...]:
        grants = policy.grants_of(name, identity)
        return grants.rule.request if grants is not None else ("everything",)

    assert rule_of("a.b.c", "a.b") == ("a.b",)
    assert rule_of("a.x", "a") == ("a",)
    assert rule_of("ab", "") == ("local",)
    assert rule_of("ab", "ab") == ()


@given(st.from_regex(r"[a-c](\.[a-c]){0,3}", fullmatch=True), st.sampled_from(["a", "a.b", "c"]))
def test_p14_an_identity_has_its_name_and_those_below(name: str, identity: str) -> None:
    """And no other."""
    parts, owned = name.split("."), identity.split(".")
    assert is_below(name, identity) is (parts[: len(owned)] == owned)


def test_p14_a_key_does_not_come_under_anothers_name() -> None:
    """Nor does one that is trusted no longer come at all."""
    policy = Policy(None, lambda route: "site-1")
    assert policy.refusal(ROUTE, hello("site-1.e")) is None
    refused = policy.refusal(ROUTE, hello("site-2"))
    assert refused is not None
    assert refused[0] is Cause.NAME_TAKEN
    gone = Policy(None, lambda route: None).refusal(ROUTE, hello("site-1"))
    assert gone is not None
    assert gone[0] is Cause.DENIED


def test_p15_a_hello_with_a_topic_too_many_is_denied() -> None:
    """It says which one."""
    policy = Policy({"e": Rule(serve=("a",))})
    assert policy.refusal(ROUTE, hello("e", "a")) is None
    refused = policy.refusal(ROUTE, hello("e", "a", "b"))
    assert refused is not None
    assert refused[0] is Cause.DENIED
    assert '"b"' in refused[1]


def test_a_refused_repeat_may_have_run() -> None:
    """It was allowed when it was first asked, perhaps (P4)."""
    grants = Grants(Rule())
    first = grants.refusal(request("t"), 0.0)
    again = grants.refusal(request("t", flags=int(Flag.REPEAT)), 0.0)
    assert first is not None
    assert again is not None
    assert (first.executed, again.executed) == (Executed.NO, Executed.MAYBE)


def test_in_flight_is_shared_by_all_of_a_rule() -> None:
    """Whoever of them asks; one that left counts no longer. A repeat is no new one."""
    grants = Grants(Rule(request=("*",), in_flight=3))
    mine: list[object] = [1, 2]
    others: list[object] = [1]
    grants.join(mine)
    assert grants.refusal(request("t"), 0.0) is None
    grants.join(others)
    assert isinstance(grants.refusal(request("t"), 0.0), Overloaded)
    assert grants.refusal(request("t", flags=int(Flag.REPEAT)), 0.0) is None
    grants.leave(others)
    assert grants.refusal(request("t"), 0.0) is None


@given(st.integers(1, 50), st.lists(st.floats(0.0, 0.5), min_size=1, max_size=80))
def test_the_rate_holds_over_any_time(rate: int, pauses: list[float]) -> None:
    """No more than a second's worth beyond what the time allows, and ``retry_after_s`` is true."""
    grants = Grants(Rule(request=("*",), rate=rate))
    now, passed = 0.0, 0
    for pause in pauses:
        now += pause
        refused = grants.refusal(request("t"), now)
        if refused is None:
            passed += 1
        else:
            assert isinstance(refused, Overloaded)
            now += refused.retry_after_s + 1e-6
            assert grants.refusal(request("t"), now) is None
            passed += 1
    assert passed <= rate * (1.0 + now) + 1


def test_bytes_are_paid_for_afterwards() -> None:
    """A body above a second's worth may pass, and is made good before the next."""
    grants = Grants(Rule(request=("*",), bytes_s=100))
    assert grants.refusal(request("t", body=b"x" * 300), 0.0) is None
    refused = grants.refusal(request("t"), 1.0)
    assert refused is not None
    assert refused.retry_after_s == pytest.approx(1.01, abs=0.02)
    assert grants.refusal(request("t"), 2.1) is None


@pytest.mark.parametrize(("body", "wait_s"), [(300, 2.01), (None, None)])
def test_a_large_body_is_paid_for_too(body: int | None, wait_s: float | None) -> None:
    """What its manifest says, though it comes later and in chunks; nonsense is as long as it is."""
    grants = Grants(Rule(request=("*",), bytes_s=100))
    raw = b"?" if body is None else encode_manifest(Manifest(10, (100, body - 100), 0))
    assert grants.refusal(request("t", flags=int(Flag.LARGE), body=raw), 0.0) is None
    refused = grants.refusal(request("t"), 0.0)
    assert (refused and refused.retry_after_s) == (wait_s and pytest.approx(wait_s, abs=0.02))


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(1, 60)), max_size=60),
)
def test_p15_pushes_have_a_rate_over_any_time(rate: int, pushes: list[tuple[float, int]]) -> None:
    """Count and bytes; one batch may overdraw it, and what is to wait is told how long."""
    counted = Grants(Rule(push=("*",), push_rate=rate))
    weighed = Grants(Rule(push=("*",), push_bytes_s=rate))
    for grants, sizes in ((counted, (1, 0)), (weighed, (0, 1))):
        now = 5.0
        passed = largest = 0
        for pause, amount in pushes:
            now += pause
            wait_s = grants.push_wait_s(amount * sizes[0], amount * sizes[1], now)
            if wait_s > 0.0:
                now += wait_s + 1e-6
                assert grants.push_wait_s(amount * sizes[0], amount * sizes[1], now) == 0.0
            passed, largest = passed + amount, max(largest, amount)
        assert passed <= rate * (now - 5.0 + 1.0) + largest


def test_pushes_and_requests_do_not_share_a_limit() -> None:
    """Nor has a rule without one any."""
    grants = Grants(Rule(request=("*",), push=("*",), rate=1, push_rate=1))
    assert grants.refusal(request("t"), 1.0) is None
    assert grants.push_wait_s(1, 10**9, 1.0) == 0.0
    assert grants.push_wait_s(1, 1, 1.0) == 1.0
    free = Grants(Rule(push=("*",)))
    assert free.push_wait_s(10**9, 10**9, 1.0) == 0.0
    assert (free.push_window(64), grants.push_window(64)) == (64, 1)
