"""Tasks tell their age, and clients what is kept about them."""

from __future__ import annotations

from unittest.mock import patch

from zbus.engine.shareable import Shareable
from zbus.engine.task import Client, TaskAssignment


def test_a_task_tells_its_age_by_the_monotonic_clock() -> None:
    """A change of the wall clock changes nothing."""
    with patch("zbus.engine.task.time") as clock:
        clock.monotonic.return_value = 100.0
        clock.time.side_effect = AssertionError("the wall clock was read")
        task = TaskAssignment("train", "7", Shareable({"a": 1}))
        clock.monotonic.return_value = 102.5
        assert task.age_s == 2.5
    assert (task.name, task.task_id, task.data["a"]) == ("train", "7", 1)


def test_a_client_keeps_what_it_is_given() -> None:
    """The token is not shown."""
    client = Client("site-1", "secret")
    client.set_prop("a", 1)
    assert (client.get_prop("a"), client.get_prop("b", 0)) == (1, 0)
    assert repr(client) == "Client('site-1')"
    client.set_token("other")
    assert client.get_token() == client.token == "other"
