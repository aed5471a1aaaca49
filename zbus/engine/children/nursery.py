"""The engines of one parent, by name and by job.

Rules:

* A name is started once at a time; a job is aborted whole, all its engines at once, within the
  graces of one.
* An engine is forgotten when its job was aborted or when its owner says so, never before its end.
* ``close`` leaves no process, thread or descriptor (P24). A parent that ends without it, however it
  ends, takes its engines along (P20), only without asking them first.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

from zbus.engine.children.abort import Abort, Graces
from zbus.engine.children.launch import Launch
from zbus.engine.children.supervised import Supervised
from zbus.errors import ChildFailed

__all__ = ["Children"]


class Children:
    """Starts engines, watches them, and ends them with confirmation. Safe for any thread.

    Args:
        ask: the cooperative request, called with the engine and its grace in seconds; such as an
            ``abort`` request over the bus. None begins with SIGTERM.
        graces: how long each step of an abort may take.
        on_end: called once with each engine that has ended for good, from a thread of its own.
    """

    def __init__(
        self,
        ask: Callable[[Supervised, float], object] | None = None,
        *,
        graces: Graces | None = None,
        on_end: Callable[[Supervised], object] | None = None,
    ) -> None:
        self._ask = ask
        self._graces = graces or Graces()
        self._on_end = on_end
        self._engines: dict[str, Supervised] = {}
        self._changing = threading.Lock()
        self._closed = False

    def start(self, launch: Launch) -> Supervised:
        """Start an engine; its program runs when this returns.

        Raises:
            ChildFailed: it cannot be started, its name is in use, or this is closed.
        """
        with self._changing:
            if self._closed:
                raise ChildFailed(f"{launch.name} is not started: this parent has closed")
            known = self._engines.get(launch.name)
            if known is not None and known.is_alive:
                raise ChildFailed(f"{launch.name} is started already, as process {known.pid}")
            engine = self._engines[launch.name] = Supervised(launch, self._on_end)
        return engine

    def of_job(self, job: str) -> list[Supervised]:
        """The engines of a job that are not forgotten, ended ones too."""
        with self._changing:
            return [engine for engine in self._engines.values() if engine.launch.job == job]

    def abort(self, job: str, *, graces: Graces | None = None) -> list[Abort]:
        """End the engines of a job, each for good, and forget them; none for an unknown job.

        Raises:
            ChildFailed: one is still there after all graces; the job is not forgotten.
        """
        reports = self._end(self.of_job(job), graces or self._graces)
        self.forget(job)
        return reports

    def forget(self, job: str) -> None:
        """Forget those engines of a job that have ended."""
        with self._changing:
            for name, engine in list(self._engines.items()):
                if engine.launch.job == job and not engine.is_alive:
                    del self._engines[name]

    def close(self, *, graces: Graces | None = None) -> list[Abort]:
        """End all engines and start no more; errors as for ``abort``. Reports those that ran."""
        with self._changing:
            self._closed = True
            engines = [engine for engine in self._engines.values() if engine.is_alive]
        reports = self._end(engines, graces or self._graces)
        with self._changing:
            self._engines.clear()
        return reports

    def _end(self, engines: Sequence[Supervised], graces: Graces) -> list[Abort]:
        if not engines:
            return []
        with ThreadPoolExecutor(len(engines), thread_name_prefix="zbus-abort") as threads:
            return list(threads.map(lambda engine: self._end_one(engine, graces), engines))

    def _end_one(self, engine: Supervised, graces: Graces) -> Abort:
        ask = None if self._ask is None else functools.partial(self._ask, engine)
        return engine.abort(ask, graces)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
