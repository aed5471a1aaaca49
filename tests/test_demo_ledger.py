"""Ledgers of the demo: zbus/demo/ledger.py."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from zbus.demo.ledger import Kind, Ledger, read

ROOT = Path(__file__).parent.parent
NOTE_ON = """
import itertools, sys
from pathlib import Path
from zbus.demo.ledger import Kind, Ledger
ledger = Ledger(Path(sys.argv[1]))
for number in itertools.count():
    ledger.note(Kind.TOOK, "x" * 500, number)
    if number == 100:
        print("under way", flush=True)
"""


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    """In order, with the instants of the monotonic clock."""
    ledger, began = Ledger(tmp_path / "ledger"), time.monotonic()
    written = [(Kind.BEGUN, "1", "topic"), (Kind.COUNTED, "name", {"accepted": 3})]
    for each in written:
        ledger.note(*each)
    ledger.close()
    records = [*read(tmp_path / "ledger")]
    assert [record[1:] for record in records] == written
    assert began <= records[0].at_s <= records[1].at_s <= time.monotonic()


def test_no_ledger_has_no_records(tmp_path: Path) -> None:
    """A part that never came so far is not an error of the reader."""
    assert [*read(tmp_path / "none")] == []


def test_a_second_life_appends(tmp_path: Path) -> None:
    """Nothing that was noted is written over."""
    for life in range(3):
        ledger = Ledger(tmp_path / "ledger")
        ledger.note(Kind.TOOK, "peer", life)
        ledger.close()
    assert [record.detail for record in read(tmp_path / "ledger")] == [0, 1, 2]


def test_lines_of_many_threads_are_whole(tmp_path: Path) -> None:
    """No line is in another, and none is lost."""
    ledger = Ledger(tmp_path / "ledger")

    def note(thread: int) -> None:
        for number in range(200):
            ledger.note(Kind.TOOK, str(thread), number)

    threads = [threading.Thread(target=note, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ledger.close()
    taken = [(record.key, record.detail) for record in read(tmp_path / "ledger")]
    for number in range(8):
        assert [one for key, one in taken if key == str(number)] == [*range(200)]


@pytest.mark.real
def test_a_process_that_is_killed_leaves_whole_lines(tmp_path: Path) -> None:
    """All that it noted before is there, and nothing by half."""
    path = tmp_path / "ledger"
    command = [sys.executable, "-c", NOTE_ON, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"under way\n"
        child.send_signal(signal.SIGKILL)
    numbers = [record.detail for record in read(path)]
    assert numbers == [*range(len(numbers))]
    assert len(numbers) > 100
