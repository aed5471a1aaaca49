"""Any program of registering, sending, telling, aborting and ending: nothing is lost or repeated.

Rules:

* Three engines and a server under virtual time, with and without faults. What was sent, and what
  the handlers got, stands in a ledger, and is compared when all has come to its end.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from engine_stages import JOB, SITES, Recorder, simulated, wait_virtually
from hypothesis import given, settings
from hypothesis import strategies as st

from zbus.engine import (
    ClientEngine,
    EventType,
    FLContext,
    ReturnCode,
    ServerEngine,
    Shareable,
    make_reply,
)
from zbus.engine.job_engine import Equipment
from zbus.engine.outcomes import EXECUTED_HEADER
from zbus.testing import PERFECT, ROUGH, Bus, Faults

TOPICS = ("a", "any text, b", "none")
MANNERS = ("ok", "raise", "nothing", "dict", "exit")
WHO = st.integers(0, len(SITES))  # the server comes last
CLIENT = st.integers(0, len(SITES) - 1)
TOPIC = st.sampled_from(TOPICS)
STEP = st.one_of(
    st.tuples(st.just("register"), WHO, TOPIC, st.sampled_from(MANNERS)),
    st.tuples(st.just("send"), CLIENT, TOPIC, st.sampled_from((1, 5.0))),
    st.tuples(st.just("push"), CLIENT, TOPIC),
    st.tuples(st.just("ask"), st.sets(CLIENT), TOPIC),
    st.tuples(st.just("tell"), st.sets(CLIENT), TOPIC),
    st.tuples(st.just("pass"), st.floats(0.0, 2.0)),
    st.tuples(st.just("abort"), WHO),
    st.tuples(st.just("end"), WHO),
)


class World:
    """Three engines, a server, and a ledger of what was sent and handled."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.bus = Bus(seed, faults)
        self.events = [Recorder() for _ in range(len(SITES) + 1)]
        gear = [Equipment(handlers=[recorder]) for recorder in self.events]
        attach = simulated(self.bus, "server")
        self.server = ServerEngine(JOB, SITES, equipment=gear[-1], attach=attach)
        self.engines: list[ClientEngine | ServerEngine] = [
            ClientEngine(site, JOB, equipment=gear[at], attach=simulated(self.bus, "engine"))
            for at, site in enumerate(SITES)
        ]
        self.engines.append(self.server)
        for engine in self.engines:
            engine.start_run()
            wait_virtually(self.bus, engine)
        self.sent = 0
        self.registered: set[tuple[int, str]] = set()
        self.handled: Counter[int] = Counter()
        self.order: dict[tuple[int, str], list[int]] = {}
        self.pushed: dict[tuple[int, str], list[int]] = {}
        self.told: list[int] = []
        self.aborted: set[int] = set()

    def do(self, step: tuple[Any, ...]) -> None:
        getattr(self, f"do_{step[0]}")(*step[1:])

    def request(self) -> Shareable:
        self.sent += 1
        return Shareable({"n": self.sent})

    def do_register(self, who: int, topic: str, manner: str) -> None:
        def handle(topic: str, request: Shareable, fl_ctx: FLContext) -> Any:
            number = request["n"]
            self.handled[number] += 1
            peer = fl_ctx.get_peer_context().get_identity_name()
            at = SITES.index(peer) if peer in SITES else len(SITES)
            self.order.setdefault((at, topic), []).append(number)
            if manner == "raise":
                raise ValueError("as told")
            if manner == "exit":
                raise SystemExit(3)
            return {"ok": make_reply(ReturnCode.OK), "dict": {}}.get(manner)

        if topic == TOPICS[-1]:
            return
        if (who, topic) in self.registered:
            with pytest.raises(ValueError, match="already"):
                self.engines[who].register_aux_message_handler(topic, handle)
        else:
            self.engines[who].register_aux_message_handler(topic, handle)
            self.registered.add((who, topic))

    def do_send(self, who: int, topic: str, timeout: float) -> None:
        engine = self.engines[who]
        assert isinstance(engine, ClientEngine)
        request, began = self.request(), self.bus.now
        reply = engine.send_aux_request(topic, request, timeout, engine.new_context())
        assert self.bus.now - began < timeout + 1.0
        self.judge(reply, request["n"], known=(len(SITES), topic) in self.registered)

    def do_ask(self, who: set[int], topic: str) -> None:
        request, began = self.request(), self.bus.now
        sites = [SITES[at] for at in sorted(who)] + ["nobody"]
        replies = self.server.send_aux_request(
            sites, topic, request, 5.0, self.server.new_context()
        )
        assert list(replies) == sites
        assert self.bus.now - began < 6.0
        assert self.handled[request["n"]] <= len(who)
        assert replies["nobody"].get_return_code() == ReturnCode.COMMUNICATION_ERROR
        ran = sum(ran_for_sure(reply) for reply in replies.values())
        assert self.handled[request["n"]] >= ran

    def do_push(self, who: int, topic: str) -> None:
        engine = self.engines[who]
        assert isinstance(engine, ClientEngine)
        request = self.request()
        reply = engine.fire_and_forget_aux_request(topic, request, engine.new_context())
        assert reply.get_return_code() == ReturnCode.OK
        if (len(SITES), topic) in self.registered:
            self.pushed.setdefault((who, topic), []).append(request["n"])

    def do_tell(self, who: set[int], topic: str) -> None:
        request = self.request()
        sites = [SITES[at] for at in sorted(who)] + ["nobody"]
        replies = self.server.fire_and_forget_aux_request(
            sites, topic, request, self.server.new_context()
        )
        assert {replies[name].get_return_code() for name in sites[:-1]} <= {ReturnCode.OK}
        self.told += [request["n"]] * sum((at, topic) in self.registered for at in who)

    def do_pass(self, seconds: float) -> None:
        self.bus.run(seconds)

    def do_abort(self, who: int) -> None:
        engine, began = self.engines[who], self.bus.now
        engine.abort_app(JOB, engine.new_context())
        assert engine.abort_signal.triggered
        assert engine.is_over
        assert self.bus.now - began < 60.0
        self.aborted.add(who)

    def do_end(self, who: int) -> None:
        began = self.bus.now
        self.engines[who].end_run()
        assert self.bus.now - began < 30.0

    def judge(self, reply: Shareable, number: int, *, known: bool) -> None:
        assert self.handled[number] <= 1
        if ran_for_sure(reply):
            assert self.handled[number] == (1 if known else 0)
        if reply.get_header(EXECUTED_HEADER) == "no":
            assert self.handled[number] == 0

    def close(self) -> None:
        """Everything must have come to its end: what was pushed was handled once and in order,
        what was told at most once, and lost only where that was counted."""
        self.bus.settle()
        self.bus.run(60.0)
        for lane, numbers in self.pushed.items():
            mine = [number for number in self.order.get(lane, []) if number in set(numbers)]
            assert mine == numbers
        courier = self.server.exchange.courier
        assert courier.unsettled == 0
        wanted, got = Counter(self.told), Counter(self.handled)
        missing = sum(max(wanted[n] - got[n], 0) for n in wanted)
        assert missing <= courier.dropped
        assert all(got[n] <= wanted[n] for n in wanted)
        for at, engine in enumerate(self.engines):
            heard = Counter(self.events[at].heard)
            assert heard[EventType.END_RUN] == int(engine.is_over)
        self.bus.check()


def ran_for_sure(reply: Shareable) -> bool:
    """Whether a handler answered, not the bus."""
    return reply.get_header(EXECUTED_HEADER) is None and reply.get_return_code() in {
        ReturnCode.OK,
        ReturnCode.HANDLER_EXCEPTION,
        ReturnCode.ERROR,
    }


@given(st.lists(STEP, max_size=25), st.integers(0, 2**32))
def test_any_program_on_a_good_day(steps: list[tuple[Any, ...]], seed: int) -> None:
    """Without faults nothing that was told is dropped, either."""
    world = World(seed, PERFECT)
    for step in steps:
        world.do(step)
    world.close()
    absent = world.server.exchange.courier.dropped
    assert absent == 0


@settings(max_examples=25)
@given(st.lists(STEP, max_size=25), st.integers(0, 2**32))
def test_any_program_on_a_bad_day(steps: list[tuple[Any, ...]], seed: int) -> None:
    """Messages are slow, connections break and vanish with what was under way."""
    world = World(seed, ROUGH)
    for step in steps:
        world.do(step)
    world.close()
