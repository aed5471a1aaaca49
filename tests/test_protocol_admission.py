"""Who is taken in, and who may stay: zbus/protocol/admission.py."""

from __future__ import annotations

from zbus.protocol.admission import Admission
from zbus.protocol.effect import Lane, Route
from zbus.protocol.limits import Limits
from zbus.protocol.message import Cause, Hello, Role
from zbus.protocol.policy import Policy, Rule
from zbus.protocol.roster import Peer, Roster

MINE, OTHER, LOCAL = (Route(Lane.FRONTEND, each) for each in (b"a", b"b", b"c"))


class Desk:
    """A roster with one peer, ``site-1`` by its key, and whose key a route has proved."""

    def __init__(self, rules: dict[str, Rule] | None = None) -> None:
        self.proved: dict[Route, str | None] = {MINE: "site-1", OTHER: "site-2", LOCAL: ""}
        self.roster = Roster()
        self.admission = Admission(self.roster, Limits(peers=2), self.policy(rules))
        self.peer = self.taken_in(MINE, hello("site-1"))

    def policy(self, rules: dict[str, Rule] | None) -> Policy:
        return Policy(rules, lambda route: self.proved[route])

    def taken_in(self, route: Route, said: Hello) -> Peer:
        peer = self.roster.add(said, 1, 0.0)
        self.admission.grant(peer, route)
        self.roster.attach(peer, route, len(self.roster))
        return peer

    def cause(self, route: Route, said: Hello) -> Cause | None:
        refusal = self.admission.refusal(route, said)
        return refusal[0] if refusal is not None else None


def hello(name: str, epoch: int = 1, proof: bytes = b"", role: Role = Role.ENGINE) -> Hello:
    return Hello(name, role, epoch, (), 1, proof)


def test_p14_a_newer_life_of_the_same_key_takes_over() -> None:
    """An older one is told so."""
    desk = Desk()
    assert desk.cause(MINE, hello("site-1", 2)) is None
    assert desk.cause(MINE, hello("site-1", 0)) is Cause.SUPERSEDED


def test_p14_nobody_else_takes_the_name() -> None:
    """Neither another key nor a local peer, however new; and no key takes a local peer's."""
    desk = Desk()
    assert desk.cause(OTHER, hello("site-1", 9)) is Cause.NAME_TAKEN
    assert desk.cause(LOCAL, hello("site-1", 9)) is Cause.NAME_TAKEN
    desk.taken_in(LOCAL, hello("site-2.e"))
    assert desk.cause(OTHER, hello("site-2.e", 9)) is Cause.NAME_TAKEN
    assert desk.cause(LOCAL, hello("site-2.e", 9)) is None


def test_p14_a_proof_is_compared_whole() -> None:
    """The launch token of a local peer: nothing less, nothing more."""
    desk = Desk()
    desk.taken_in(LOCAL, hello("child", proof=b"token"))
    for proof in (b"", b"toke", b"tokens", b"other"):
        assert desk.cause(LOCAL, hello("child", 2, proof)) is Cause.NAME_TAKEN
    assert desk.cause(LOCAL, hello("child", 2, b"token")) is None


def test_a_full_broker_takes_only_those_back_that_it_knows() -> None:
    """A key that may not come in is told that first."""
    desk = Desk()
    desk.taken_in(LOCAL, hello("other"))
    assert desk.cause(LOCAL, hello("third")) is Cause.FULL
    assert desk.cause(MINE, hello("site-1", 2)) is None
    desk.proved[MINE] = None
    assert desk.cause(MINE, hello("site-1.e")) is Cause.DENIED


def test_p19_whom_a_new_policy_does_not_allow_may_not_stay() -> None:
    """For its key, for what it serves, or for where it pushes."""
    desk = Desk()
    desk.peer.topics["a"] = None
    admission = desk.admission
    assert admission.unfit(desk.peer, ["p"]) == ""
    admission.policy = desk.policy({"site-1": Rule(serve=("a",), push=("p",))})
    assert admission.unfit(desk.peer, ["p"]) == ""
    assert desk.peer.grants is not None
    admission.policy = desk.policy({"site-1": Rule(serve=("a",))})
    assert '"p"' in admission.unfit(desk.peer, ["p"])
    admission.policy = desk.policy({"site-1": Rule(push=("p",))})
    assert '"a"' in admission.unfit(desk.peer, ["p"])
    admission.policy = desk.policy(None)
    desk.proved[MINE] = None
    assert "trusted no longer" in admission.unfit(desk.peer, [])


def test_a_forgotten_peer_leaves_its_rule() -> None:
    """What it had open counts for the others no longer."""
    desk = Desk({"site-1": Rule(in_flight=1)})
    grants = desk.peer.grants
    assert grants is not None
    assert grants._members
    desk.admission.release(desk.peer)
    assert not grants._members
