"""Who turns the link: the peer's I/O thread, or the one caller that waits for a reply.

A blocking request costs its hand-offs between threads, 20 to 30 microseconds each. So a caller
sends by itself, under the lock that guards the link; and while callers come one at a time and no
handler runs, the caller also turns the link while it waits (it *leads*), and the I/O thread stands
by. Whoever asks or pushes meanwhile brings it back. Otherwise it turns, hands each outcome over,
and runs quick handlers itself, watched by its relief (``peer.quick``).

Rules:

* ``_lock`` guards the link and the sockets. Nobody sleeps holding it: a sleep is on descriptors.
* One thread sleeps on the network, and holds ``_leads`` meanwhile. Whoever has touched the link
  while another sleeps wakes it, where it would sleep through what is due now, or through a
  message whose edge was swallowed.
* Heartbeats never wait for user code: the thread on duty looks at the time once a beat at least.
* In the main thread a signal's handler may raise anywhere, which loses the connection and nothing
  more (``Link.mend``). Any other exception of a turn is a bug of ours, and ends all that is open.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from zbus.errors import CallerError, ClosedError, ForkedClientError, InternalError, ZbusError
from zbus.peer.forks import Origin
from zbus.peer.link import Link
from zbus.peer.lull import LULL_S, stand_by
from zbus.peer.quick import Quick
from zbus.peer.slot import Slot
from zbus.protocol.effect import Outcome
from zbus.transport.port import Network

__all__ = ["Driver"]

T = TypeVar("T")
_ALONE_MIN = 4  # requests in a row that were alone, before the I/O thread stands by
_LATE_S = 0.005  # how long after its deadline a follower asks for a turn, if nobody told it
_SLOW_JOIN_S = 0.5  # how long stop() waits for a thread that may be in a handler
_PATIENCE_S = 0.005  # how often we turn while a leader that was called off has not gone
_logger = logging.getLogger("zbus.peer")


class Driver:
    """Turns one link until it is stopped, and then closes its network."""

    def __init__(
        self,
        link: Link,
        network: Network,
        clock: Callable[[], float],
        quick: Quick | None = None,
    ) -> None:
        self._link = link
        self._network = network
        self._clock = clock
        # Reentrant: a signal's handler, or a finalizer, that comes back in here is refused.
        self._lock = threading.RLock()
        self._busy = False
        self._bell = threading.Lock()
        self._bell.acquire()
        self._stopped = self._standby = False
        self.origin = Origin()
        self._leader: Slot | None = None
        self._leads = threading.Lock()
        self._leads_in = 0
        self._alone = self._alone_seen = 0
        self._led_from = self._sleeps_until = self._beat_s = 0.0
        self._goodbye_s: float | None = None
        self._quick = quick
        self._io = threading.Thread(target=self._turn_on, name="zbus-io", daemon=True)
        self._relief = threading.Thread(target=self._turn_on, name="zbus-relief", daemon=True)
        self._on_duty = self._io
        self._duty_ident = 0  # asked several times a request, and of the interpreter in C
        link.on_finished = self._hear
        if quick is not None:
            link.begin_call = quick.begin

    def start(self) -> None:
        """Open the link and begin to turn it."""
        self.call(lambda link, now: link.open(now))
        self._io.start()
        if self._quick is not None:
            self._relief.start()

    def stop(self, goodbye_s: float = 0.0) -> None:
        """Close the link, end the I/O thread and close the network, which has ``goodbye_s`` to
        hand over what was said. Whoever waits for a reply is told that it is cancelled."""
        if self.origin.is_elsewhere:
            return
        with self._lock:
            if self._busy:
                self._refuse()
            if not self._stopped:
                self._stopped = True
                self._link.close(self._clock())
            self._call_off()
        self._join()
        if self._leads.locked() and self._leads_in == threading.get_ident():
            # A signal's handler stops us, above the leader that it interrupted, which sleeps on
            # the network and closes it when it leaves.
            self._goodbye_s = goodbye_s
            return
        with self._leads:
            self._network.close(goodbye_s)

    def _join(self) -> None:
        # Whoever is on duty may be in a handler that hangs, and about to be relieved.
        while self._on_duty.is_alive() and not self.is_own_thread():
            self._on_duty.join(_PATIENCE_S)
        if self._quick is not None:
            self._quick.end()
            for thread in (self._io, self._relief):
                if thread.ident is not None and thread is not threading.current_thread():
                    thread.join(_SLOW_JOIN_S)

    @property
    def is_running(self) -> bool:
        """Whether the link is turned."""
        return not (self._stopped or self.origin.is_elsewhere)

    def is_own_thread(self) -> bool:
        """Whether this is the thread that turns, which may wait for nobody."""
        return threading.get_ident() == self._duty_ident

    def check(self) -> None:
        """Raise where this driver cannot be used: after fork(), or after it was stopped."""
        if self.origin.is_elsewhere:
            raise ForkedClientError()
        if self._stopped:
            raise ClosedError()

    # -- what callers do -----------------------------------------------------------------------

    def call(
        self, act: Callable[[Link, float], T], *, turn: bool = False, slot: Slot | None = None
    ) -> T:
        """Do something with the link, from any thread. ``turn`` asks for a turn at once, for
        what only a turn carries further; ``slot`` is whose caller waits in this thread."""
        if self.origin.is_elsewhere:
            raise ForkedClientError()
        with self._lock:
            if self._busy or self._stopped:
                self._refuse()
            now = self._clock()
            try:
                self._busy = True
                result = act(self._link, now)
                self._link.flush(now)
                if slot is not None and self._leader is slot:
                    self._sleep_until(slot.deadline, now)
                elif turn or self._sleeper_must_know(now):
                    self._wake(begun=turn)
            except ZbusError:
                raise  # refused, before anything was changed
            except BaseException:
                self._link.mend(now)
                raise
            finally:
                self._busy = False
            return result

    def converse(self, begin: Callable[[Link, float], object], slot: Slot) -> Outcome:
        """Begin a request that ends in ``slot``, and wait for its outcome."""
        try:
            self.call(lambda link, now: self._begin(begin, slot, now), slot=slot)
            if self._is_led_by(slot):
                self._lead(slot)
            if not slot.is_ended:
                self._follow(slot)
        finally:
            # First of all: a second signal must not leave us with a leader that has gone.
            if self._is_led_by(slot):
                self._leader = None
                self._hand_over()
            if self._goodbye_s is not None:
                self._network.close(self._goodbye_s)
        assert slot.outcome is not None
        return slot.outcome

    def _begin(self, begin: Callable[[Link, float], object], slot: Slot, now: float) -> None:
        begin(self._link, now)
        alone = len(self._link.session.asker) == 1 and not self._link.is_serving
        self._alone = self._alone + 1 if alone else 0
        if alone and self._standby and self._leader is None:
            self._leader, self._led_from = slot, now

    def _lead(self, slot: Slot) -> None:
        due_in_s = self._sleeps_until - self._clock()
        with self._leads:
            self._leads_in = threading.get_ident()
            try:
                while not slot.is_ended and self._is_led_by(slot):
                    if due_in_s > 0.0:
                        self._network.wait(due_in_s)
                    with self._lock:
                        if not slot.is_ended and self._is_led_by(slot):
                            due_in_s = self._turn()
            finally:
                if not self._is_led_by(slot):
                    # What woke us since we were called off was meant for the I/O thread.
                    self._network.wake()

    def _is_led_by(self, slot: Slot) -> bool:
        return self._leader is slot  # asked anew each time, since others may call it off

    def _hand_over(self) -> None:
        with self._lock:
            is_long = self._clock() - self._led_from >= LULL_S  # nobody else would notice
            if is_long or not (self._link.session.idle and self._link.is_flushed):
                self._bring_back()

    def _follow(self, slot: Slot) -> None:
        while not slot.wait(max(slot.deadline - self._clock(), 0.0) + _LATE_S):
            with self._lock:
                if not slot.is_ended and self._stopped:
                    raise InternalError("a request was left without an outcome")
                self._wake(begun=False)

    # -- the I/O thread ------------------------------------------------------------------------

    def _turn_on(self) -> None:
        if threading.current_thread() is self._on_duty:
            self._duty_ident = threading.get_ident()
        try:
            while not self._stopped:
                if self.is_own_thread():
                    self._turn_until_stopped()
                elif self._quick is not None and self._quick.stand_by():
                    self._relieve(self._quick)
        except BaseException as error:  # noqa: BLE001 - nobody may be left waiting
            with self._lock:
                self._fail(error)

    def _relieve(self, quick: Quick) -> None:
        """The other thread is in a handler that is not quick after all."""
        with self._lock:
            self._on_duty = threading.current_thread()
            self._duty_ident = threading.get_ident()
            self._call_off()  # if it has just come back, it sleeps where only we may
        quick.hand_over()

    def _turn_until_stopped(self) -> None:
        while True:
            if self._quick is not None and self._quick.waits:
                self._quick.run(self.is_own_thread)
            with self._lock:
                if self._stopped or not self.is_own_thread():
                    return
                due_in_s = self._turn()
                self._beat_s = self._link.session.beat_s
                standby = self._standby = self._should_stand_by()
                if self._leader is not None:
                    # What came for the leader was heard here, and may be due before it wakes.
                    self._network.wake()
            if standby and stand_by(self._bell, min(self._beat_s, due_in_s), self._look):
                self._alone_seen = self._alone
            if not standby and due_in_s > 0.0 and self._leads.acquire(timeout=_PATIENCE_S):
                try:
                    self._network.wait(due_in_s)
                finally:
                    self._leads.release()

    def _look(self) -> tuple[Slot | None, int, bool]:
        return self._leader, self._alone, bool(self._link.session.topics)

    def _should_stand_by(self) -> bool:
        if self._leader is None:
            if self._alone < _ALONE_MIN or not self._link.session.idle:
                return False
            if self._standby and self._alone == self._alone_seen:
                self._alone = 0
                return False
        self._alone_seen = self._alone
        return True

    def _hear(self) -> None:
        """A handler's thread has a result: it says the reply itself, which saves the hand-over to
        the I/O thread, unless somebody has the link right now and will hear it by itself."""
        if self._quick is not None and self.is_own_thread():
            return  # it hears at its next turn, which is now
        if not self._lock.acquire(blocking=False):
            self._network.wake()
            return
        try:
            if self._busy or self._stopped:
                self._network.wake()
            else:
                self._say_replies()
        finally:
            self._lock.release()

    def _say_replies(self) -> None:
        self._busy = True
        try:
            now = self._clock()
            self._link.hear_handlers(now)
            self._link.flush(now)
            if self._sleeper_must_know(now):
                self._wake(begun=False)
        except Exception as error:  # noqa: BLE001 - a bug of ours is nobody's handler's
            self._fail(error)
        finally:
            self._busy = False

    # -- turning, with the lock held -----------------------------------------------------------

    def _turn(self) -> float:
        """One turn; in how many seconds the next one is due."""
        if self._busy:
            self._refuse()
        now = self._clock()
        try:
            self._busy = True
            more = self._link.step(now)
            if self._is_leaving():
                # What the leader leaves is the I/O thread's to look after.
                self._sleeps_until = now + self._beat_s
                return 0.0
            if self._quick is not None and self._quick.waits:
                if self._leader is not None:
                    self._call_off()  # handlers are the I/O thread's to run
                return 0.0
            return self._due_in(now, more)
        except Exception as error:
            if threading.current_thread() is threading.main_thread():
                self._link.mend(now)  # a signal's handler may have raised it
                raise
            self._fail(error)
            return 0.0
        except BaseException:
            self._link.mend(now)
            raise
        finally:
            self._busy = False

    def _is_leaving(self) -> bool:
        """Whether this is the leader's thread, and it has what it waits for."""
        leader = self._leader
        has_left = leader is not None and leader.is_ended
        return has_left and self._leads_in == threading.get_ident()

    def _due_in(self, now: float, more: bool) -> float:
        due_in_s = 0.0
        if not more and not self._network.readable():
            due = self._link.wake_at(now)
            due_in_s = max(due - now, 0.0) if due is not None else 1.0
        self._sleeps_until = now + due_in_s
        return due_in_s

    def _sleep_until(self, deadline: float, now: float) -> None:
        """What was due before is due as before; this deadline has been added."""
        until = now if self._network.readable() else min(self._sleeps_until, deadline)
        self._sleeps_until = until

    def _sleeper_must_know(self, now: float) -> bool:
        """Whether whoever turns would sleep through what was just begun."""
        if self._standby and (self._leader is None or len(self._link.session.asker) > 1):
            return True
        if self._network.readable():
            return True
        due = self._link.wake_at(now)
        return due is not None and due < self._sleeps_until

    def _wake(self, begun: bool) -> None:
        """Wake whoever turns: the I/O thread, where not only the leader's request has begun."""
        if self._standby and (begun or self._leader is None or len(self._link.session.asker) > 1):
            self._call_off()
        else:
            self._network.wake()

    def _call_off(self) -> None:
        self._leader = None
        self._network.wake()
        self._bring_back()

    def _bring_back(self) -> None:
        self._alone = 0
        self._standby = False
        if self._bell.locked():
            self._bell.release()

    def _fail(self, error: BaseException) -> None:
        """A bug of ours must not leave callers waiting: everything open ends with it."""
        if self._stopped:
            return
        _logger.error("the link failed", exc_info=error)
        self._stopped = True
        try:
            self._link.fail(InternalError(f"the link failed: {error!r:.200}"), self._clock())
        finally:
            self._call_off()

    def _refuse(self) -> None:
        if self._busy:
            raise CallerError("the bus was called by what interrupted another call of this thread")
        self.check()
