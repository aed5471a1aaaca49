"""Lines that a thread of their own writes: zbus/broker/lines.py."""

from __future__ import annotations

import array
import fcntl
import os
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from zbus.broker.lines import LineWriter


def told(count: int) -> str:
    return f"dropped {count}"


class Reader:
    """The far end of a pipe that holds one page."""

    def __init__(self) -> None:
        self.out, self.descriptor = os.pipe()
        fcntl.fcntl(self.descriptor, fcntl.F_SETPIPE_SZ, 4_096)

    def read_all(self) -> list[str]:
        """Everything up to the end; close the writing end first."""
        with open(self.out, encoding="utf-8", closefd=False) as stream:
            return stream.read().splitlines()

    def close(self) -> None:
        for descriptor in (self.out, self.descriptor):
            try:
                os.close(descriptor)
            except OSError:
                continue


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


def stuck_writer(reader: Reader, lines_max: int) -> LineWriter:
    """A writer whose reader does not read, with its thread in the middle of a write."""
    writer = LineWriter(reader.descriptor, told, lines_max)
    writer.put("x" * 10_000)
    wait_for(lambda: writer_is_stuck(reader))
    return writer


def writer_is_stuck(reader: Reader) -> bool:
    """Whether the pipe is full."""
    waiting = array.array("i", [0])
    fcntl.ioctl(reader.out, termios.FIONREAD, waiting)
    return waiting[0] >= 4_096


def wait_for(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


def drained(reader: Reader) -> bool:
    """Reads what there is; whether the writing thread has ended."""
    try:
        while os.read(reader.out, 65_536):
            pass
    except BlockingIOError:
        pass
    return "zbus-log" not in {thread.name for thread in threading.enumerate()}


def test_lines_are_written_in_order(reader: Reader) -> None:
    """Each with its end, and close waits for the last."""
    writer = LineWriter(reader.descriptor, told)
    for number in range(300):
        writer.put(f"line {number}")
    assert writer.close()
    os.close(reader.descriptor)
    assert reader.read_all() == [f"line {number}" for number in range(300)]
    assert writer.dropped == 0


def test_a_reader_that_stalls_stops_nobody(reader: Reader) -> None:
    """put returns at once; what finds the queue full is counted, and nothing else is lost."""
    writer = stuck_writer(reader, lines_max=5)
    began = time.monotonic()
    for number in range(1_000):
        writer.put(f"line {number}")
    assert time.monotonic() - began < 1.0
    assert writer.dropped == 995
    reading = threading.Thread(target=lambda: lines.extend(reader.read_all()))
    lines: list[str] = []
    reading.start()
    assert writer.close(10)
    os.close(reader.descriptor)
    reading.join(10)
    assert lines[1:] == ["dropped 995", *(f"line {number}" for number in range(5))]


@pytest.mark.parametrize("lines", [0, 5])
def test_close_does_not_wait_for_a_reader_that_stalls(reader: Reader, lines: int) -> None:
    """Neither where the queue has room nor where it is full; the thread ends when it can."""
    writer = stuck_writer(reader, lines_max=5)
    for _ in range(lines):
        writer.put("line")
    began = time.monotonic()
    assert not writer.close(0.05)
    assert time.monotonic() - began < 1.0
    os.set_blocking(reader.out, False)
    wait_for(lambda: drained(reader))


def test_a_reader_that_is_gone_is_counted_once_a_line(reader: Reader) -> None:
    """A closed pipe raises nothing and stops nothing."""
    os.close(reader.out)
    writer = LineWriter(reader.descriptor, told)
    for _ in range(7):
        writer.put("line")
    assert writer.close()
    assert writer.dropped == 7


def test_a_descriptor_that_does_not_block_loses_nothing(reader: Reader) -> None:
    """Somebody who shares our standard error may have made it so."""
    os.set_blocking(reader.descriptor, False)
    writer = LineWriter(reader.descriptor, told)
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.extend(reader.read_all()))
    writer.put("x" * 50_000)
    wait_for(lambda: writer_is_stuck(reader))
    writer.put("last")
    reading.start()
    assert writer.close(10)
    os.close(reader.descriptor)
    reading.join(10)
    assert lines == ["x" * 50_000, "last"]


def test_a_process_ends_although_its_reader_stalls(reader: Reader) -> None:
    """The interpreter's exit is not held up by a thread that is in the middle of a write."""
    code = (
        "import sys; from zbus.broker.lines import LineWriter; "
        "w = LineWriter(2, str); w.put('x' * 100_000); print(w.close(0.2))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=reader.descriptor,
        timeout=20,
        check=True,
    )
    assert child.stdout == b"False\n"


def test_text_that_utf8_cannot_say_is_written_all_the_same(reader: Reader) -> None:
    """A lone surrogate becomes a question mark."""
    writer = LineWriter(reader.descriptor, told)
    writer.put("a\ud800b")
    assert writer.close()
    os.close(reader.descriptor)
    assert reader.read_all() == ["a?b"]
