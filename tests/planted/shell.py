"""Faults planted in the shells: the turn and the link."""

from __future__ import annotations

from planted.mutant import Mutant, planted

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *planted(
        "transport/turn.py",
        (
            "time is judged before the drain",
            "        more = False\n",
            "        more = False\n        self.perform(self._machine.tick(now), now)\n",
            "P11: who has spoken would be lost before it is heard",
        ),
        (
            "a full port loses",
            "        if sent is Sent.FULL:\n            self._keep(route, said)",
            "        if sent is Sent.FULL:\n            pass",
            "P6: what a full socket did not take would be lost without a loss",
        ),
        (
            "what comes later overtakes",
            "        if route in self._stuck:",
            "        if False:",
            "P7: order would depend on who is full",
        ),
        (
            "the outbox has no bottom",
            "        if stuck.size > self._outbox_bytes:",
            "        if False:",
            "P8: a peer that does not read would fill the broker",
        ),
        (
            "waiting makes nothing older",
            "    left_ms = item.ttl_ms - held_ms",
            "    left_ms = item.ttl_ms",
            "P2: a request that waited here would start too late",
        ),
        (
            "batches without end",
            "            or len(batch) >= BATCH_ITEMS_MAX\n",
            "",
            "P13: an honest peer would be cut for a message that is too long",
        ),
        (
            "a dead connection is heard",
            "                if self.ports.get(lane) is not port:\n                    break\n",
            "",
            "spec 5.6: what an old connection said would count at the new one",
        ),
        killers=("test_transport_turn.py",),
    ),
    *planted(
        "peer/link.py",
        (
            "a push that was given up is settled",
            "        if isinstance(result, Cancelled | Draining):\n            return\n",
            "",
            "P7: what a closing server did not run would count as delivered",
        ),
        (
            "old sockets are not closed",
            "                port.close()\n        self._connect",
            "                pass\n        self._connect",
            "P24: every loss of the broker would leak descriptors",
        ),
        (
            "giving up is not shown",
            "            call.cancelled = True\n",
            "",
            "spec 6.9: a handler would go on for nobody",
        ),
        (
            "an overflow is no loss",
            '        self._turn.perform(self.session.lose("the broker does not read", now), now)',
            "        pass",
            "P6: what was dropped for a broker that does not read would not be said again",
        ),
        killers=("test_link_by_hand.py",),
    ),
]
