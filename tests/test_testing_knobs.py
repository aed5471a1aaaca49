"""Knobs become the settings of a broker and of peers, and what is drawn comes from the seed."""

from __future__ import annotations

import random
from dataclasses import asdict, fields

from zbus.protocol.limits import Limits
from zbus.protocol.session import SessionLimits
from zbus.testing.faults import PERFECT, Faults
from zbus.testing.knobs import CALM, QUIET, Knobs, draw_faults, draw_knobs


def drawn(count: int = 200) -> list[tuple[Knobs, Faults]]:
    chances = [random.Random(seed) for seed in range(count)]
    return [(draw_knobs(chance), draw_faults(chance)) for chance in chances]


def test_the_defaults_are_those_of_a_real_bus() -> None:
    """A simulation without odd settings is one of what is deployed."""
    assert Knobs().settings().limits() == Limits()
    assert Knobs().session_limits() == SessionLimits()
    assert CALM.settings().limits().heartbeat_s > 1.0


def test_every_knob_reaches_who_it_is_for() -> None:
    """Each of them changes the broker's limits, its policy, a peer's limits, or the handlers."""
    odd = {
        "heartbeat_s": 0.5,
        "open_requests": 3,
        "window": 4,
        "push_window": 5,
        "outbox_bytes": 6_000,
        "target_bytes": 7_000,
        "memory_bytes": 8_000,
        "slow_s": 0.7,
        "body_max_bytes": 5_000,
        "object_max_bytes": 5_500,
        "restart_settle_s": 0.8,
        "engine_to_engine": False,
        "peer_window": 9,
        "remembered": 10,
        "pushes": 11,
    }
    assert {field.name for field in fields(Knobs)} == {*odd, "pace"}
    knobs = Knobs(**odd)  # type: ignore[arg-type]
    settings, peers = knobs.settings(), knobs.session_limits()
    reached = {**asdict(settings.limits()), "engine_to_engine": settings.policy.engine_to_engine}
    peers_have = {"peer_window": peers.window, **asdict(peers)}
    for name, value in odd.items():
        assert value in (reached.get(name), peers_have.get(name)), name
    assert peers.push_window == 5


def test_each_run_is_odd_in_another_way() -> None:
    """Every setting and every kind of fault is drawn sometimes, and left alone more often."""
    runs = drawn()
    for field in fields(Knobs):
        odd = sum(getattr(knobs, field.name) != getattr(Knobs(), field.name) for knobs, _ in runs)
        assert odd > 20, field.name
        assert field.name == "pace" or odd < 120, field.name
    for kind in fields(Faults):
        if kind.name in {"delay_min_s", "cut_breaks_s", "frame_max_bytes"}:
            continue
        odd = sum(getattr(faults, kind.name) != getattr(QUIET, kind.name) for _, faults in runs)
        assert odd > 20, kind.name
        assert kind.name == "delay_max_s" or odd < 180, kind.name


def test_the_same_chance_draws_the_same() -> None:
    """And another one something else."""
    assert drawn(20) == drawn(20)
    assert len({repr(one) for one in drawn(20)}) > 15


def test_a_quiet_network_takes_its_time_and_fails_in_nothing() -> None:
    """It differs from a perfect one in time alone."""
    different = {
        field.name
        for field in fields(Faults)
        if getattr(QUIET, field.name) != getattr(PERFECT, field.name)
    }
    assert different == {"delay_min_s", "delay_max_s", "connect_max_s"}
