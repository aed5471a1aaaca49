"""Faults planted in the rooms of a session: what a peer asks, answers, pushes and remembers."""

from __future__ import annotations

from planted.mutant import Mutant, planted

__all__ = ["MUTANTS"]

MUTANTS: list[Mutant] = [
    *planted(
        "protocol/deadlines.py",
        (
            "moved deadlines fall due twice",
            "            if self._live.get(key) == order:",
            "            if key in self._live:",
            "P2: an instant that was given up would end a request too early",
        ),
        (
            "stale deadlines pile up",
            "        if len(self._heap) > 2 * len(self._live) + _STALE_MIN:\n",
            "        if len(self._heap) > 10**9:\n",
            "bounds: requests that end early would cost memory until their deadline",
        ),
        killers=("test_protocol_deadlines.py",),
    ),
    *planted(
        "protocol/liveness.py",
        (
            "my stall is your silence",
            "            self._slept += gap - self.period",
            "            self._slept += 0.0",
            "P11: a process that was stopped would blame everybody else",
        ),
        (
            "a stall makes nothing late",
            "        return now - self._stalled_at if now <= self._suspect_until else 0.0",
            "        return 0.0",
            "P2: what waited through a stop would start too late",
        ),
        (
            "a look at the clock after a stall",
            "            return self._last + self.period - self._slept",
            "            pass",
            "P11: a call after a stop would keep us silent for as long as the stop was",
        ),
        killers=("test_protocol_liveness.py", "test_protocol_attachment.py"),
    ),
    *planted(
        "protocol/memory.py",
        (
            "stragglers are forgotten",
            "        for number in source.stragglers.difference(request.open):",
            "        for number in list(source.stragglers):",
            "P5: a request that is still open would start again",
        ),
        (
            "a run that was given up is unknown",
            "        return self._running.get(key)",
            "        return None",
            "P11: a handler that outlives its caller would hold its place for ever",
        ),
        (
            "memory ends with the deadline",
            "        self._expiry.set(key, deadline + LINGER_S)\n        self.count += 1",
            "        self._expiry.set(key, deadline)\n        self.count += 1",
            "P5: a repeat that was under way would start again",
        ),
        (
            "the bytes are not bounded",
            " and self.size < self._bytes_max",
            "",
            "bounds: replies that nobody settles would fill the memory",
        ),
        killers=("test_protocol_memory.py",),
    ),
    *planted(
        "protocol/requests.py",
        (
            "the floor settles an open request",
            "                self._stragglers[oldest] = None\n",
            "",
            "P5: the handler's side would forget what may still be asked for",
        ),
        (
            "repeats do not say so",
            "            flags |= _REPEAT\n",
            "",
            "P5: a new broker would take a repeat for a new request",
        ),
        (
            "a repeat leaves no doubt",
            "            ask.doubt = ask.doubt or ask.pending\n",
            "",
            "P4: a refused repeat would say that the first did not run",
        ),
        killers=("test_protocol_requests.py",),
    ),
    *planted(
        "protocol/asker.py",
        (
            "two outcomes",
            "            self.late_answers += 1\n            return\n        if ask.large:",
            "            self.late_answers += 1\n        elif ask.large:",
            "P1: a second answer would reach the caller",
        ),
        (
            "again is an end",
            "        if item.code == AGAIN:",
            "        if item.code == -1:",
            "P6: a request would end with what only says to ask again",
        ),
        (
            "nobody there yet is nobody there",
            "        elif item.code in _NOT_YET_THERE and now < self._settled_at:",
            "        elif item.code == -1:",
            "P6: a request would fail because its server is back a moment after its engine",
        ),
        (
            "a refusal speaks for all times it was sent",
            "    if executed is Executed.NO and ask.doubt:",
            "    if executed is Executed.NO and False:",
            "P4: it was sent to a broker that died, and the next one's no would count",
        ),
        (
            "retries outlive the attachment",
            "        self.requests.drop_retries()\n",
            "",
            "P6: what was put off by the old broker would be said twice to the new one",
        ),
        killers=("test_protocol_asker.py",),
    ),
    *planted(
        "protocol/answerer.py",
        (
            "a repeat is not answered",
            "            effects.append(Send(TO_BROKER, known.answer))",
            "            pass",
            "P5: a reply that was lost would stay lost",
        ),
        (
            "a question starts it",
            "        if item.flags & _ASK:",
            "        if item.flags & 64:",
            "P5: asking who knows an id would start it",
        ),
        (
            "late work starts",
            "        if waited_s * 1000.0 >= item.ttl_ms:",
            "        if item.ttl_ms < 0:",
            "P2: a stopped server would start what is too late",
        ),
        (
            "the window is not kept",
            "self.memory.running >= self._window or not",
            "not",
            "P8: a handler peer would start more than it said",
        ),
        (
            "a stall shortens the memory",
            "        known = self.memory.begin(key, deadline)",
            "        known = self.memory.begin(key, deadline - waited_s)",
            "P5: fresh work after a long stop would be forgotten while it runs",
        ),
        killers=("test_protocol_answerer.py",),
    ),
    *planted(
        "protocol/attachment.py",
        (
            "a silent broker is trusted",
            "PATIENCE * self.grant.interval_s)",
            "10 * PATIENCE * self.grant.interval_s)",
            "P10: a broker that was cut off would be noticed much too late",
        ),
        (
            "beats come late",
            "        if self._pulse.must_speak(self.vigil.clock(now), beat_s * _NEARLY):",
            "        if self._pulse.must_speak(self.vigil.clock(now), beat_s * 3.0):",
            "P11: a peer that lives would be declared dead",
        ),
        (
            "the hello is said once",
            "        if now >= self._hello_until:",
            "        if False:",
            "P6: a peer whose Hello was lost would never come back",
        ),
        killers=("test_protocol_attachment.py",),
    ),
    *planted(
        "protocol/session.py",
        (
            "open requests are not said again",
            "            self.asker.attached(now, self.attachment.settled_at, effects)\n",
            "",
            "P6: a broker's restart would end every open request",
        ),
        (
            "pushes are not said again",
            "            self.out_lanes.rewind()\n",
            "",
            "P7: what was under way at a loss would be lost, or found late",
        ),
        (
            "items count after the end",
            "            answers = _ANSWERS if attachment.state is State.OPEN else _FIRST_ANSWERS",
            "            answers = {**_FIRST_ANSWERS, **_ANSWERS}",
            "spec 5.6: a request that comes after a Bye would start",
        ),
        (
            "retries turn a detached session",
            "self.asker.requests.next_at(attachment.state is State.OPEN)",
            "self.asker.requests.next_at(True)",
            "no busy loop: a peer of a dead broker would burn its processor",
        ),
        killers=("test_protocol_session.py", "test_dialogue_pushes.py"),
    ),
    *planted(
        "protocol/credit.py",
        (
            "a gap is taken",
            "        if skip < 0:",
            "        if False:",
            "P7: pushes that were lost on the way would be lost for good",
        ),
        (
            "repeats are taken",
            "        bodies = _bodies(item, parcel.frames)[skip:]",
            "        bodies = _bodies(item, parcel.frames)",
            "P7: a push would be handled twice by one server",
        ),
        (
            "one push too many is settled",
            "        while self.base <= taken and",
            "        while self.base <= taken + 1 and",
            "P7: a push whose handler has not returned would count as delivered",
        ),
        (
            "a full bound is ignored",
            "        if self.queued >= self._count_max or self.size + size > self._bytes_max:",
            "        if self.queued < 0:",
            "P7, P8: a sender would grow without bound",
        ),
        (
            "a lost tail stays lost",
            "            if lane.flying and awake - lane.heard >= silence_s:",
            "            if False:",
            "P7: the last pushes of a burst would never arrive",
        ),
        (
            "a hold does not hold",
            "        lane.held = item.window == 0",
            "        lane.held = False",
            "P7: what nobody serves would be sent again and again",
        ),
        (
            "the floor is not believed",
            "        if floor > lane.next:",
            "        if False:",
            "P7: a lane that was elsewhere for a while would be stuck",
        ),
        killers=("test_protocol_credit.py", "test_conservation.py"),
    ),
]
