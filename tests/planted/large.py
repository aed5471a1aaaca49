"""Faults planted in what moves large bodies (P22)."""

from __future__ import annotations

from planted.mutant import Mutant, planted

__all__ = ["MUTANTS"]

_STORIES = "test_dialogue_large.py"

MUTANTS: list[Mutant] = [
    *planted(
        "protocol/streams.py",
        (
            "a check is not looked at",
            "        if check != item.check or sum(",
            "        if sum(",
            "P22: a body would be given to a handler that nobody sent",
        ),
        (
            "a window is not kept",
            "        return self.next < self._limit and self.next < self._count",
            "        return self.next < self._count",
            "P8, P22: a broker would have to keep what its receiver has not asked for",
        ),
        (
            "a loss forgets what is under way",
            "        self.next = self.acked\n        self._limit = 0\n",
            "        self._limit = 0\n",
            "P22: what was lost with a connection would be held against the window for ever",
        ),
        (
            "nothing is ever rewound",
            "        if item.rewind or self.next < item.next:",
            "        if self.next < item.next:",
            "P22: a chunk that was lost would never be sent again",
        ),
        (
            "the last part is forgotten",
            "        while len(self._rooms) < len(self.manifest.parts):",
            "        while not self._rooms:",
            "P22: a body would arrive without its empty frames",
        ),
        killers=("test_protocol_streams.py", _STORIES),
    ),
    *planted(
        "protocol/objects.py",
        (
            "one body takes all turns",
            "                self._ready[mark] = stream  # behind the others",
            "                self._ready = {mark: stream, **self._ready}",
            "P22: a small body would wait for a large one",
        ),
        (
            "what flies is not counted",
            "        while self._ready and self._flying < WINDOW:",
            "        while self._ready:",
            "P8: a peer with many bodies would fill its broker",
        ),
        (
            "a gap is not noticed",
            "        if index > stream.next and not stream.rewound:",
            "        if False:",
            "P22: a body would stand still after a loss",
        ),
        (
            "memory has no bound",
            "            if self._active and self._active_bytes + size > self._objects_bytes:",
            "            if False:",
            "P8: bodies that come at once would take all memory",
        ),
        (
            "a dropped body keeps its turn",
            "                del self._active[mark]\n",
            "                pass\n",
            "P22: after a few that were given up, none would come any more",
        ),
        (
            "a new broker is told of old chunks",
            "        for stream in self._out.values():\n            stream.detached()\n",
            "",
            "P22: a body would not go on after the broker's restart",
        ),
        killers=("test_protocol_objects.py", _STORIES),
    ),
    *planted(
        "protocol/relay.py",
        (
            "anybody may send chunks",
            "        if sender is not peer:",
            "        if False:",
            "P14, P22: a peer could write into the body of another's request",
        ),
        (
            "an offer ends the request",
            "        elif type(item) is Done:",
            "        elif type(item) is not Accept:",
            "P22: the chunks of a reply would belong to nobody",
        ),
        (
            "a reply is never done",
            "            self._close(ticket, receiver, effects)",
            "            pass",
            "P8: each large reply would use up the window of its server until its deadline",
        ),
        killers=("test_protocol_relay.py", _STORIES),
    ),
    *planted(
        "protocol/answerer.py",
        (
            "half a body is enough",
            "        if stream is not None and stream.is_whole and known is not None:",
            "        if stream is not None and known is not None:",
            "P22: a handler would begin with what has not arrived",
        ),
        (
            "a repeat does not go on",
            "        elif known.large:\n            self._objects.again(Mark(*known.key, False))\n",
            "",
            "P6, P22: after a restart nobody would ask for the rest",
        ),
        (
            "a given up body is kept",
            "            self._end_chunks(known, Cancelled(executed=Executed.NO))",
            "            pass",
            "P22: what a caller gave up would hold memory until its deadline",
        ),
        (
            "a body that is late is kept",
            "        for mark in self._objects.due(now):",
            "        for mark in self._objects.due(0.0):",
            "P8: bodies that nobody fetches would be kept for ever",
        ),
        killers=(_STORIES,),
    ),
    *planted(
        "protocol/asker.py",
        (
            "an end keeps its bodies",
            "            self._objects.drop_of(Key(self._source, self._epoch, number))",
            "            pass",
            "P8: each large request would leave its body behind",
        ),
        (
            "a damaged reply did not run",
            "        error.executed = Executed.YES",
            "        error.executed = Executed.NO",
            "P4: a caller would ask again what has run",
        ),
        killers=(_STORIES,),
    ),
]
