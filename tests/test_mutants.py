"""Every planted fault is noticed by the suite, and the runner that says so can be believed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import ModuleType

import pytest
from planted import MUTANTS, Mutant, broker, peer, shell

from mutants import chosen, hunt, out_of_date, verdict


def test_there_are_enough_and_each_is_itself() -> None:
    """At least 24, over the machines, the turn and the link; each changes something."""
    assert len(MUTANTS) >= 24
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1
    rooms = {mutant.file for mutant in MUTANTS}
    assert {"transport/turn.py", "peer/link.py"} < rooms
    assert len([room for room in rooms if room.startswith("protocol/")]) >= 12
    assert all(mutant.old != mutant.new and mutant.why and mutant.killers for mutant in MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_none_is_out_of_date(mutant: Mutant) -> None:
    """Its text stands once in its file: a fault that cannot be planted guards nothing."""
    assert out_of_date(mutant) == ""


def test_a_fault_that_is_out_of_date_is_told() -> None:
    """A text that is gone, a text that stands twice, a file that is gone."""
    one = MUTANTS[0]
    assert "0 times" in out_of_date(replace(one, old="no such line"))
    assert " times" in out_of_date(replace(one, old="self"))
    assert "no zbus/nowhere.py" in out_of_date(replace(one, file="nowhere.py"))
    assert "no tests/test_no.py" in out_of_date(replace(one, killers=("test_no.py",)))
    assert chosen(["deadlines.py"]) == [m for m in MUTANTS if m.file.endswith("deadlines.py")]


@pytest.mark.slow
def test_a_harmless_change_survives_and_a_broken_one_is_no_kill() -> None:
    """The runner does not say "killed" of whatever it is given."""
    one = replace(MUTANTS[0], new=MUTANTS[0].old + "  # harmless")
    selection = [f"tests/{killer}" for killer in one.killers]
    assert verdict(one, selection)[0] == "survived"
    assert verdict(replace(one, new="            if ("), selection)[0] == "broken"
    assert verdict(MUTANTS[0], selection)[0] == "killed"


@pytest.mark.slow
@pytest.mark.parametrize("room", [peer, broker, shell], ids=lambda room: room.__name__)
def test_every_planted_fault_is_noticed(
    room: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them, each by the tests that it names."""
    missed = hunt(room.MUTANTS, [])
    assert missed == 0, capsys.readouterr().out
