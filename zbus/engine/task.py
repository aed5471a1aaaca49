"""A task on its way to an executor, and the client that it goes to.

Rules of this room:

* No wall clock: a task tells its age, which no correction of the clock changes (contract 12.33).
"""

from __future__ import annotations

import time
from typing import Any

from zbus.engine.shareable import Shareable

__all__ = ["Client", "TaskAssignment"]


class TaskAssignment:
    """What the server gave this client to do."""

    def __init__(self, name: str, task_id: str, data: Shareable) -> None:
        self.name = name
        self.task_id = task_id
        self.data = data
        self._received = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since it was received."""
        return time.monotonic() - self._received


class Client:
    """A client as the server knows it: its name, and the token it was given."""

    def __init__(self, name: str, token: str) -> None:
        self.name = name
        self.token = token
        self.props: dict[str, Any] = {}

    def set_token(self, token: str) -> None:
        """Give it another token."""
        self.token = token

    def get_token(self) -> str:
        """Its token."""
        return self.token

    def set_prop(self, name: str, value: Any) -> None:
        """Keep something about it."""
        self.props[name] = value

    def get_prop(self, name: str, default: Any = None) -> Any:
        """What was kept about it."""
        return self.props.get(name, default)

    def __repr__(self) -> str:
        return f"Client({self.name!r})"
