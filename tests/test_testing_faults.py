"""Faults are nothing unless given, and cannot be what they cannot be."""

from __future__ import annotations

from dataclasses import fields

import pytest

from zbus.testing.faults import PERFECT, ROUGH, Faults


def test_perfect_is_perfect() -> None:
    """No probability, and no time but those that only count when something has failed."""
    waits = {"half_open_s", "cut_breaks_s"}
    for field in fields(Faults):
        value = getattr(PERFECT, field.name)
        if field.name.endswith("_probability") or field.name.endswith("_s"):
            assert (value == 0.0) == (field.name not in waits), field.name


def test_rough_leaves_nothing_out() -> None:
    """A bad day has some of everything."""
    for field in fields(Faults):
        assert getattr(ROUGH, field.name) > 0, field.name


@pytest.mark.parametrize(
    "wrong",
    [
        {"break_probability": 1.1},
        {"full_probability": -0.1},
        {"notice_max_s": -1.0},
        {"delay_max_s": float("nan")},
        {"send_mark": 0},
        {"receive_mark": 0},
        {"delay_min_s": 2.0, "delay_max_s": 1.0},
    ],
)
def test_faults_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    """A mistake in a test is told where it is made."""
    with pytest.raises(ValueError, match=r"cannot be|less than"):
        Faults(**wrong)  # type: ignore[arg-type]
