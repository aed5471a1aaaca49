"""A session over a network, turned by whoever holds it: the single-threaded peer.

Everything a peer does is here; the faces above it (``peer.peer`` with threads, ``peer.aio``) only
say who turns it and who waits. The simulator turns it under virtual time, which is why the
simulator simulates the real peer.

Rules:

* Not thread-safe, but for ``finished`` and ``settled``, which handler threads call.
* A callback given to ``request`` is called exactly once, from within a turn or a call, and must
  neither block nor raise.
* The pipe is connected by the first push: who never pushes costs its broker one connection.
* Whatever is said may be lost with a connection, and is said again after the next Welcome. So
  is what could not be said for want of a socket, and what an exception interrupted (``mend``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from zbus.errors import (
    BadReply,
    Cancelled,
    ConfigError,
    Draining,
    Executed,
    Malformed,
    TooLarge,
    VersionMismatch,
    ZbusError,
)
from zbus.peer.call import Call, Executor, Result, Returned
from zbus.peer.reports import Finished, PushEnd, RequestEnd, Settled
from zbus.protocol.codec import OtherVersion
from zbus.protocol.effect import (
    Abandon,
    Attached,
    Detached,
    Ended,
    Happened,
    Lane,
    LaneKey,
    Outcome,
    Reconnect,
    Resolve,
    Route,
    SessionEffect,
    Start,
    Take,
    Told,
)
from zbus.protocol.message import Frames, Key, Welcome
from zbus.protocol.requests import Ask
from zbus.protocol.session import Session, State
from zbus.transport.port import Network, Port
from zbus.transport.turn import Turn

__all__ = ["Counters", "Link", "Observer", "pipe_endpoint"]

_OUTBOX_BYTES = 268_435_456  # what may wait for a broker that does not read


@dataclass(slots=True)
class Observer:
    """What a face wants to hear; each is called from within a turn."""

    attached: Callable[[Welcome], None] = lambda welcome: None
    detached: Callable[[str], None] = lambda why: None
    ended: Callable[[ZbusError], None] = lambda error: None
    happened: Callable[[Happened], None] = lambda event: None


@dataclass(slots=True)
class Counters:
    """What a peer counts beside what its session counts."""

    pushes_failed: int = 0
    overflows: int = 0
    malformed: int = 0


class Link:
    """One session, its ports and its handlers."""

    def __init__(
        self,
        network: Network,
        endpoint: str,
        session: Session,
        executor: Executor | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.session = session
        self.endpoint = endpoint
        self.counters = Counters()
        self._network = network
        self._executor = executor
        self._observer = observer or Observer()
        self._turn: Turn[SessionEffect] = Turn(session, self, _OUTBOX_BYTES)
        self._ends: dict[int, Callable[[Outcome], None]] = {}
        self._calls: dict[Key, Call] = {}
        self._starting: deque[Call] = deque()
        self._inbox: deque[Finished | Settled] = deque()
        self.begin_call = executor.submit if executor is not None else None
        """What is done with a request for a handler here, at the end of a turn."""
        self.on_finished: Callable[[], None] = network.wake
        """Called in the handler's thread when a request's result waits to be heard."""
        self._settlements: dict[Callable[[], None], None] = {}
        self._pipe: str | None = None
        self._has_connected = False

    # -- turning ---------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """Connect and say Hello."""
        self._turn.perform(self.session.open(now), now)
        self._turn.flush(now)

    def step(self, now: float) -> bool:
        """One turn; whether another is due at once."""
        self.hear_handlers(now)
        more = self._turn.once(now)
        self._tell_settled()
        self._begin_calls()
        return more

    def wake_at(self, now: float) -> float | None:
        """When the next turn is due, if nothing happens before."""
        return now if self._inbox else self._turn.wake_at(now)

    def close(self, now: float) -> None:
        """Say goodbye, end every open request, and close the ports."""
        self._turn.perform(self.session.close(now), now)
        self._turn.flush(now)
        self._tell_settled()

    def fail(self, error: ZbusError, now: float) -> None:
        """End everything open with this error, come what may; nothing more is said."""
        try:
            self._turn.perform(self.session.fail(error), now)
        finally:
            for number in list(self._ends):
                self._end(number, error)
            self._tell_settled()

    def mend(self, now: float) -> None:
        """An exception has interrupted what was being done here: attach anew, so that whatever
        was under way is said again, and end the requests whose outcome got lost."""
        self._turn.perform(self.session.lose("interrupted", now), now)
        self._turn.flush(now)
        open_now = self.session.asker.requests
        for number in [number for number in self._ends if open_now.get(number) is None]:
            lost = "this process was interrupted just as the outcome came"
            self._end(number, Cancelled(lost, executed=Executed.MAYBE))

    @property
    def is_serving(self) -> bool:
        """Whether a handler here is at a request."""
        return bool(self.session.answerer.memory.running)

    @property
    def is_flushed(self) -> bool:
        """Whether everything said has been handed to a socket."""
        return self._turn.is_empty() and not self._inbox

    # -- asking ----------------------------------------------------------------------------

    def request(self, ask: Ask, on_end: Callable[[Outcome], None], now: float) -> int:
        """Send a request; ``on_end`` is called once, with its outcome. Errors as for
        ``Session.request``."""
        effects = self.session.request(ask, now)
        self._ends[ask.number] = on_end
        self._turn.perform(effects, now)
        return ask.number

    def cancel(self, number: int, now: float) -> None:
        """Give a request up."""
        self._turn.perform(self.session.cancel(number, now), now)

    def push(self, topic: str, body: bytes, frames: Frames) -> None:
        """Accept a push; errors as for ``Session.push``."""
        self.session.push(topic, body, frames)
        if Lane.PUSH not in self._turn.ports:
            self._connect_pipe()

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called once no push is unsettled, which may be now."""
        self._settlements[callback] = None
        self._tell_settled()

    def forget_callback(self, callback: Callable[[], None]) -> None:
        """Nobody waits for ``when_settled`` any more."""
        self._settlements.pop(callback, None)

    def serve(self, added: Iterable[str], withdrawn: Iterable[str], now: float) -> None:
        """Serve further topics, or some no longer."""
        self._turn.perform(self.session.serve(added, withdrawn, now), now)

    def flush(self, now: float) -> None:
        """Hand over what the calls above want to say."""
        self._turn.flush(now)

    # -- what handlers report, from any thread ------------------------------------------------

    def settled(self, lane: LaneKey, sequence: int, result: Result) -> None:
        """The handler of a push is done, well or badly. One that this peer gave up because it
        closes is not settled: its sender still has it, and others may serve it (P7)."""
        if isinstance(result, Cancelled | Draining):
            return
        self._inbox.append(Settled(lane, sequence, not isinstance(result, Returned)))
        self._network.wake()

    def finished(self, key: Key, result: Result) -> None:
        """The handler of a request is done."""
        self._inbox.append(Finished(key, result))
        self.on_finished()

    # -- the turn's owner --------------------------------------------------------------------

    def carry(self, effect: SessionEffect, now: float) -> None:
        """Carry out what the turn does not."""
        if isinstance(effect, Resolve):
            self._end(effect.number, effect.outcome)
        elif isinstance(effect, Start):
            self._start(effect)
        elif isinstance(effect, Take):
            self._take(effect)
        elif isinstance(effect, Abandon):
            self._abandon(effect)
        else:
            self._carry_rare(effect)

    def malformed(self, route: Route, error: Malformed, now: float) -> None:
        """The broker sent what is no message: it is ignored, and counted. A broker of another
        version can answer a Hello in no other way (spec 2.2)."""
        self.counters.malformed += 1
        self._observer.happened(Happened("malformed_message", (("why", error.what),)))
        if isinstance(error, OtherVersion) and self.session.state is State.OPENING:
            self.fail(VersionMismatch(error.what), now)

    def unreachable(self, route: Route, now: float) -> None:
        """The port has closed itself, or could not be had. What was said is said again after
        the next Welcome, and a push that got lost is found out by a probe (spec 7.7)."""
        if route.lane is Lane.BROKER:
            self._turn.perform(self.session.lose("the socket is gone", now), now)
        else:
            self._connect_pipe()

    def overflowed(self, route: Route, now: float) -> None:
        """The broker has not read for very long, and what waited for it is dropped: it is lost,
        so that all of that is said again."""
        self.counters.overflows += 1
        self._turn.perform(self.session.lose("the broker does not read", now), now)

    def _carry_rare(self, effect: SessionEffect) -> None:
        if isinstance(effect, Reconnect):
            self._reconnect()
        elif isinstance(effect, Attached):
            self._pipe = pipe_endpoint(self.endpoint, effect.welcome.pipe)
            if self.session.out_lanes.queued:
                self._connect_pipe()
            self._observer.attached(effect.welcome)
        elif isinstance(effect, Detached):
            self._observer.detached(effect.why)
        elif isinstance(effect, Ended):
            self._observer.ended(effect.error)
        elif isinstance(effect, Happened):
            self._observer.happened(effect)
        elif isinstance(effect, Told):
            effect.tell(effect.progress)

    def _reconnect(self) -> None:
        for lane in (Lane.BROKER, Lane.PUSH):
            self._turn.forget(lane)
            if (port := self._turn.ports.pop(lane, None)) is not None:
                port.close()
        self._connect(Lane.BROKER, self._network.connect_dealer, self.endpoint)
        self._has_connected = True

    def _connect_pipe(self) -> None:
        if self._pipe is not None:
            self._connect(Lane.PUSH, self._network.connect_push, self._pipe)

    def _connect(self, lane: Lane, connect: Callable[[str], Port], endpoint: str) -> None:
        try:
            self._turn.ports[lane] = connect(endpoint)
        except ConfigError as error:
            if not self._has_connected:
                raise  # the caller's endpoint is wrong
            # No descriptor is to be had. The session knocks again (spec 5.1).
            self._observer.happened(Happened("no_socket", (("why", error.what),)))

    # -- handlers ----------------------------------------------------------------------------

    def _start(self, effect: Start) -> None:
        key = effect.key
        call = Call(
            topic=effect.request.topic,
            source=key.source,
            body=effect.request.body,
            frames=effect.frames,
            deadline=effect.deadline,
            trace=effect.request.trace,
            finish=RequestEnd(self.finished, key),
            epoch=key.epoch,
            number=key.number,
        )
        self._calls[key] = call
        self._starting.append(call)

    def _begin_calls(self) -> None:
        # Last in a turn: a handler's thread is woken now, and the interpreter is about to be free
        # for it. Woken earlier, it would wait for the rest of the turn.
        while self._starting:
            assert self.begin_call is not None, "a session serves topics only with an executor"
            self.begin_call(self._starting.popleft())

    def _take(self, effect: Take) -> None:
        lane = effect.lane
        calls = [
            Call(
                topic=lane.topic,
                source=lane.source,
                body=body,
                frames=frames,
                deadline=None,
                trace="",
                finish=PushEnd(self.settled, lane, sequence),
                epoch=lane.epoch,
                number=sequence,
            )
            for sequence, (body, frames) in enumerate(effect.bodies, effect.sequence)
        ]
        self._of_executor().submit_lane(lane, calls)

    def _abandon(self, effect: Abandon) -> None:
        if (call := self._calls.get(effect.key)) is not None:
            call.cancelled = True
            self._of_executor().cancel(call)

    def _of_executor(self) -> Executor:
        assert self._executor is not None, "a session serves topics only with an executor"
        return self._executor

    def hear_handlers(self, now: float) -> None:
        """Answer with what handlers have reported."""
        inbox = self._inbox
        while inbox:
            report = inbox.popleft()
            if isinstance(report, Settled):
                self.counters.pushes_failed += report.failed
                self.session.taken(report.lane, report.sequence)
            else:
                self._calls.pop(report.key, None)
                self._turn.perform(self._effects_of(report, now), now)

    def _end(self, number: int, outcome: Outcome) -> None:
        # There is none where the call that asked was interrupted before it could be noted.
        if (on_end := self._ends.pop(number, None)) is not None:
            on_end(outcome)

    def _tell_settled(self) -> None:
        if self._settlements and not self.session.out_lanes.queued:
            settlements, self._settlements = self._settlements, {}
            for callback in settlements:
                callback()

    def _effects_of(self, report: Finished, now: float) -> list[SessionEffect]:
        key, result = report
        if isinstance(result, ZbusError):
            return self.session.fault(key, result, now)
        try:
            return self.session.reply(key, result.body, result.frames, now)
        except TooLarge as error:
            return self.session.fault(key, BadReply(f"the reply is {error.what}"), now)


def pipe_endpoint(endpoint: str, pipes: tuple[str, ...]) -> str | None:
    """Where to push to: the pipe that is reached the way the broker was."""
    scheme = endpoint.partition("://")[0]
    same = (pipe for pipe in pipes if pipe.partition("://")[0] == scheme)
    return next(same, pipes[0] if pipes else None)
