"""Requests that end the processes they are given to: exactly so many, and nobody else is blamed."""

from __future__ import annotations

import pytest
from machines import Bus, End, body_of, error_of

from zbus.errors import Executed, NotAuthorized, Poisoned, RequestTimeout, TargetLost
from zbus.peer.dispatcher import Dispatcher
from zbus.protocol.effect import Lane, Route
from zbus.protocol.limits import Limits
from zbus.protocol.message import Hello, Key, Parcel, Request, Role
from zbus.protocol.policy import Policy, Rule
from zbus.protocol.quarantine import SUSPECTS_MAX, Quarantine, Suspect
from zbus.protocol.roster import Peer, Roster, Ticket
from zbus.testing import Bus as SimulatedBus
from zbus.testing.tables import broker_quarrels

LIMITS = Limits(restart_settle_s=0.0)
POISON = b"poison"
HOLD = "work"
"""A topic whose handlers end when the test says so."""


class Ward(Bus):
    """A bus with an engine, and servers that die with what the test says."""

    def __init__(self, kills: int = 2) -> None:
        super().__init__(Limits(restart_settle_s=0.0, poison_kills=kills))
        self.engine = self.join("engine")
        self._epochs = 1

    def server(self, name: str = "server") -> End:
        """A process of this name starts."""
        self._epochs += 1
        end = self.join(name, HOLD, "other", holds=True, epoch=self._epochs)
        self.settle()
        return end

    def lose(self, name: str = "server") -> None:
        """It dies, and the broker finds that it does not come back."""
        self.crash(name)
        self.run(1.5)

    def doom(self, *bodies: bytes, name: str = "server") -> list[int]:
        """Ask this, and let the server that has it die; the numbers."""
        numbers = [self.ask(self.engine, HOLD, body) for body in bodies]
        self.settle()
        self.lose(name)
        return numbers

    def given(self, end: End) -> set[bytes]:
        """What a server is at now."""
        return {start.request.body for start in end.running.values()}

    @property
    def suspects(self) -> list[Suspect]:
        assert self.broker is not None
        return list(self.broker.switchboard.quarantine.suspects.values())

    def ended(self, number: int) -> tuple[type[BaseException], Executed]:
        error = error_of(self.engine, number)
        return type(error), error.executed


# -- exactly so many -----------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [1, 2, 3])
def test_p12_a_request_that_kills_is_given_to_no_further_process(kills: int) -> None:
    """TargetLost, then Poisoned (maybe) with the last death, then Poisoned (no): whoever asks,
    and the next server never sees it."""
    ward = Ward(kills)
    for number in range(kills):
        ward.server(f"server-{number}")
        (asked,) = ward.doom(POISON, name=f"server-{number}")
        last = number == kills - 1
        assert ward.ended(asked) == (Poisoned if last else TargetLost, Executed.MAYBE)
    survivor = ward.server("server-after")
    for engine in (ward.engine, ward.join("engine-other")):
        asked = ward.ask(engine, HOLD, POISON)
        ward.settle()
        error = error_of(engine, asked)
        assert (type(error), error.executed) == (Poisoned, Executed.NO)
    assert not survivor.starts
    assert [(each.refused, len(each.deaths)) for each in ward.suspects] == [(2, kills)]


def test_p12_where_the_operator_says_so_nothing_is_ever_quarantined() -> None:
    """``poison_kills`` 0: it costs nothing, and refuses nothing."""
    ward = Ward(kills=0)
    for _ in range(4):
        ward.server()
        (asked,) = ward.doom(POISON)
        assert ward.ended(asked) == (TargetLost, Executed.MAYBE)
    assert not ward.suspects


def test_p12_it_is_quarantined_once_and_said_so_once() -> None:
    """One event for the operator, with topic and number; the dead are named."""
    ward = Ward()
    for _ in range(2):
        ward.server()
        ward.doom(POISON, POISON)
    events = [each for each in ward.happened if each.event == "request_quarantined"]
    assert [dict(each.fields) for each in events] == [
        {"topic": HOLD, "number": 1, "peer": "server"}
    ]
    (suspect,) = ward.suspects
    assert suspect.deaths == {("server", 2): "engine", ("server", 3): "engine"}


def test_p12_everything_else_flows() -> None:
    """Another body on the topic, and the same body on another topic."""
    ward = Ward()
    for _ in range(2):
        ward.server()
        ward.doom(POISON)
    server = ward.server()
    asked = [ward.ask(ward.engine, HOLD, b"fine"), ward.ask(ward.engine, "other", POISON)]
    ward.settle()
    for key in list(server.running):
        ward.answer(server, key)
    ward.settle()
    assert [body_of(ward.engine, number) for number in asked] == [b"done", b"done"]


def test_p12_a_source_that_did_not_wait_is_no_way_around_it() -> None:
    """Its time was up, or it gave up or died, before the process did: that death counts too."""
    for how in ("overdue", "cancelled", "dead"):
        ward = Ward()
        for _ in range(2):
            ward.server()
            other = ward.join("engine-brief")
            number = ward.ask(other, HOLD, POISON, timeout=0.5)
            ward.settle()
            if how == "overdue":
                ward.run(0.6)
                assert isinstance(error_of(other, number), RequestTimeout)
            elif how == "cancelled":
                ward.carry(other, other.session.cancel(number, ward.now))
                ward.settle()
            ward.crash("engine-brief")
            ward.run(1.5)
            ward.lose()
        (suspect,) = ward.suspects
        assert suspect.quarantined, how


# -- nobody else is blamed -----------------------------------------------------------------------


def test_p12_who_was_only_there_is_not_blamed() -> None:
    """Everybody who was told TargetLost asks again at once: the suspects are tried one by one,
    so that one is refused, and all others are answered."""
    ward = Ward()
    ward.server()
    bodies = [b"one", POISON, b"two", b"three"]
    ward.doom(*bodies)
    kills, suspected = 0, set(bodies)
    for _ in range(2):
        server = ward.server()
        numbers = {body: ward.ask(ward.engine, HOLD, body) for body in bodies}
        ward.settle()
        while at := ward.given(server):
            assert len(at & suspected) <= 1, "two suspects were with one process"
            if POISON in at:
                kills += 1
                ward.lose()
                break
            key, start = next(iter(server.running.items()))
            suspected.discard(start.request.body)
            ward.answer(server, key)
            ward.settle()
    assert kills == 1, "the second process, and no third"
    assert ward.ended(numbers.pop(POISON)) == (Poisoned, Executed.NO)
    assert {body_of(ward.engine, number) for number in numbers.values()} == {b"done"}
    assert [each.quarantined for each in ward.suspects] == [True]


def test_p12_suspects_are_tried_one_after_the_other_without_waiting() -> None:
    """The next is asked for as soon as the first is answered, not after a time."""
    ward = Ward()
    ward.server()
    bodies = [bytes([number]) for number in range(20)]
    ward.doom(*bodies)
    server = ward.server()
    began = ward.now
    numbers = [ward.ask(ward.engine, HOLD, body) for body in bodies]
    ward.settle()
    while server.running:
        assert len(server.running) == 1
        ward.answer(server)
        ward.settle()
    assert ward.now == began
    assert {body_of(ward.engine, number) for number in numbers} == {b"done"}
    assert not ward.suspects


def test_p12_an_answer_lets_all_of_the_same_content_go_on() -> None:
    """Not only one of those that wait for it."""
    ward = Ward()
    ward.server()
    ward.doom(POISON)
    server = ward.server()
    for _ in range(5):
        ward.ask(ward.engine, HOLD, POISON)
    ward.settle()
    assert len(server.running) == 1
    ward.answer(server)
    ward.settle()
    assert len(server.running) == 4


def test_p12_suspects_that_take_long_run_beside_each_other_after_a_while() -> None:
    """Once the loss of the process would have been noticed: work that takes hours is not put
    in a row."""
    ward = Ward()
    ward.server()
    ward.doom(b"long", b"longer")
    server = ward.server()
    for body in (b"long", b"longer"):
        ward.ask(ward.engine, HOLD, body, timeout=100.0)
    ward.run(2.9)
    assert len(server.running) == 1
    ward.run(1.2)
    assert ward.given(server) == {b"long", b"longer"}


def test_p12_other_servers_try_suspects_at_the_same_time() -> None:
    """One each."""
    ward = Ward()
    ward.server()
    ward.doom(b"one", b"two")
    servers = [ward.server("server-a"), ward.server("server-b")]
    for body in (b"one", b"two"):
        ward.ask(ward.engine, HOLD, body)
    ward.settle()
    assert [len(server.running) for server in servers] == [1, 1]


@pytest.mark.parametrize("fault", [False, True])
def test_p12_an_answer_clears(fault: bool) -> None:
    """A reply, or a word that the handler ran: the next death is its first again."""
    ward = Ward()
    for _ in range(4):
        server = ward.server()
        ward.doom(POISON)
        server = ward.server()
        ward.ask(ward.engine, HOLD, POISON)
        ward.settle()
        if fault:
            (key,) = server.running
            server.running.clear()
            error = TargetLost(executed=Executed.YES)
            ward.carry(server, server.session.fault(key, error, ward.now))
        else:
            ward.answer(server)
        ward.settle()
        assert not ward.suspects
        ward.lose()


def test_p12_a_refusal_clears_nothing() -> None:
    """That a handler's side would not run it says nothing."""
    ward = Ward()
    ward.server()
    ward.doom(POISON)
    server = ward.server()
    ward.ask(ward.engine, HOLD, POISON)
    ward.settle()
    (key,) = server.running
    ward.carry(server, server.session.fault(key, NotAuthorized(), ward.now))
    ward.settle()
    assert len(ward.suspects) == 1


def test_p12_a_late_answer_clears_as_well() -> None:
    """Its caller had given up, but the process lived through it."""
    ward = Ward()
    ward.server()
    ward.doom(POISON)
    server = ward.server()
    ward.ask(ward.engine, HOLD, POISON, timeout=0.5)
    ward.run(1.0)
    assert len(ward.suspects) == 1
    ward.answer(server)
    ward.settle()
    assert not ward.suspects
    ward.lose()
    assert not ward.suspects, "it was answered before the process died"


def test_p12_what_it_was_only_asked_about_is_not_blamed() -> None:
    """A server that was asked whether it knows an id was not given the request."""
    ward = Ward()
    roster = Roster()
    hello = Hello("server", Role.SERVER, 1, (), 4, b"")
    server = roster.add(hello, 4, 0.0)
    ticket = Ticket(Key("engine", 1, 1), HOLD, server, 5.0, content=7, asking=True)
    server.holds[ticket] = None
    assert ward.broker is not None
    quarantine = ward.broker.switchboard.quarantine
    quarantine.lost(server, True, [])
    assert not quarantine.suspects
    ticket.asking = False
    quarantine.lost(server, True, [])
    assert quarantine.suspects


def test_p12_what_a_peer_answered_while_it_was_away_is_not_blamed() -> None:
    """Its answer to nobody is not said again, so the broker takes it for answered."""
    ward = Ward()
    server = ward.server()
    ward.ask(ward.engine, HOLD, POISON, timeout=0.5)
    ward.run(0.6)
    assert ward.broker is not None
    peer = ward.broker.roster.named("server")
    assert peer is not None
    assert len(peer.unanswered) == 1
    ward.carry(server, server.session.lose("cut", ward.now))
    ward.run(1.0)
    assert server.is_open
    assert not peer.unanswered


# -- what is a death -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["bye", "silent", "superseded", "broker"])
def test_p12_a_loss_that_is_no_death_does_not_count(how: str) -> None:
    """A peer that closes, is stopped or cut off, or gives way to a newer life that lives beside
    it; and whatever the broker's own end brings about."""
    ward = Ward()
    for _ in range(3):
        server = ward.server()
        ward.ask(ward.engine, HOLD, POISON, timeout=20.0)
        ward.settle()
        if how == "bye":
            ward.carry(server, server.session.close(ward.now))
            ward.settle()
        elif how == "silent":
            server.stopped = True
            ward.run(4.0)
        elif how == "superseded":
            ward.server()
        else:
            ward.replace()
            ward.run(3.0)
    assert not ward.suspects


def test_p12_a_process_that_is_back_under_its_name_has_died_if_nothing_is_there() -> None:
    """Restarted before the broker found out: its connection tells (5.3)."""
    ward = Ward()
    for number in range(2):
        ward.server()
        asked = ward.ask(ward.engine, HOLD, POISON)
        ward.settle()
        assert ward.broker is not None
        ward.broker.reaches = lambda route: False
        ward.server()
        assert ward.ended(asked) == (Poisoned if number else TargetLost, Executed.MAYBE)


def test_p12_a_process_that_is_back_after_the_broker_knew_has_died() -> None:
    """It was unreachable, and a newer life came within the time in which it might have come
    back."""
    ward = Ward()
    ward.server()
    ward.ask(ward.engine, HOLD, POISON)
    ward.settle()
    ward.crash("server")
    ward.server()
    assert [len(each.deaths) for each in ward.suspects] == [1]


def test_p12_a_connection_that_was_cut_is_no_death() -> None:
    """The peer comes back later in the same life: what it was blamed for is void, and what was
    quarantined because of it is given to handlers again."""
    ward = Ward()
    ward.server("server-a")
    ward.doom(POISON, name="server-a")
    cut = ward.server("server-b")
    (asked,) = ward.doom(POISON, name="server-b")
    assert ward.ended(asked) == (Poisoned, Executed.MAYBE)
    ward.ends["server-b"] = cut
    cut.route = None
    ward.run(4.0)
    assert cut.is_open
    (suspect,) = ward.suspects
    assert (suspect.quarantined, list(suspect.deaths)) == (False, [("server-a", 2)])
    ward.ask(ward.engine, HOLD, POISON)
    ward.settle()
    assert POISON in ward.given(cut)


def test_p12_the_only_death_being_void_leaves_nothing() -> None:
    """A peer that was away for long blames nothing at all."""
    ward = Ward()
    cut = ward.server()
    ward.doom(POISON)
    ward.ends["server"] = cut
    cut.route = None
    ward.run(4.0)
    assert cut.is_open
    assert not ward.suspects


# -- content -------------------------------------------------------------------------------------


def _parcel(body: bytes, *frames: bytes | memoryview, number: int = 1) -> Parcel:
    fields = ("engine", 1, number, HOLD, "", 5_000, 0, number, (), "", body, len(frames))
    return Parcel(Request(*fields), frames)


def test_content_is_body_and_frames() -> None:
    """Of short ones all, of long ones what stands at the edges, and how long they are."""
    content = Quarantine(LIMITS).content
    large = bytes(10_000)
    assert content(_parcel(b"a")) == content(_parcel(b"a", number=2))
    parcels = [_parcel(b"a"), _parcel(b"b"), _parcel(b"a", b""), _parcel(b"", b"a")]
    parcels += [_parcel(large), _parcel(large + b"x"), _parcel(large[1:]), _parcel(b"", large)]
    assert len({content(each) for each in parcels}) == len(parcels)
    assert content(_parcel(b"", memoryview(large))) == content(_parcel(b"", large))


def test_p12_a_body_that_looks_like_a_poisoned_one_is_none() -> None:
    """Two large bodies whose edges are the same: the one that kills is recognized by all of it."""
    edge = bytes(1_000)
    poison, twin = edge + b"poison" + edge, edge + b"benign" + edge
    ward = Ward()
    for _ in range(2):
        ward.server()
        ward.doom(poison)
    server = ward.server()
    asked = [ward.ask(ward.engine, HOLD, body) for body in (twin, poison)]
    ward.settle()
    assert ward.given(server) == {twin}
    assert ward.ended(asked[1]) == (Poisoned, Executed.NO)


def test_p15_who_may_not_ask_is_not_told_what_is_quarantined() -> None:
    """The policy is judged first."""
    ward = Ward()
    for _ in range(2):
        ward.server()
        ward.doom(POISON)
    assert ward.broker is not None
    rules = {"engine": Rule(request=("other",)), "local": Rule(serve=("*",))}
    policy = Policy(rules)
    ward.broker.adopt(policy, True)
    asked = ward.ask(ward.engine, HOLD, POISON)
    ward.settle()
    assert ward.ended(asked)[0] is NotAuthorized


# -- bounds, and the way out ---------------------------------------------------------------------


def _died(quarantine: Quarantine, content: int, epoch: int) -> None:
    peer = Roster().add(Hello("s", Role.SERVER, epoch, (), 4, b""), 4, 0.0)
    peer.holds[Ticket(Key("e", 1, content), HOLD, peer, 5.0, content=content)] = None
    quarantine.lost(peer, True, [])


def test_the_table_is_bounded_and_keeps_what_is_quarantined() -> None:
    """The oldest that is not quarantined goes first; if all are, the oldest."""
    quarantine = Quarantine(LIMITS)
    for epoch in (1, 2):
        _died(quarantine, 1, epoch)
    for content in range(2, SUSPECTS_MAX + 2):
        _died(quarantine, content, 1)
    assert len(quarantine.suspects) == SUSPECTS_MAX
    assert (HOLD, 1) in quarantine.suspects
    assert (HOLD, 2) not in quarantine.suspects
    for suspect in quarantine.suspects.values():
        suspect.quarantined = True
    _died(quarantine, 0, 1)
    assert (HOLD, 1) not in quarantine.suspects
    assert len(quarantine.suspects) == SUSPECTS_MAX


def test_what_waits_for_its_trial_is_bounded() -> None:
    """The oldest is forgotten; its source asks again by itself."""
    quarantine = Quarantine(LIMITS)
    peer = Peer("s", Role.SERVER, 1, b"", 4, Roster().add(
        Hello("s", Role.SERVER, 1, (), 4, b""), 4, 0.0).pulse)  # fmt: skip
    for number in range(5_000):
        ticket = Ticket(Key("e", 1, number), HOLD, peer, 5.0, content=1)
        assert quarantine.park(ticket) == 1_000
    assert len(quarantine._parked) == 4_096
    assert Key("e", 1, 4_999) in quarantine._parked


def test_p12_released_it_is_given_to_handlers_again() -> None:
    """As if nothing had been: two more processes, and it is quarantined anew."""
    ward = Ward()
    for _ in range(2):
        ward.server()
        ward.doom(POISON)
    assert ward.broker is not None
    quarantine = ward.broker.switchboard.quarantine
    assert quarantine.release("2") is None
    released = quarantine.release("1")
    assert released is not None
    assert quarantine.release("1") is None
    for _ in range(2):
        ward.server()
        ward.doom(POISON)
    (suspect,) = ward.suspects
    assert (suspect.number, suspect.quarantined) == (2, True)


def test_the_tables_of_the_broker_agree_throughout() -> None:
    """After deaths, trials, parking and refusals nothing is left behind."""
    ward = Ward()
    ward.server()
    ward.doom(b"one", POISON, b"two")
    server = ward.server()
    for body in (POISON, b"one", b"two"):
        ward.ask(ward.engine, HOLD, body)
    ward.settle()
    assert ward.broker is not None
    quarantine = ward.broker.switchboard.quarantine
    assert ward.given(server) == {POISON}
    assert (len(quarantine._trials), len(quarantine._parked)) == (1, 2)
    ward.answer(server)
    ward.settle()
    assert (len(quarantine._trials), len(quarantine._parked)) == (1, 1)
    ward.lose()
    ward.run(10.0)
    assert list(broker_quarrels(ward.broker)) == []
    assert len(ward.broker.switchboard.tickets) == 0
    assert quarantine._trials == {}


def test_what_was_woken_waits_no_longer() -> None:
    """Also if its source never asks again: nobody is woken in its place for ever."""
    ward = Ward()
    ward.server()
    ward.doom(b"one", b"two")
    server = ward.server()
    ward.ask(ward.engine, HOLD, b"one", timeout=60.0)
    brief = ward.join("engine-brief")
    ward.ask(brief, HOLD, b"two")
    ward.settle()
    assert ward.broker is not None
    quarantine = ward.broker.switchboard.quarantine
    assert len(quarantine._parked) == 1
    ward.crash("engine-brief")
    ward.answer(server)
    ward.settle()
    assert not quarantine._parked


def test_a_route_is_thought_reachable_where_nobody_says_otherwise() -> None:
    """A broker without a shell."""
    ward = Ward()
    assert ward.broker is not None
    assert ward.broker.reaches(Route(Lane.BACKEND, b"x"))


# -- over the simulated network ------------------------------------------------------------------


@pytest.mark.parametrize("supervised", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_p12_two_processes_and_no_third(seed: int, supervised: bool) -> None:
    """Daemon, links and network: killed while it had the request, and restarted at once, or
    after the broker has noticed. The third is not given it, and answers all else."""
    with SimulatedBus(seed) as bus:
        dispatcher = Dispatcher()
        dispatcher.add("work", lambda body: body)
        server, engine = bus.server(dispatcher), bus.engine("engine")
        for number in range(2):
            assert server.pool is not None
            server.pool.hang("work")
            asked = engine.submit("work", "poison", timeout=60.0)
            bus.run(0.2)
            server.crash()
            if not supervised:
                assert bus.run_until(lambda: asked.done, 15.0)  # noqa: B023
            server.restart()
            assert bus.run_until(lambda: asked.done and server.is_attached, 15.0)  # noqa: B023
            error = asked.outcome
            assert type(error) is (Poisoned if number else TargetLost)
            assert error.executed is Executed.MAYBE
        refused = engine.outcome("work", "poison", timeout=60.0)
        assert isinstance(refused, Poisoned)
        assert refused.executed is Executed.NO
        assert engine.request("work", "fine", timeout=30.0) == "fine"
        assert server.pool is not None
        assert not server.pool.unfinished
