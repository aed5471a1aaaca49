"""Properties keep their flags, stickers are live, and peers see what is public."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.engine.context import FLContext, FLContextManager

FLAGS = st.tuples(st.booleans(), st.booleans())
STEPS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(), FLAGS))


@given(STEPS)
def test_contexts_of_one_manager_agree_with_a_model(steps: list[Any]) -> None:
    """Any program of sets over three contexts: refusals, values and flags are the model's."""
    manager = FLContextManager()
    contexts = [manager.new_context() for _ in range(3)]
    stickers: dict[str, Any] = {}
    own: list[dict[str, Any]] = [{}, {}, {}]
    for key, which, value, (private, sticky) in steps:
        known = own[which].get(key) or (stickers.get(key) if sticky else None)
        allowed = known is None or known[1:] == (private, sticky)
        if allowed:
            own[which][key] = (value, private, sticky)
            if sticky:
                stickers[key] = own[which][key]
        assert contexts[which].set_prop(key, value, private, sticky) is allowed
        for context, mine in zip(contexts, own, strict=True):
            said = mine.get(key)
            said = stickers.get(key, said) if said is None or said[2] else said
            assert context.get_prop(key, "none") == (said[0] if said else "none")


def test_stickers_are_published_at_once() -> None:
    """Other contexts, old and new, see a sticky property before the first one is left."""
    manager = FLContextManager()
    old = manager.new_context()
    with manager.new_context() as context:
        context.set_prop("a", 1, private=False, sticky=True)
        assert old.get_prop("a") == 1
        assert manager.new_context().get_all_public_props()["a"] == 1


def test_the_key_must_be_text() -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError, match="must be a str"):
        FLContext().set_prop(1, 1)  # type: ignore[arg-type]


def test_none_is_a_value() -> None:
    """A stored None is returned, and not the default."""
    context = FLContext()
    context.set_prop("a", None)
    assert context.get_prop("a", "default") is None
    assert context.get_prop("b", "default") == "default"


def test_reserved_keys_stay_unless_forced() -> None:
    """What is removed may come back with other flags."""
    context = FLContext()
    for key in ("a", "__b", "__c"):
        context.set_prop(key, 1)
        context.remove_prop(key, force_removal=key == "__c")
    assert context.get_prop_keys() == ["__b"]
    assert context.set_prop("a", 1, private=False, sticky=False)


def test_peers_see_public_properties_and_no_others() -> None:
    """Setting public properties replaces those that were there; new ones are not sticky."""
    context = FLContext()
    context.set_prop("a", 1, private=False, sticky=True)
    context.set_prop("b", 2, private=True)
    assert context.get_all_public_props() == {"a": 1}
    assert [context.public_key_exists(key) for key in "abc"] == [True, False, False]
    context.set_public_props({"c": 3})
    assert context.get_all_public_props() == {"c": 3}
    assert context.get_prop("b") == 2
    assert context.get_prop_detail("c") == {"value": 3, "private": False, "sticky": False}
    assert context.get_prop_detail("a") is None


def test_a_manager_fills_its_contexts_in() -> None:
    """Engine, job, site and stickers are there; job and site are what peers see."""
    manager = FLContextManager("engine", "site-1", "job-1", {"p": 1}, {"q": 2})
    context = manager.new_context()
    assert context.get_engine() == "engine"
    assert (context.get_job_id(), context.get_identity_name()) == ("job-1", "site-1")
    props = {"p": 1, "__run_num__": "job-1", "__identity_name__": "site-1"}
    assert context.get_all_public_props() == props
    assert context.get_prop("q") == 2


def test_a_peer_is_of_one_context_alone() -> None:
    """It is private, and no other context of the manager has it."""
    manager = FLContextManager()
    context = manager.new_context()
    peer = FLContext()
    context.set_peer_context(peer)
    assert context.get_peer_context() is peer
    assert manager.new_context().get_peer_context() is None
    assert peer not in context.get_all_public_props().values()


def test_a_workspace_comes_from_the_engine() -> None:
    """Without an engine there is none, and that is said."""

    class Engine:
        def get_workspace(self) -> str:
            return "here"

    assert FLContextManager(Engine()).new_context().get_workspace() == "here"
    with pytest.raises(RuntimeError, match="no engine"):
        FLContext().get_workspace()


def test_custom_properties_stay_in_their_context() -> None:
    """They are neither public nor sticky."""
    manager = FLContextManager()
    context = manager.new_context()
    context.set_custom_prop("a", 1)
    assert (context.get_custom_prop("a"), context.get_custom_prop("b", 0)) == (1, 0)
    assert manager.new_context().get_custom_prop("a") is None


def test_a_clone_goes_its_own_way() -> None:
    """What is set in it is not in the other; both can be copied deeply."""
    context = FLContext()
    context.set_prop("a", [1])
    twin = context.clone()
    twin.set_prop("b", 2)
    assert (context.get_prop("b"), twin.get_prop("a")) == (None, [1])
    assert copy.deepcopy(twin).get_prop("a") == [1]
    assert str(twin) == "a: <class 'list'> b: <class 'int'>"


def test_an_unsafe_job_is_unsafe_everywhere() -> None:
    """The mark is sticky."""
    manager = FLContextManager()
    assert not manager.new_context().is_job_unsafe()
    manager.new_context().set_job_is_unsafe()
    assert manager.new_context().is_job_unsafe()


def test_threads_do_not_lose_each_others_stickers() -> None:
    """Many contexts of one manager, used at once, publish all they set."""
    manager = FLContextManager()

    def work(number: int) -> None:
        for step in range(200):
            manager.new_context().set_prop(f"{number}.{step}", step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(manager.stickers) == 800
