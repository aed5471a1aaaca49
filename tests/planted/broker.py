"""Faults planted in the rooms of the broker."""

from __future__ import annotations

from planted.mutant import Mutant, planted

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *planted(
        "protocol/roster.py",
        (
            "an old connection still speaks",
            "        self._unmap(peer)\n        peer.route, peer.session = route, session",
            "        peer.route, peer.session = route, session",
            "P14: whoever gets the old routing id would be this peer",
        ),
        killers=("test_protocol_roster.py",),
    ),
    *planted(
        "protocol/tickets.py",
        (
            "an answered ticket stays with its handler",
            "            ticket.handler.holds.pop(ticket, None)\n            ticket.handler = None",
            "            pass",
            "P10: who has answered would be told to have been lost with it",
        ),
        killers=("test_protocol_tickets.py",),
    ),
    *planted(
        "protocol/lanes.py",
        (
            "a served lane still waits",
            "            self._drop_unserved(lane)\n        else:\n            self._unserved",
            "            pass\n        else:\n            self._unserved",
            "P7: the next server would take a lane from the one that has it",
        ),
        killers=("test_protocol_lanes.py",),
    ),
    *planted(
        "protocol/switchboard.py",
        (
            "anybody may answer",
            " or ticket.handler is not peer or ticket.key.epoch != item.epoch:",
            ":",
            "P14: a reply could be forged by any peer",
        ),
        (
            "a ticket outlives its answer",
            '        self.tickets.close(ticket)\n        self.counts["answers"] += 1',
            '        self.counts["answers"] += 1',
            "P1: a second answer would be passed on",
        ),
        (
            "nobody is told that nobody serves it",
            "        error = NoHandler(f'no peer serves topic \"{item.topic}\"')\n",
            "        return\n",
            "P3: an unserved request would wait for its deadline",
        ),
        (
            "a lost handler is not told",
            "            self.tickets.judge(ticket, error)\n",
            "            self.tickets.judge(ticket, error)\n            continue\n",
            "P10: who waits for the dead would wait for its deadline",
        ),
        (
            "a verdict is not kept",
            "            self.tickets.judge(ticket, error)",
            "            self.tickets.close(ticket)",
            "P5: a repeat of what was lost would start elsewhere",
        ),
        (
            "a wait at the broker costs nothing",
            "            left_ms = item.ttl_ms - int(waited_s * 1000.0) - 1",
            "            left_ms = item.ttl_ms",
            "P2: a stopped broker would forward what is too late",
        ),
        killers=("test_protocol_switchboard.py",),
    ),
    *planted(
        "protocol/switchboard.py",
        (
            "a repeat starts at whoever is free",
            "        if item.flags & _REPEAT and (len(possible) > 1 or is_full(possible[0])):",
            "        if False:",
            "P5: after a restart a second server would start what the first runs",
        ),
        (
            "repeats do not wait for servers",
            "        elif item.flags & _REPEAT and now < self.settled_at:",
            "        elif False:",
            "P5: the wrong server would be the only one that is back",
        ),
        (
            "a late no takes it away",
            "        if not ticket.asking:",
            "        if False:",
            "P5: what was started would be given to another",
        ),
        (
            "a handler that is back is not asked",
            "            self._again(ticket.key, ticket.origin, 0, effects, executed=1)",
            "            pass",
            "P6: a reply that was lost with a connection would stay lost",
        ),
        killers=("test_repeats.py",),
    ),
    *planted(
        "protocol/conveyor.py",
        (
            "anybody may credit",
            "        if lane is None or lane.server is not server or",
            "        if lane is None or",
            "P7: another server could settle what it never took",
        ),
        (
            "anybody may push for another",
            " or origin.name != item.source or origin.epoch != item.epoch:",
            ":",
            "P14: a push could be sent in another's name",
        ),
        (
            "a server is back and nobody rewinds",
            "        for lane in self.lanes.of_server(peer):\n            _tell(",
            "        for lane in self.lanes.of_server(peer):\n            lambda *_: (",
            "P7: what was under way to it would be found late",
        ),
        (
            "an overtaken refusal strands the lane",
            " or self._server(lane.topic, None)\n",
            "\n",
            "P7: pushes would wait though their topic is served",
        ),
        (
            "a sender that is back is not held",
            "            if lane.server is None or lane.held:\n                _tell(peer",
            "            if False:\n                _tell(peer",
            "P7: pushes that nobody takes would be sent for nothing",
        ),
        killers=("test_protocol_conveyor.py",),
    ),
    *planted(
        "protocol/admission.py",
        (
            "an older life may come back",
            "        if known.epoch > hello.epoch:",
            "        if False:",
            "P14: a life that was taken over would take over again",
        ),
        (
            "the proof is not looked at",
            "        proved = not known.proof or compare_digest(known.proof, hello.proof)",
            "        proved = True",
            "P14: a name could be taken by anybody with a greater epoch",
        ),
        (
            "the key is not looked at",
            "        if not proved or known.identity != self.policy.prove(route):",
            "        if not proved:",
            "P14: another valid key could take a name over",
        ),
        killers=("test_protocol_admission.py",),
    ),
    *planted(
        "protocol/broker.py",
        (
            "a request in another's name",
            "        if item.source != peer.name or item.epoch != peer.epoch:",
            "        if False:",
            "P14: a peer could ask as another",
        ),
        killers=("test_protocol_broker.py",),
    ),
    *planted(
        "protocol/broker.py",
        (
            "the gone are awaited for ever",
            "        if peer.route is None and awake - peer.detached_at >= _GRACE * interval_s:",
            "        if False:",
            "P10: a handler that crashed would be told of much later",
        ),
        (
            "debts do not hurry",
            "        return (PATIENCE if peer.owes else PATIENCE_IDLE) * self.limits.heartbeat_s",
            "        return PATIENCE_IDLE * self.limits.heartbeat_s",
            "P10: a stopped handler would be told of after four intervals",
        ),
        (
            "what a peer says is no life",
            "                peer.pulse.heard = self._vigil.clock(now)\n",
            "",
            "P11: whoever lives and says so would be lost",
        ),
        killers=("test_life.py",),
    ),
    *planted(
        "protocol/switchboard.py",
        (
            "old silence is held against a new debt",
            "        if not handler.owes:",
            "        if False:",
            "P11: a quiet server would be lost by being given a request",
        ),
        killers=("test_life.py",),
    ),
]
