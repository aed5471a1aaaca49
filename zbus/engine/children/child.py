"""One life of one engine: started under its guard, signalled through it, and waited for.

Rules:

* It is started by exec, in a session of its own: Ctrl-C at the terminal reaches the parent alone,
  which ends its engines or, if it dies of it, takes them along.
* A thread waits for the guard, so that nobody needs SIGCHLD, and is gone with the child, as are
  all descriptors (P24).
* The end is known when the engine and all that it started are gone, and not before.
* Should somebody kill the guard, its engine dies by the kernel's hand, and what the engine had
  started in its group by ours.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from zbus.engine.children import guard as guard_file
from zbus.engine.children.launch import Launch, environment
from zbus.errors import ChildFailed
from zbus.peer.handover import LAUNCH, Handover, open_handover

__all__ = ["Child", "Ending", "spawn"]

_START_S = 30.0
_GONE_MS = 5_000
_MESSAGE_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Ending:
    """How an engine ended: its exit code, negative for a signal."""

    code: int

    @property
    def is_good(self) -> bool:
        """Whether it said that it has done its work."""
        return self.code == 0

    def __str__(self) -> str:
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


class Child:
    """A running engine. Made by ``spawn``."""

    def __init__(self, guard: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.pid = 0
        self.ending: Ending | None = None
        self._guard = guard
        self._control = control
        self._pidfd = -1
        self._sending = threading.Lock()
        self._gone = threading.Event()

    @property
    def is_alive(self) -> bool:
        """Whether it, or something that it started, is still there."""
        return not self._gone.is_set()

    def wait(self, timeout_s: float | None = None) -> Ending | None:
        """Wait until it is gone; None when the time is up."""
        self._gone.wait(timeout_s)
        return self.ending

    def signal(self, number: int) -> None:
        """Signal its process group. Nothing happens where it is gone."""
        with self._sending, suppress(OSError):
            self._control.send(bytes([number]), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def kill_guard(self) -> None:
        """Kill it by way of its guard, where that does not answer."""
        self._guard.kill()

    # -- from the start to the end -------------------------------------------------------------

    def await_start(self) -> None:
        """Wait until the program runs; raises ``ChildFailed`` where it cannot."""
        self._control.settimeout(_START_S)
        try:
            text, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_MAX, 1)
        except OSError:
            text, descriptors = b"", []
        self._control.settimeout(None)
        word, _, rest = text.decode().partition(" ")
        if word != "started":
            self._guard.kill()
            self._let_go()
            raise ChildFailed(rest or "the guard of an engine ended, or did not answer")
        self.pid, self._pidfd = int(rest), descriptors[0]

    def follow(self, on_end: Callable[[Ending], object]) -> None:
        """Have ``on_end`` called, in a thread of its own, when it is gone."""

        def follow_it() -> None:
            on_end(self._await_end())

        threading.Thread(target=follow_it, name=f"zbus-child-{self.pid}", daemon=True).start()

    def _await_end(self) -> Ending:
        try:
            text = self._control.recv(_MESSAGE_MAX)
        except OSError:
            text = b""
        word, _, code = text.decode().partition(" ")
        ending = Ending(int(code)) if word == "ended" else self._end_without_guard()
        self._let_go()
        self.ending = ending
        self._gone.set()
        return ending

    def _end_without_guard(self) -> Ending:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.poll(_GONE_MS)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        return Ending(-signal.SIGKILL)

    def _let_go(self) -> None:
        with self._sending:
            self._control.close()
        self._guard.wait()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def spawn(launch: Launch, handover: Handover) -> Child:
    """Start a program under its guard; it runs when this returns.

    Raises:
        ChildFailed: it could not be started; the text says why.
    """
    try:
        reading, place = open_handover(handover)
    except ValueError as error:
        raise ChildFailed(str(error)) from None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        guard = _start_guard(launch, theirs, reading, place)
    except OSError as error:
        ours.close()
        raise ChildFailed(f"{launch.name} cannot be started: {error}") from error
    finally:
        os.close(reading)
        theirs.close()
    child = Child(guard, ours)
    child.await_start()
    return child


def _start_guard(
    launch: Launch, control: socket.socket, reading: int, place: str
) -> subprocess.Popen[bytes]:
    numbers = (os.getpid(), control.fileno(), reading)
    with open(launch.log or os.devnull, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", guard_file.__file__, *map(str, numbers), *launch.argv],
            stdin=subprocess.DEVNULL,
            stdout=output if launch.log else None,
            stderr=output if launch.log else None,
            env=environment(launch.environ) | {LAUNCH: place},
            cwd=launch.folder,
            pass_fds=(control.fileno(), reading),
            start_new_session=True,
        )
