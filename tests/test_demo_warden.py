"""The abort of the job that goes astray, on real processes: zbus/demo/warden.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from zbus.demo.cast import Cast, DemoFailed
from zbus.demo.ledger import Kind, Ledger, read
from zbus.demo.parts import living_in
from zbus.demo.plan import BROKER, STORY, STRAY, STRAY_JOB
from zbus.demo.warden import put_an_end_to
from zbus.demo.witness import Witness

pytestmark = pytest.mark.real
LATE = "COMMUNICATION_ERROR ZB-301, executed=maybe"


@pytest.fixture
def cast(tmp_path: Path) -> Iterator[Cast]:
    """A broker, and nobody else."""
    cast = Cast(tmp_path / "kept")
    cast.start_broker()
    yield cast
    assert cast.close() == []


@pytest.fixture
def witness(cast: Cast) -> Witness:
    """That of the story."""
    return Witness(Ledger(cast.place.ledger(STORY)))


def test_a_job_whose_handler_hangs_is_aborted(cast: Cast, witness: Witness) -> None:
    """Once that was seen: the engine confirms, its process ends, and that of nobody else."""
    part = cast.start_engine(STRAY, STRAY_JOB, "zbus.demo.stray", str(cast.place.path))
    aborted = put_an_end_to(cast, witness)
    assert (aborted.job, aborted.pid, aborted.answer) == (STRAY_JOB, part.pid, LATE)
    assert (aborted.step, aborted.ending) == ("asked", "exit code 0")
    assert aborted.took_ms > 0
    assert part.exit_code == 0
    assert [*cast.parts] == [BROKER]
    assert len([*living_in(cast.runtime_dir)]) == 2  # the broker and its guard
    kinds = [record.kind for record in read(cast.place.ledger(STRAY))]
    assert kinds == [Kind.STARTED]
    ends = [each.detail for each in read(cast.place.ledger(STORY)) if each.kind is Kind.ENDED]
    assert ends[-1] == LATE
    assert all("executed=no" in end for end in ends[:-1])


def test_an_engine_that_will_not_be_asked_is_told(
    cast: Cast,
    monkeypatch: pytest.MonkeyPatch,
    witness: Witness,
) -> None:
    """What cannot confirm is terminated at once, and that is what is said."""

    def refuse(*arguments: object) -> None:
        raise RuntimeError("it does not confirm")

    monkeypatch.setattr("zbus.demo.warden._ask_to_end", refuse)
    cast.start_engine(STRAY, STRAY_JOB, "zbus.demo.stray", str(cast.place.path))
    aborted = put_an_end_to(cast, witness)
    assert (aborted.step, aborted.ending) == ("terminated", "SIGTERM")


def test_an_engine_that_is_never_there_fails_the_run(
    cast: Cast, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In time, with its name."""
    monkeypatch.setattr("zbus.demo.warden._START_S", 0.3)
    cast.start_engine(STRAY, STRAY_JOB, "asyncio")
    with pytest.raises(DemoFailed, match=f"^{STRAY} "):
        put_an_end_to(cast, witness)
