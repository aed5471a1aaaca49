"""Tasks: one at a time, asked for as often as one likes, and a result once."""

from __future__ import annotations

import time

from brokers import BOUND_S, ended, in_a_thread

from zbus.engine import Shareable
from zbus.engine.tasks import TaskBoard


def test_the_same_task_until_its_result_is_in() -> None:
    """A reply that is lost loses no task."""
    board = TaskBoard()
    assert board.next_of("a") is None
    first, second = (board.put("a", name, Shareable()) for name in ("train", "test"))
    assert board.next_of("a") is board.next_of("a") is first
    assert board.next_of("b") is None
    assert board.take("a", first.task_id, Shareable({"n": 1}))
    assert board.next_of("a") is second


def test_a_task_is_a_copy() -> None:
    """What the giver changes later, headers too, is not in it; it says what it is."""
    content = Shareable({"n": 1})
    task = TaskBoard().put("a", "train", content)
    content["n"] = 2
    content.set_header("__task_name__", "other")
    assert task.content["n"] == 1
    assert task.content.get_header("__task_name__") == "train"
    assert task.content.get_header("__task_id__") == task.task_id


def test_a_result_is_taken_once() -> None:
    """The same again is fine, and changes nothing; another's is not."""
    board = TaskBoard()
    task = board.put("a", "train", Shareable())
    assert not board.take("b", task.task_id, Shareable())
    assert not board.take("a", "another", Shareable())
    assert not board.take("a", ["no", "id"], Shareable())
    assert board.take("a", task.task_id, Shareable({"n": 1}))
    assert board.take("a", task.task_id, Shareable({"n": 2}))
    result = board.wait(task, 0.0)
    assert result is not None
    assert result["n"] == 1


def test_waiting_for_a_result() -> None:
    """Ends with it, with the time, or with the job."""
    board = TaskBoard()
    task = board.put("a", "train", Shareable())
    assert board.wait(task, 0.01) is None
    thread, results = in_a_thread(lambda: board.wait(task, BOUND_S))
    board.take("a", task.task_id, Shareable({"n": 1}))
    ended(thread)
    assert results[0]["n"] == 1
    began = time.monotonic()
    last = board.put("a", "train", Shareable())
    thread, results = in_a_thread(lambda: board.wait(last, BOUND_S))
    board.give_up()
    ended(thread)
    assert results == [None]
    assert time.monotonic() - began < BOUND_S / 2
    assert board.next_of("a") is None
