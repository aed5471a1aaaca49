"""What every error of zbus says: its code, whether the handler ran, and what to do.

Rules:

* A class with a number enters the registry when it is defined; a number is given once, for ever.
* ``executed`` is ``no`` only where that is provable (promise P4).
"""

from __future__ import annotations

import enum
from typing import ClassVar

__all__ = ["REGISTRY", "Executed", "ZbusError"]


class Executed(enum.StrEnum):
    """Whether the handler ran: the answer every failed request carries (promise P4)."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


_SENTENCE = {
    Executed.NO: "It was not run.",
    Executed.MAYBE: "It may have run.",
    Executed.YES: "It was run.",
}
REGISTRY: dict[int, type[ZbusError]] = {}


class ZbusError(Exception):
    """The root. Everything zbus raises on purpose is one of these.

    Attributes: ``number`` (stable, also the wire code), ``executed``, ``retry_safe`` (asking
    again cannot make the handler run twice), ``retry_after_s`` (a hint, 0.0 for none),
    ``exit_code`` (of the command line) and ``remedy`` (one thing to do).
    """

    number: ClassVar[int] = 0
    default_executed: ClassVar[Executed] = Executed.NO
    exit_code: ClassVar[int] = 1
    summary: ClassVar[str] = "zbus failed"
    remedy: ClassVar[str] = "See the message."

    def __init__(
        self,
        what: str = "",
        *,
        executed: Executed | None = None,
        retry_after_s: float = 0.0,
    ) -> None:
        self.what = what or self.summary
        self.executed = self.default_executed if executed is None else executed
        self.retry_after_s = retry_after_s
        super().__init__(self.what)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "number" not in cls.__dict__:
            return
        if cls.number in REGISTRY:
            raise TypeError(f"{cls.__name__} and {REGISTRY[cls.number].__name__} share a number")
        REGISTRY[cls.number] = cls

    @property
    def code(self) -> str:
        """The stable code, such as ``ZB-301``; ``zbus explain ZB-301`` tells the rest."""
        return f"ZB-{self.number}"

    @property
    def retry_safe(self) -> bool:
        """True where it is proved that the handler did not run."""
        return self.executed is Executed.NO

    def __str__(self) -> str:
        return f"{self.what} ({self.code}). {_SENTENCE[self.executed]} {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.executed, self.retry_after_s))


def _rebuild(
    kind: type[ZbusError], what: str, executed: Executed, retry_after_s: float
) -> ZbusError:
    return kind(what, executed=executed, retry_after_s=retry_after_s)
