"""Faults planted where the broker decides who has room, and who is too slow."""

from __future__ import annotations

from planted.mutant import Mutant, planted

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *planted(
        "protocol/budget.py",
        (
            "one that does not read may take everything",
            "        return wanted <= self._target_bytes and _SHARE * wanted <= free",
            "        return wanted <= self._target_bytes and wanted <= free",
            "P9: two or three of them would leave nothing to others",
        ),
        (
            "a target has no bound of its own",
            "        return wanted <= self._target_bytes and _SHARE * wanted <= free",
            "        return _SHARE * wanted <= free",
            "P8: the setting would bound nothing",
        ),
        (
            "the whole has no bound",
            "            return size <= free",
            "            return True",
            "P8: many targets with one body each would be more than the budget",
        ),
        (
            "a receipt is believed without a question",
            "        if mark <= backlog.asked:",
            "        if True:",
            "P8: a peer could claim room by saying that it has read what it was not given",
        ),
        (
            "a lost connection still counts",
            "        self.used -= backlog.waiting",
            "        self.used -= 0",
            "P8: every lost peer would leave the broker less room, until there is none",
        ),
        (
            "an outbox counts twice",
            "        beyond = max(outbox - (backlog.given - backlog.read), 0)",
            "        beyond = outbox",
            "P8: requests in an outbox would use up twice what they weigh",
        ),
        killers=("test_protocol_budget.py",),
    ),
    *planted(
        "protocol/choice.py",
        (
            "the window of a handler is not kept",
            "    return len(peer.holds) >= peer.window",
            "    return False",
            "P8: a handler would be given more than it said",
        ),
        (
            "a full backlog is no reason",
            " or not budget.admits(only.backlog, size) else only",
            " else only",
            "P8: what does not fit would be forwarded all the same",
        ),
        killers=("test_protocol_choice.py", "test_protocol_switchboard.py"),
    ),
    *planted(
        "protocol/outboxes.py",
        (
            "who drains slowly is cut",
            "        if before != taken:",
            "        if before == -1:",
            "P9: a slow line would be no line",
        ),
        (
            "what waits for nobody is kept",
            "            elif waiting.size > _GOODBYE_BYTES:",
            "            elif False:",
            "P8: a lost peer's messages would stay in memory",
        ),
        killers=("test_protocol_outboxes.py",),
    ),
    *planted(
        "protocol/conveyor.py",
        (
            "a held lane lets pushes pass",
            "        if lane is None or lane.held or lane.server is None",
            "        if lane is None or lane.server is None",
            "P7: what comes behind a push that was sent back would make a gap",
        ),
        (
            "a held lane is held for ever",
            "            if self._may_go_on(lane, now):",
            "            if False:",
            "P7: a push that found no room once would never arrive",
        ),
        (
            "pushes have no budget",
            "        if not self._roster.budget.admits(lane.server.backlog, size):",
            "        if False:",
            "P8: a server that does not read could fill the broker with pushes",
        ),
        (
            "pushes have no rate",
            "        return 0.0 if grants is None else grants.push_wait_s(count, size, now)",
            "        return 0.0",
            "P15: a limit of the policy would be none",
        ),
        killers=("test_protocol_conveyor.py",),
    ),
    *planted(
        "protocol/lanes.py",
        (
            "a credit opens a held lane",
            "        window = 0 if lane.held else min(item.window, lane.width)",
            "        window = min(item.window, lane.width)",
            "P7: the sender would go on behind what it is to say again",
        ),
        killers=("test_protocol_lanes.py", "test_protocol_conveyor.py"),
    ),
]
