"""A call is one thing to do, told from all others even where it says the same."""

from __future__ import annotations

from zbus.errors import NoHandler
from zbus.peer.call import DONE, Call, Executor, Result, Returned
from zbus.peer.dispatcher import Dispatcher
from zbus.peer.pool import HandlerPool


def ignore(_result: Result) -> None:
    pass


def test_calls_are_told_apart_by_identity() -> None:
    """Two calls that say the same are two: each must be finished once."""
    one, other = (Call("t", "s", b"", (), None, "", ignore) for _ in range(2))
    assert one != other
    assert len({one, other}) == 2
    assert not one.cancelled


def test_a_result_is_a_reply_or_an_error() -> None:
    """``Returned`` holds an encoded body, and is told from errors by its type."""
    results: list[Result] = [Returned(b"\xc0", ()), DONE, NoHandler()]
    assert [isinstance(result, Returned) for result in results] == [True, True, False]
    assert DONE == (b"", ())


def test_the_pool_is_an_executor() -> None:
    """The type checker holds the pool to the interface; unused, it closes at once."""
    executor: Executor = HandlerPool(Dispatcher())
    assert executor.close(5.0) == 0
