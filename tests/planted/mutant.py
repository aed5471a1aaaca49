"""What a planted fault is."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mutant", "planted"]


@dataclass(frozen=True)
class Mutant:
    """A fault to plant. ``file`` is below ``zbus/``, ``killers`` below ``tests/``."""

    name: str
    file: str
    old: str
    new: str
    why: str
    killers: tuple[str, ...]


def planted(
    room: str, *faults: tuple[str, str, str, str], killers: tuple[str, ...]
) -> list[Mutant]:
    """Faults of one room, each as its name, the text, what stands there instead, and why it
    matters."""
    return [Mutant(name, room, old, new, why, killers) for name, old, new, why in faults]
