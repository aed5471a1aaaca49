"""The promises hold on a simulated bus: under seeds and faults, and in what seeds rarely meet."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from zbus.errors import Cancelled, NoHandler, RequestTimeout, TargetLost, ZbusError
from zbus.peer.dispatcher import Dispatcher, Incoming
from zbus.testing.bus import Bus
from zbus.testing.knobs import QUIET, Knobs
from zbus.testing.peers import Pending, SimulatedPeer
from zbus.testing.plug import Traced
from zbus.testing.pool import Pace
from zbus.testing.swarm import Scenario, swarm
from zbus.testing.tally import Tally

SLOW_HANDLERS = Knobs(pace=Pace(most_s=0.6))
"""And a beat a second, as on a real bus."""
HANGING = Knobs(pace=Pace(hang_probability=1.0))


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Handlers that raise are part of the play, and so is garbage."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def echoing(*topics: str) -> Dispatcher:
    dispatcher = Dispatcher()
    for topic in topics or ("echo",):
        dispatcher.add(topic, lambda body: body)
    return dispatcher


def kinds(pending: list[Pending]) -> Counter[str]:
    return Counter(type(one.value()).__name__ for one in pending)


def let_all_end(bus: Bus, pending: list[Pending]) -> None:
    assert bus.run_until(lambda: all(one.done for one in pending), 60.0)


# -- replay ------------------------------------------------------------------------------


def test_one_seed_is_one_run() -> None:
    """The same seed gives the same trace, byte for byte; another seed does not."""

    def trace(seed: int) -> list[Traced]:
        scenario = replace(Scenario.draw(5, 100), seed=seed)
        return swarm(scenario, traced=True).trace

    first = trace(5)
    assert first == trace(5)
    assert first != trace(6)
    assert len(first) > 1_000


# -- P2, P17: time -----------------------------------------------------------------------


def test_p02_an_hour_ends_on_time_and_costs_less_than_a_second() -> None:
    """A request that nobody answers ends after an hour by its own clock, and nothing wakes more
    often than it must."""
    with Bus(1) as bus:
        server = bus.server(echoing())
        assert server.pool is not None
        server.pool.hang("echo")
        began, at = time.process_time(), bus.now
        outcome = bus.engine("e1").outcome("echo", 1, timeout=3600)
        assert isinstance(outcome, RequestTimeout)
        assert bus.now - at == pytest.approx(3600, abs=0.5)  # its clock drifts
        assert time.process_time() - began < 1.0
        assert bus.stage.turns < 20_000


def test_p02_the_handlers_clock_does_not_end_a_request() -> None:
    """A server that was stopped must take a request for older than it is, and may find that it
    cannot begin in time; the request still ends by its caller's clock, and not before."""
    with Bus(2, knobs=Knobs(pace=Pace(least_s=6.0, most_s=6.0, hands=1))) as bus:
        server, engine = bus.server(echoing()), bus.engine("e1")
        first = engine.submit("echo", 1, timeout=10.0)
        bus.run(0.1)
        server.stop()
        bus.run(1.9)
        second = engine.submit("echo", 2, timeout=5.0)
        server.cont()
        bus.run(4.5)
        assert not second.done
        let_all_end(bus, [first, second])
        assert isinstance(second.value(), RequestTimeout)
        assert second.asked.early_s <= 0.0
        assert not second.asked.begun


def test_p02_what_a_full_port_kept_is_not_begun_too_late() -> None:
    """Requests that waited for room in a port have that much less time left: the handler's side
    begins none of them after the caller has given up."""
    narrow = replace(QUIET, send_mark=1, delay_min_s=0.02, delay_max_s=0.02)
    with Bus(3, narrow) as bus:
        bus.server(echoing())
        engine = bus.engine("e1")
        pending = []
        for number in range(60):
            pending.append(engine.submit("echo", number, timeout=0.3))
            bus.run(0.001)
        let_all_end(bus, pending)
        assert bus.counters["full"] > 10
        assert 0 < kinds(pending)["int"] < 60


def test_p17_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine and no shell reads a clock of this machine: a run in which reading one fails,
    or says another hour each time, is the same run."""
    scenario = replace(Scenario.draw(11, 60), seed=11)
    expected = swarm(scenario, traced=True).trace

    def fails() -> float:
        raise AssertionError("somebody reads a real clock")

    for clock in ("time", "monotonic", "time_ns", "monotonic_ns", "perf_counter"):
        monkeypatch.setattr(time, clock, fails)
    trace = swarm(scenario, traced=True).trace
    monkeypatch.undo()
    assert trace == expected


def test_p17_clocks_far_apart_change_no_outcome() -> None:
    """Processes whose monotonic clocks started now and ten years ago understand each other."""
    seen = set()
    for seed in range(12):
        with Bus(seed) as bus:
            bus.server(echoing())
            engine = bus.engine("e1")
            assert engine.request("echo", seed, timeout=1.0) == seed
            seen |= {round(actor.clock.offset_s) for actor in bus.stage.actors.values()}
    assert len(seen) >= 3
    assert max(seen) > 300_000_000


# -- P5, P6: the broker is killed --------------------------------------------------------


@pytest.mark.parametrize("drained", [False, True], ids=["killed", "drained"])
@pytest.mark.parametrize("servers", [1, 3])
def test_p06_a_broker_restart_is_a_pause(servers: int, drained: bool) -> None:
    """Five restarts under load: every request that has time left ends in its reply, from a handler
    that began once."""
    for seed in range(3):
        with Bus(seed, knobs=SLOW_HANDLERS) as bus:
            for number in range(servers):
                bus.server(echoing(), f"server-{number}")
            engines = [bus.engine(f"engine-{number}") for number in range(3)]
            pending: list[Pending] = []
            for _ in range(5):
                ask_some(bus, engines, pending, 40)
                bus.broker.drain() if drained else bus.broker.crash()
                ask_some(bus, engines, pending, 10)
                bus.run_until(lambda: not bus.broker.is_alive, 10.0)
                bus.run(bus.stage.chance("pause").uniform(0.1, 1.0))
                bus.broker.begin()
            let_all_end(bus, pending)
            assert kinds(pending) == {"int": len(pending)}
            assert all(len(one.asked.begun) == 1 for one in pending)
            bus.settle()


def ask_some(bus: Bus, engines: list[SimulatedPeer], pending: list[Pending], count: int) -> None:
    for _ in range(count):
        engine = engines[len(pending) % len(engines)]
        pending.append(engine.submit("echo", len(pending), timeout=20.0))
        bus.run(0.005)


def test_p05_an_old_open_request_is_remembered_beside_thousands_of_new_ones() -> None:
    """A request that runs while thousands come and go is not forgotten when it ends: its repeat
    after a broker restart is given the reply, and does not begin again."""
    with Bus(4) as bus:
        dispatcher = echoing("quick")
        dispatcher.add("slow", lambda body: body)
        server = bus.server(dispatcher)
        engine = bus.engine("e1")
        assert server.pool is not None
        server.pool.hang("slow")
        slow = engine.submit("slow", "once", timeout=300.0)
        for _ in range(50):
            burst = [engine.submit("quick", number, timeout=5.0) for number in range(100)]
            let_all_end(bus, burst)
        bus.broker.crash()
        bus.run(0.1)
        server.pool.let_go()
        bus.run(0.1)
        bus.broker.begin()
        let_all_end(bus, [slow])
        assert slow.value() == "once"
        assert len(slow.asked.begun) == 1


def test_p06_topics_that_change_while_there_is_no_broker_are_known_to_the_next() -> None:
    """What a server takes up between its Hello and its Welcome is served, and what it gives up is
    not."""
    slow_to_connect = replace(QUIET, delay_min_s=0.2, delay_max_s=0.2)
    with Bus(5, slow_to_connect) as bus:
        server = bus.server(echoing("a", "b"), attach=False)
        engine = bus.engine("e1", attach=False)
        bus.run(0.25)
        assert not server.is_attached
        server.serve(("c",), ("a",))
        assert bus.run_until(lambda: server.is_attached and engine.is_attached, 5.0)
        bus.run(0.5)
        assert isinstance(engine.outcome("a", 1, timeout=5.0), NoHandler)
        assert engine.request("b", 1, timeout=5.0) == 1
        assert bus.broker.daemon.broker.roster.topics() == {"b": ["server"], "c": ["server"]}


# -- P7: pushes --------------------------------------------------------------------------


def test_p07_pushes_survive_every_restart_of_the_broker() -> None:
    """Accepted pushes are taken, each once and in order, whatever happens to the broker and to
    connections, as long as sender and server live."""
    rough = replace(QUIET, break_probability=0.02, vanish_probability=1.0, notice_max_s=0.3)
    for seed in range(4):
        with Bus(seed, rough, Knobs(push_window=8, pushes=500)) as bus:
            server, engine = bus.server(echoing("m")), bus.engine("e1")
            accepted = 0
            for number in range(300):
                engine.push("m", number)
                accepted += 1
                bus.run(0.01)
                if number % 60 == 59:
                    bus.broker.restart()
            bus.settle()
            (lane,) = bus.history.lanes.values()
            assert [taken.sequence for taken in lane.taken] == list(range(1, accepted + 1))
            assert engine.counters.delivered == server.session.in_lanes.delivered == accepted


# -- P10, P11: life and death ------------------------------------------------------------


@pytest.mark.parametrize("how", ["crash", "stop", "cut"])
def test_p10_the_loss_of_a_handler_is_told_within_three_beats(how: str) -> None:
    """Killed, stopped or cut off: whoever waits for it is told TargetLost, maybe run, within three
    seconds at one beat a second."""
    for seed in range(8):
        with Bus(seed, knobs=HANGING) as bus:
            server, engine = bus.server(echoing()), bus.engine("e1")
            pending = engine.submit("echo", 1, timeout=60.0)
            bus.run(1.0 + seed / 7)
            at = bus.now
            if how == "crash":
                server.crash()
            elif how == "stop":
                server.stop()
            else:
                bus.cut("server", "broker")
            let_all_end(bus, [pending])
            assert isinstance(pending.value(), TargetLost)
            assert pending.value().executed == "maybe"
            assert bus.now - at <= 3.0


def test_p11_a_handler_busy_for_ten_minutes_is_not_declared_dead() -> None:
    """Its peer beats beside it; the reply comes after ten minutes."""
    with Bus(6, knobs=Knobs(pace=Pace(least_s=600.0, most_s=600.0))) as bus:
        bus.server(echoing())
        assert bus.engine("e1").request("echo", "at last", timeout=700.0) == "at last"
        assert bus.counters["broker.peer_lost"] == 0


@pytest.mark.parametrize("seconds", [0.6, 2.0, 2.6, 5.0, 30.0])
def test_p11_a_broker_that_was_stopped_blames_nobody(seconds: float) -> None:
    """However long it was stopped, it declares nobody lost, and all open requests are replied."""
    for seed in range(4):
        with Bus(seed, knobs=HANGING) as bus:
            server = bus.server(echoing())
            engines = [bus.engine(f"e{number}") for number in range(3)]
            pending = [engine.submit("echo", 1, timeout=90.0) for engine in engines]
            bus.run(1.0)
            bus.broker.stop()
            bus.run(seconds)
            bus.broker.cont()
            bus.run(10.0)
            assert server.pool is not None
            server.pool.let_go()
            let_all_end(bus, pending)
            assert kinds(pending) == {"int": 3}
            assert bus.counters["broker.peer_lost"] == 0


# -- Cancel ------------------------------------------------------------------------------


def test_a_cancelled_request_is_shown_to_its_handler_and_never_begins_after() -> None:
    """A caller that gives up is told so at once; the handler that runs can see it, and one that
    has not begun never does."""
    seen: list[Incoming] = []
    dispatcher = Dispatcher()
    dispatcher.add("work", lambda body, request: seen.append(request))
    with Bus(7, knobs=Knobs(pace=Pace(least_s=1.0, most_s=1.0, hands=1))) as bus:
        bus.server(dispatcher)
        engine = bus.engine("e1")
        pending = [engine.submit("work", number, timeout=30.0) for number in range(2)]
        bus.run(0.1)
        for one in pending:
            one.cancel()
            assert isinstance(one.value(), Cancelled)
        bus.run(0.1)
        assert [request.cancelled for request in seen] == [True]
        bus.settle()
        assert len(seen) == 1


def test_every_outcome_is_a_value_or_an_error_of_ours() -> None:
    """What ``outcome`` returns needs no other check, which is the example of the handbook."""
    with Bus(8) as bus:
        bus.server(echoing())
        engine = bus.engine("e1")
        for topic, body in (("echo", {"a": 1}), ("nobody", 1), ("echo", object())):
            assert isinstance(engine.outcome(topic, body, timeout=3600), dict | ZbusError)


# -- seeds -------------------------------------------------------------------------------


def play(seeds: range, requests: int) -> Tally:
    tally = Tally()
    for seed in seeds:
        swarm(Scenario.draw(seed, requests), tally)
    return tally


def test_p01_to_p11_hold_under_any_trouble() -> None:
    """Ten thousand requests on fifty buses: nothing is broken, and everything ends after the
    troubles do."""
    tally = play(range(50), 200)
    assert tally.requests >= 10_000
    assert tally.outcomes["a reply"] > 3_000
