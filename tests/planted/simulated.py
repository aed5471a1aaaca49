"""Faults that only a whole bus shows: each is noticed by the simulation."""

from __future__ import annotations

from planted.mutant import Mutant, planted

__all__ = ["MUTANTS"]

_KILLERS = ("test_simulation.py",)
_SAY_ALL = """        for ask in self.requests:
            self.send(ask, now, effects)

    def send_again("""
_TAKE_AND_SETTLE = """                effects.append(take)
                self.in_lanes.taken(take.lane, take.sequence + len(take.bodies) - 1)"""

MUTANTS: list[Mutant] = [
    *planted(
        "protocol/asker.py",
        (
            "nothing is said again after a restart",
            _SAY_ALL,
            "        del now, effects\n\n    def send_again(",
            "P6: every request that was open when the broker was killed would time out",
        ),
        (
            "the handler's clock ends a request",
            "        elif item.code == RequestTimeout.number:",
            "        elif item.code == -1:",
            "P2: a server that was stopped would end requests before their deadline",
        ),
        killers=_KILLERS,
    ),
    *planted(
        "protocol/requests.py",
        (
            "an earlier life of the broker is forgotten",
            "            ask.doubt = ask.doubt or ask.pending",
            "            ask.doubt = False",
            "P4: what ran under a broker that was killed would be said not to have run",
        ),
        (
            "deadlines are slack",
            "        self._deadlines.set(number, ask.deadline)",
            "        self._deadlines.set(number, ask.deadline + 0.1)",
            "P2: every timeout would come a tenth of a second late",
        ),
        killers=_KILLERS,
    ),
    *planted(
        "protocol/memory.py",
        (
            "an old open request is forgotten",
            "        for number in source.stragglers.difference(request.open):",
            "        for number in source.stragglers.difference(()):",
            "P5: beside thousands of quick requests a long one would be begun again",
        ),
        killers=_KILLERS,
    ),
    *planted(
        "protocol/attachment.py",
        (
            "topics that change before the Welcome",
            "        self._say_what_changed(effects)\n        return True",
            "        return True",
            "spec 5.5: what is taken up while there is no broker would never be served",
        ),
        killers=_KILLERS,
    ),
    *planted(
        "protocol/liveness.py",
        (
            "a stall is blamed on others",
            "            self._slept += gap - self.period\n",
            "",
            "P11: a broker that was stopped would give up peers that live",
        ),
        (
            "patience without end",
            "PATIENCE = 2.5\n",
            "PATIENCE = 6.0\n",
            "P10: the loss of a handler would be told after six seconds",
        ),
        killers=_KILLERS,
    ),
    *planted(
        "protocol/switchboard.py",
        (
            "servers are not waited for",
            "        elif item.flags & _REPEAT and now < self.settled_at:",
            "        elif item.flags & _REPEAT and now < float('-inf'):",
            "P5: after a restart a repeat would be begun by whoever is back first",
        ),
        (
            "a repeat is asked of nobody",
            "        if item.flags & _REPEAT and (len(possible) > 1",
            "        if item.flags & 0 and (len(possible) > 1",
            "P5: after a restart a repeat would be begun by the least busy",
        ),
        (
            "an answered request is kept",
            '        self.tickets.close(ticket)\n        self.counts["answers"] += 1',
            '        self.counts["answers"] += 1',
            "P8: tickets would stay until their deadline, and fill windows",
        ),
        killers=_KILLERS,
    ),
    *planted(
        "protocol/session.py",
        (
            "pushes are not sent again",
            "            self.out_lanes.rewind()\n",
            "",
            "P7: what was under way when the broker was killed would never arrive",
        ),
        (
            "a push is settled before its handler",
            "                effects.append(take)",
            _TAKE_AND_SETTLE,
            "P7: a push would be lost with the process that had only read it",
        ),
        (
            "it wakes for nothing",
            "        return due if request_at is None or due <= request_at else request_at",
            "        return 0.0",
            "a peer would burn a core while nothing happens",
        ),
        killers=_KILLERS,
    ),
    *planted(
        "peer/link.py",
        (
            "the wall clock is read",
            "        more = self._turn.once(now)",
            "        more = self._turn.once(now + 0 * __import__('time').time())",
            "P17: a clock that is set back would change what happens",
        ),
        killers=_KILLERS,
    ),
]
