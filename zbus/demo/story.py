"""The run of the demo: starts the parts, kills the broker half way, and judges what came of it.

    broker (python -m zbus broker) <- server, engine-1 ... engine-N, stray, and this process, an
    engine of both jobs, too

Rules of this room:

* Everything is bounded by time. What hangs or ends fails the demo with its name and the last
  lines of its log; whatever happens, Ctrl-C and SIGTERM included, nothing stays behind.
* It draws nothing: what happens is told as events.
* It imports no NumPy, so that a machine without it is told so.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

from zbus.demo.cast import Cast, interruptible
from zbus.demo.checks import History, Kill, checks, latency, nothing_left
from zbus.demo.events import Aborted, BrokerBack, BrokerKilled, Event, RoundOver, Started
from zbus.demo.ledger import Ledger
from zbus.demo.plan import (
    BROKER,
    JOB,
    REQUEST_S,
    SERVER,
    STORY,
    STRAY,
    STRAY_JOB,
    WATCH_S,
    Plan,
)
from zbus.demo.warden import put_an_end_to
from zbus.demo.witness import Witness, WitnessedClient, end_of
from zbus.engine.bus import Bus
from zbus.engine.constants import ReturnCode
from zbus.engine.shareable import Shareable
from zbus.errors import BrokerUnreachable
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.peer import connect

__all__ = ["live", "missing"]

_START_S = 30.0
"""How long the parts may take to start."""
_PATIENCE_S = 15.0
"""How long a round may take, the one after the kill included."""
_ANSWER_S = 2.0
"""A broker, or a server without news, that takes longer to answer hangs."""
_SLICE_S = 0.5
_THREADS = 2
"""Requests of the story at once."""
_SPLIT = "digits"
_NEEDED = {"numpy": "NumPy", "sklearn": "scikit-learn"}
_WATCH = "train.watch"
_Tell = Callable[[Event], None]


def missing() -> list[str]:
    """What the demo needs and this Python does not have."""
    return [name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None]


def live(plan: Plan, tell: _Tell, keep: Path | None = None) -> bool:
    """From the first process to the last check; whether all checks hold.

    Args:
        plan: the numbers of the run.
        tell: is called with each event, in this thread.
        keep: leave ledgers and logs in this directory.

    Raises:
        DemoFailed: a part ended, hangs or did not start.
    """
    with interruptible():
        cast = Cast(keep)
        life = _Life(plan, tell, cast)
        try:
            life.train()
            history = History.of(cast.place, plan, life.kill, life.aborted)
            sockets = cast.sockets()
        finally:
            life.leave()
            left = cast.close()
    found = checks(history, life.accuracy)
    found.append(nothing_left(cast.exits(), [*sockets, *left]))
    for check in found:
        tell(check)
    tell(latency(history))
    return all(check.kept for check in found)


class _Life:
    """One run, from its first process to its last."""

    def __init__(self, plan: Plan, tell: _Tell, cast: Cast) -> None:
        self.accuracy = 0.0
        self.kill = Kill(0.0, 0.0)
        self.aborted: Aborted | None = None
        self._plan = plan
        self._tell = tell
        self._cast = cast
        self._seen = 0
        self._engine: WitnessedClient | None = None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="story")

    def train(self) -> None:
        """Everything, in its order."""
        plan, cast = self._plan, self._cast
        engine = self._engine = self._start()
        self._follow(engine, plan.kill_after)
        self._kill_broker(engine)
        self._follow(engine, plan.abort_after)
        self._abort_stray(engine)
        self._follow(engine, plan.rounds)
        for name in plan.names:
            cast.see_off(name)
        cast.parts[SERVER].ask_to_end()
        cast.see_off(SERVER)
        engine.leave()
        cast.parts[BROKER].ask_to_end()
        cast.see_off(BROKER)

    def leave(self) -> None:
        """Be no engine any more, whatever is open."""
        if self._engine is not None:
            self._engine.close(drain=0.0)
        self._threads.shutdown()

    # -- the beginning -----------------------------------------------------------------------

    def _start(self) -> WitnessedClient:
        began, plan, cast = time.monotonic(), self._plan, self._cast
        cast.place.write(plan)
        place = str(cast.place.path)
        cast.start_broker()
        cast.start(_SPLIT, "zbus.demo.digits", place)
        cast.see_off(_SPLIT)
        cast.start(SERVER, "zbus.demo.server", place)
        for name in plan.names:
            cast.start_engine(name, JOB, "zbus.demo.engine", place, name)
        cast.start_engine(STRAY, STRAY_JOB, "zbus.demo.stray", place)
        witness = Witness(Ledger(cast.place.ledger(STORY)))
        # Known before it is started, so that whatever happens it leaves.
        engine = self._engine = WitnessedClient(witness, STORY, JOB, attach=self._attach)
        engine.start_run()
        self._news(engine, -1, _START_S)
        self._tell(
            Started(
                pids={name: part.pid for name, part in cast.parts.items() if name != _SPLIT},
                runtime_dir=str(cast.runtime_dir),
                took_s=round(time.monotonic() - began, 3),
            )
        )
        return engine

    def _attach(self, name: str, dispatcher: Dispatcher) -> Bus:
        end = time.monotonic() + _START_S
        while True:
            try:
                return connect(self._cast.frontend, name, dispatcher=dispatcher, timeout=_SLICE_S)
            except BrokerUnreachable:
                self._cast.look()
                if time.monotonic() > end:
                    self._cast.fail(BROKER, f"does not answer after {_START_S:g} s")

    # -- the middle --------------------------------------------------------------------------

    def _follow(self, engine: WitnessedClient, until: int) -> None:
        """Tell of the rounds up to this one."""
        due = time.monotonic() + _PATIENCE_S
        while self._seen < until:
            # The server says within WATCH_S that there is no news, and who is late.
            patience_s = max(due - time.monotonic(), WATCH_S + _ANSWER_S)
            news = self._news(engine, self._seen, patience_s)
            for over in news["over"]:
                round_over = RoundOver(**over)
                self._seen, self.accuracy = round_over.number, round_over.accuracy
                self._tell(round_over)
                due = time.monotonic() + _PATIENCE_S
            if news["end"] and self._seen < until:
                self._cast.fail(SERVER, f"has ended the training: {news['end']}")
            if time.monotonic() > due:
                self._fail_who_is_late(news["waits_for"])

    def _kill_broker(self, engine: WitnessedClient) -> None:
        """Kill it while requests are under way, and start another."""
        broker = self._cast.parts[BROKER]
        sent_s = time.monotonic()
        broker.kill()
        self.kill = Kill(sent_s, time.monotonic())
        successor = self._cast.start_broker()
        self._tell(BrokerKilled(pid=broker.pid, successor=successor.pid))
        self._news(engine, self._seen - 1, _PATIENCE_S)
        self._tell(BrokerBack(after_ms=round((time.monotonic() - sent_s) * 1000)))

    def _abort_stray(self, engine: WitnessedClient) -> None:
        self.aborted = put_an_end_to(self._cast, engine.witness)
        self._tell(self.aborted)

    def _news(self, engine: WitnessedClient, seen: int, timeout_s: float) -> Shareable:
        future = self._submit(engine, seen)
        if not self._cast.wait_until(future.done, timeout_s):
            self._check_broker(engine)
            self._cast.fail(SERVER, f"has not answered for {timeout_s:.0f} s")
        news = future.result()
        if news.get_return_code() != ReturnCode.OK:
            self._cast.fail(SERVER, f"did not say how the training goes: {end_of(news)}")
        return news

    def _submit(self, engine: WitnessedClient, seen: int) -> Future[Shareable]:
        """Ask in another thread, so that this one can look after the parts."""
        return self._threads.submit(
            engine.send_aux_request,
            topic=_WATCH,
            request=Shareable({"seen": seen}),
            timeout=REQUEST_S,
            fl_ctx=engine.new_context(),
        )

    # -- who is to blame ---------------------------------------------------------------------

    def _fail_who_is_late(self, waits_for: dict[str, str]) -> NoReturn:
        for name, where in waits_for.items():
            what = f"has sent no model for {_PATIENCE_S:g} s; it was last heard of in {where}"
            self._cast.fail(name, what)
        self._cast.fail(SERVER, f"has not ended its round for {_PATIENCE_S:g} s")

    def _check_broker(self, engine: WitnessedClient) -> None:
        """The broker itself answers this, so nobody else can be to blame."""
        reply = engine.bus.submit("zbus.ping", None, timeout=_ANSWER_S)
        if reply.exception() is not None:
            self._cast.fail(BROKER, f"has not answered for {_ANSWER_S:g} s")
