"""Stories of a bus on which anything happens at any moment, back to back and through the codec."""

from __future__ import annotations

from collections import Counter

from hypothesis import event, given, settings
from hypothesis import strategies as st
from machines import UNSETTLED, Bus, End, attached

from zbus.errors import Executed, ZbusError
from zbus.protocol.limits import Limits

# -- anything, at any time -------------------------------------------------------------------------


STEPS = st.lists(
    st.sampled_from(
        ["ask", "call", "call", "answer", "settle", "push", "take"] * 2
        + "hop settle run replace kill start cut-engine cut-server lose-up lose-down "
        "crash join stop wake cancel drain withdraw serve".split()
    ),
    min_size=5,
    max_size=60,
)


BROKERS = st.sampled_from(
    [
        Limits(restart_settle_s=1.5, push_window=3),
        UNSETTLED,
        Limits(restart_settle_s=1.5, window=1, push_window=1),
    ]
)


@settings(max_examples=min(1_500, 3 * settings().max_examples))
@given(STEPS, BROKERS, st.booleans())
def test_p01_to_p05_whatever_happens(steps: list[str], limits: Limits, second: bool) -> None:
    """Connections, brokers and servers come and go at any moment: each request ends once, no
    later than its deadline, starts at most once, and what ended as not run was not run; pushes are
    conserved and in order. Then all heals, and nothing is left (P1 to P5, P7)."""
    bus = Bus(limits)
    bus.join("engine")
    bus.join("server", "t", holds=True)
    if second:
        bus.join("server-2", "t", holds=True)
    story = Story(bus)
    for step in steps:
        story.do(step)
    story.heal()
    for number, deadline in story.deadlines.items():
        outcome = story.engine.outcomes[number]
        assert story.engine.ended_at[number] <= deadline + 1e-6
        ran = any(key.number == number for end in story.servers for key in end.starts)
        if isinstance(outcome, ZbusError):
            event(f"{type(outcome).__name__} {outcome.executed.value}")
            assert not (ran and outcome.executed is Executed.NO), f"P4: {outcome} and it ran"
        else:
            event("reply")
            assert ran
    for end in story.servers:
        assert max(end.starts.values(), default=1) == 1
    if not {"stop", "crash"} & set(steps) and limits is not UNSETTLED:
        starts = sum((end.starts for end in story.servers), Counter())
        assert max(starts.values(), default=1) == 1, "two servers started it"
    story.check_pushes()


class Story:
    """What happens to an engine and its servers."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.engine = bus.ends["engine"]
        self.servers = [end for end in bus.ends.values() if end is not self.engine]
        self.deadlines: dict[int, float] = {}

    @property
    def server(self) -> End:
        return self.servers[-1]

    def do(self, step: str) -> None:
        bus, server = self.bus, self.bus.ends.get("server")
        if step == "push":
            self.engine.session.push("t", b"%d" % self.engine.session.out_lanes.accepted)
        elif step == "take" and server is not None:
            bus.take(server)
        elif step in ("ask", "call"):
            timeout = (30.0, 0.5, 3.0)[len(self.deadlines) % 3]
            number = bus.ask(self.engine, "t", timeout=timeout)
            self.deadlines[number] = bus.now + timeout
            if step == "call":
                bus.settle()
        elif step == "answer" and server is not None and server.running:
            bus.answer(server)
        elif step == "cancel" and self.engine.session.asker.requests._open:
            number = next(iter(self.engine.session.asker.requests._open))
            bus.carry(self.engine, self.engine.session.cancel(number, bus.now))
        elif step == "hop":
            bus.hop()
        elif step == "settle":
            bus.settle()
        elif step == "run":
            bus.run(0.4)
        elif step in ("replace", "kill", "start", "drain"):
            self._of_broker(step)
        else:
            self._of_peers(step, server)

    def _of_broker(self, step: str) -> None:
        if step == "replace":
            self.bus.replace()
        elif step == "kill":
            self.bus.kill()
        elif self.bus.broker is None:
            self.bus.start()
        elif step == "drain":
            self.bus.broker.drain()

    def _of_peers(self, step: str, server: End | None) -> None:
        bus = self.bus
        if step == "cut-engine":
            bus.cut(self.engine)
        elif step == "lose-up":
            bus.cut(self.engine, up=2)
        elif step == "lose-down":
            bus.cut(self.engine, down=2)
        elif server is None:
            if step == "join":
                self.servers.append(
                    bus.join("server", "t", holds=True, epoch=len(self.servers) + 1)
                )
        elif step == "cut-server":
            bus.cut(server, up=1, down=1)
        elif step == "crash":
            bus.crash("server")
        elif step in ("stop", "wake"):
            server.stopped = step == "stop"
        elif step == "withdraw":
            bus.serve(server, withdrawn=["t"])
        elif step == "serve":
            bus.serve(server, ["t"])

    def heal(self) -> None:
        bus = self.bus
        bus.replace()
        for end in bus.ends.values():
            end.stopped = False
        if "server" not in bus.ends:
            self.do("join")
        for end in bus.ends.values():
            end.holds = False
            if end is not self.engine:
                bus.serve(end, ["t"])
        bus.run(3.0)
        for end in bus.ends.values():
            bus.take(end, len(end.takes))
            while end.running:
                bus.answer(end)
        bus.run(32.0)
        assert attached(bus)
        assert set(self.engine.outcomes) == set(self.deadlines)
        assert bus.broker is not None
        assert len(bus.broker.switchboard.tickets) == 0
        for end in bus.ends.values():
            assert end.session.idle

    def check_pushes(self) -> None:
        """Every accepted push was taken, in order, and by no life of a server twice (P7)."""
        out = self.engine.session.out_lanes
        assert (out.delivered, out.dropped, out.queued) == (out.accepted, 0, 0)
        taken: set[int] = set()
        for end in self.servers:
            numbers = [int(body) for body in end.bodies("t")]
            assert numbers == sorted(set(numbers)), "out of order, or twice"
            taken.update(numbers)
        assert taken == set(range(out.accepted))
