"""Tasks of a server for its clients, and what came of them.

Rules of this room:

* A client has at most one task at a time. Until its result is in, or it is given up, whoever
  asks again gets the same task again: a reply that is lost loses no task.
* A result is taken once. The same one again is said to be taken, and dropped; one for a task
  that the client does not have is not taken.
* Tasks of a client come in the order in which they were given.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field

from zbus.engine.constants import ReservedHeaderKey
from zbus.engine.shareable import Shareable, make_copy

__all__ = ["Task", "TaskBoard"]

_REMEMBERED = 1_024
"""Results of which it is known that they were taken."""


@dataclass(slots=True, eq=False)
class Task:
    """One task of one client, with headers of its own that say which it is."""

    client: str
    name: str
    content: Shareable
    task_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    result: Shareable | None = None
    given_up: bool = False

    def __post_init__(self) -> None:
        self.content = make_copy(self.content)
        self.content.set_header(ReservedHeaderKey.TASK_NAME, self.name)
        self.content.set_header(ReservedHeaderKey.TASK_ID, self.task_id)

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more."""
        return self.given_up or self.result is not None


class TaskBoard:
    """The tasks of one job, for any number of threads."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Task]] = {}
        self._taken: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)
        self._changed = threading.Condition()

    def put(self, client: str, name: str, content: Shareable) -> Task:
        """A new task for a client, behind those that it has."""
        task = Task(client, name, content)
        with self._changed:
            self._waiting.setdefault(client, deque()).append(task)
        return task

    def next_of(self, client: str) -> Task | None:
        """The task that the client is to work on; None if it has none."""
        with self._changed:
            waiting = self._waiting.get(client)
            return waiting[0] if waiting else None

    def take(self, client: str, task_id: object, result: Shareable) -> bool:
        """The result of a client's task; whether it was taken, now or before."""
        with self._changed:
            if (client, task_id) in self._taken:
                return True
            waiting = self._waiting.get(client)
            if not waiting or waiting[0].task_id != task_id:
                return False
            task = waiting.popleft()
            task.result = result
            self._taken.append((client, task.task_id))
            self._changed.notify_all()
            return True

    def wait(self, task: Task, timeout_s: float) -> Shareable | None:
        """Wait for the result of a task; None when it is given up or the time is up."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not task.is_over and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return task.result

    def give_up(self) -> None:
        """There are no tasks any more."""
        with self._changed:
            for waiting in self._waiting.values():
                for task in waiting:
                    task.given_up = True
            self._waiting.clear()
            self._changed.notify_all()
