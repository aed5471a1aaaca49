"""What every error says, and that a number is given once."""

from __future__ import annotations

import pytest

from zbus.errors import every_error
from zbus.failure import REGISTRY, Executed, ZbusError


def test_every_error_with_a_number_is_in_the_registry() -> None:
    """Once, and under its own number."""
    assert [REGISTRY[error.number] for error in every_error()] == list(every_error())
    assert set(REGISTRY) == {error.number for error in every_error()}


@pytest.mark.parametrize("error", list(every_error()), ids=lambda error: error.__name__)
@pytest.mark.parametrize("executed", list(Executed))
def test_p04_what_is_told_says_whether_it_ran(error: type[ZbusError], executed: Executed) -> None:
    """In the text and as a value, whatever the class says by default."""
    told = error("something happened", executed=executed)
    assert told.executed is executed
    assert "something happened" in str(told)
    assert f"ZB-{error.number}" in str(told)
