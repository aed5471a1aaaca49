"""``zbus.engine`` names every public thing of its rooms that components need."""

from __future__ import annotations

import pytest

import zbus.engine


def test_every_name_is_there() -> None:
    """Each is imported when it is first used, from the room that has it."""
    for name in zbus.engine.__all__:
        assert getattr(zbus.engine, name) is not None
    assert set(zbus.engine.__all__) <= set(dir(zbus.engine))


def test_no_other_name_is() -> None:
    """A misspelt one is an AttributeError that says so."""
    with pytest.raises(AttributeError, match=r"'zbus\.engine' has no attribute 'Sharable'"):
        zbus.engine.Sharable  # noqa: B018
