"""A tally counts what was seen over many runs, and what was not."""

from __future__ import annotations

from zbus.peer.dispatcher import Dispatcher
from zbus.testing.bus import Bus
from zbus.testing.knobs import Knobs
from zbus.testing.tally import ERRORS, EXECUTED, FAULTS, REFUSED, Tally


def test_nothing_seen_is_everything_missing() -> None:
    """A run that did nothing is vacuous in every respect."""
    missing = list(Tally().missing())
    assert len(missing) == len(FAULTS) + len(ERRORS) + len(REFUSED) + len(EXECUTED)
    assert "fault: vanish" in missing
    assert "error: TargetLost" in missing
    assert "executed: yes" in missing


def test_what_was_seen_on_a_bus_is_counted() -> None:
    """Outcomes by their kind, ``executed``, refusals, troubles, pushes."""
    dispatcher = Dispatcher()
    dispatcher.add("echo", lambda body: body)
    tally = Tally()
    for _ in range(2):
        with Bus(knobs=Knobs(object_max_bytes=0)) as bus:
            bus.server(dispatcher)
            engine = bus.engine("e1")
            for topic in ("echo", "echo", "nobody"):
                engine.outcome(topic, 1, timeout=1.0)
            engine.outcome("echo", bytes(2_000_000), timeout=1.0)
            engine.push("m", 1)
            engine.submit("echo", 1, timeout=1.0)
            engine.crash()
            tally.add(bus)
    assert (tally.runs, tally.requests, tally.pushes) == (2, 8, 2)
    assert tally.outcomes == {"a reply": 4, "NoHandler": 2, "nothing, its process died": 2}
    assert tally.executed == {"no": 2}
    assert tally.refused == {"TooLarge": 2}
    assert tally.happened["crash engine"] == 2
    assert "error: NoHandler" not in tally.missing()
    assert "fault: crash engine" not in tally.missing()


def test_the_summary_has_a_line_for_each_kind_of_thing() -> None:
    """Also where there was none."""
    lines = list(Tally().lines())
    assert lines[0] == "0 requests, 0 pushes"
    assert "outcomes: nothing" in lines
