"""The parts of one run together: where they live, who of them is still there, and their end.

Rules of this room:

* The runtime directory is new and our own, and its path is short, for the sockets' sake.
* Every wait looks after all parts: one that ended before its time fails the run at once.
* Engines are started, watched and aborted by ``zbus.engine.children``; how a job is asked to end
  is for its owner to say.
* ``close`` leaves no process and no file, whatever happened before; Ctrl-C waits for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeAlias

from zbus.demo.parts import AT_ONCE, EnginePart, Part, command_of, environment, living_in
from zbus.demo.plan import BROKER, Place
from zbus.engine.children import Abort, Children, Graces, Launch, Supervised
from zbus.errors import ChildFailed
from zbus.transport.endpoints import broker_endpoint

__all__ = ["Cast", "DemoFailed", "interruptible"]

_LOOK_S = 0.02
_END_S = 15.0
"""How long a part may take to end by itself."""
_GONE_S = 2.0
_FALL_S = 0.3
"""How long those that others took along may need to fall, too."""
_SHORT_MAX = 60
"""A longer path of the temporary directory would leave too little for that of a socket."""
_GRACES = Graces(ask_s=5.0, terminate_s=2.0, kill_s=5.0)
"""How long each step of an abort may take."""
_DOORS = ("frontend", "backend", "pipe")
_ENDINGS = (signal.SIGTERM, signal.SIGHUP)
_Heed: TypeAlias = Callable[[int, FrameType | None], object] | signal.Handlers


class DemoFailed(Exception):
    """A part ended, hangs or did not start. The text names it, with the end of its log."""


class Cast:
    """The processes of a run, by name."""

    def __init__(self, keep: Path | None = None) -> None:
        self.runtime_dir = Path(tempfile.mkdtemp(prefix="zbus-demo-", dir=_short_place()))
        self.place = Place(keep or self.runtime_dir / "files")
        self.place.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.parts: dict[str, Part | EnginePart] = {}
        self._asks: dict[str, Callable[[float], object]] = {}
        self._children = Children(self._ask, graces=_GRACES)
        self._environ = environment(self.runtime_dir)

    @property
    def frontend(self) -> str:
        """Where engines attach."""
        return broker_endpoint(self.runtime_dir, "frontend")

    @property
    def backend(self) -> str:
        """Where servers attach."""
        return broker_endpoint(self.runtime_dir, "backend")

    def start(self, name: str, *words: str) -> Part:
        """Start a part, which is a module and its arguments."""
        part = self.parts[name] = Part(name, words, self.place.log(name), self._environ)
        return part

    def start_engine(self, name: str, job: str, *words: str) -> EnginePart:
        """Start an engine of a job, as a child.

        Raises:
            DemoFailed: it cannot be started.
        """
        return self._start_child(name, f"{name}.{job}", job, *words)

    def _start_child(self, name: str, full_name: str, job: str, *words: str) -> EnginePart:
        launch = Launch(
            argv=command_of(*words),
            name=full_name,
            job=job,
            endpoint=self.frontend,
            environ=self._environ,
            log=self.place.log(name),
        )
        try:
            part = self.parts[name] = EnginePart(name, self._children.start(launch))
        except ChildFailed as error:
            raise DemoFailed(f"{name} did not start: {error}") from error
        return part

    def abort(self, name: str, job: str, ask: Callable[[float], object]) -> Abort:
        """Abort the job of one engine, which is no part of the run any more.

        Args:
            name: its engine.
            job: the job.
            ask: asks the job to end; given its grace in seconds.

        Raises:
            DemoFailed: it is still there.
        """
        self._asks[job] = ask
        try:
            (report,) = self._children.abort(job)
        except ChildFailed as error:
            self.fail(name, f"was not aborted: {error}")
        del self.parts[name]
        return report

    def _ask(self, engine: Supervised, grace_s: float) -> None:
        self._asks[engine.launch.job](grace_s)

    def start_broker(self) -> EnginePart:
        """Start a broker: a child as engines are, so that it does not outlive us. What the
        machine's configuration says of endpoints is not for it."""
        doors = [
            word
            for door in _DOORS
            for word in (f"--{door}", broker_endpoint(self.runtime_dir, door))
        ]
        return self._start_child(BROKER, BROKER, BROKER, "zbus", "broker", *doors)

    # -- looking after them ----------------------------------------------------------------------

    def look(self) -> None:
        """Fail where a part has ended badly, or the broker at all."""
        if self._fallen():
            # Who fell first took others along; the parts that others need were started first.
            time.sleep(_FALL_S)
            name = self._fallen()[0]
            self.fail(name, f"ended with exit code {self.parts[name].exit_code}")

    def _fallen(self) -> list[str]:
        return [
            name
            for name, part in self.parts.items()
            if part.exit_code or (part.exit_code == 0 and name == BROKER)
        ]

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition, looking after all parts; False when the time is up."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                return False
            self.look()
            time.sleep(_LOOK_S)
        return True

    def see_off(self, name: str) -> None:
        """Wait until a part has ended by itself, with exit code 0."""
        part = self.parts[name]
        if not self.wait_until(lambda: part.exit_code is not None, _END_S):
            self.fail(name, f"has not ended within {_END_S:g} s")
        if part.exit_code != 0:
            self.fail(name, f"ended with exit code {part.exit_code}")

    def fail(self, name: str, what: str) -> NoReturn:
        """Fail, with the end of the part's log."""
        words = self.parts[name].last_lines()
        raise DemoFailed(f"{name} {what.rstrip('.')}. The end of what it printed:\n{words}")

    # -- the end -----------------------------------------------------------------------------

    def exits(self) -> dict[str, int | None]:
        """How each part ended."""
        return {name: part.exit_code for name, part in self.parts.items()}

    def sockets(self) -> list[str]:
        """The sockets that are still there."""
        return [
            str(path) for path in self.runtime_dir.iterdir() if stat.S_ISSOCK(path.stat().st_mode)
        ]

    def close(self) -> list[str]:
        """Kill what still runs and remove the runtime directory; what is left all the same."""
        with _undisturbed():
            for part in self.parts.values():
                with suppress(ChildFailed):  # whoever is left is found below
                    part.kill()
            with suppress(ChildFailed):
                self._children.close(graces=AT_ONCE)
            strays = set(living_in(self.runtime_dir))
            end = time.monotonic() + _GONE_S
            while (alive := [*living_in(self.runtime_dir)]) and time.monotonic() < end:
                for pid in alive:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(_LOOK_S)
            shutil.rmtree(self.runtime_dir, ignore_errors=True)
        left = [f"process {pid}" for pid in sorted(strays.union(alive))]
        return left + [str(self.runtime_dir)] * self.runtime_dir.exists()


def interruptible() -> AbstractContextManager[None]:
    """While this lasts, SIGTERM and SIGHUP end what we do as Ctrl-C does."""
    return _heeding(_interrupt, _ENDINGS)


def _undisturbed() -> AbstractContextManager[None]:
    """While this lasts, no signal ends us that we could be asked to end by."""
    return _heeding(signal.SIG_IGN, (signal.SIGINT, *_ENDINGS))


@contextmanager
def _heeding(heed: _Heed, numbers: Sequence[signal.Signals]) -> Iterator[None]:
    """Only the main thread can; a signal that was ignored stays ignored."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, heed) or signal.SIG_DFL
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _short_place() -> str | None:
    """None is the usual place for temporary directories."""
    return "/tmp" if len(os.fsencode(tempfile.gettempdir())) > _SHORT_MAX else None
