"""Configuration is read, checked, imported and built, in this order and as a whole."""

from __future__ import annotations

import copy
import sys
from contextlib import nullcontext
from typing import Any

import engine_parts
import pytest
from engine_parts import BUILT, Box, Strict
from hypothesis import given
from hypothesis import strategies as st

from zbus.engine.builder import ANYTHING, ComponentBuilder
from zbus.errors import ComponentError, ComponentNotAuthorized, ConfigError

BOX = "engine_parts.Box"
STRICT = {"path": "engine_parts.Strict", "args": {"width": 2}}
NEVER = "wsgiref.validate"
"""A module that nobody here imports."""


@pytest.fixture(autouse=True)
def _nothing_built() -> None:
    BUILT.clear()


def build(config: Any, *allowed: str) -> Any:
    return ComponentBuilder(allowed or ["engine_parts"], {"Box": BOX}).build_component(config)


def nested(depth: int, innermost: dict[str, Any]) -> dict[str, Any]:
    config = innermost
    for _ in range(depth):
        config = {"path": BOX, "args": {"a": config}}
    return config


@pytest.mark.parametrize("config", [None, {}, {"path": BOX, "disabled": True}])
def test_what_is_empty_or_disabled_is_nothing(config: Any) -> None:
    """None comes out, and nothing is built."""
    assert build(config) is None
    assert BUILT == []


@pytest.mark.parametrize("disabled", ["true", 1, False])
def test_only_the_literal_true_disables(disabled: Any) -> None:
    """Anything else builds."""
    assert isinstance(build({"path": BOX, "disabled": disabled}), Box)


@pytest.mark.parametrize("key", ["path", "class_path"])
def test_a_component_is_built_with_its_arguments(key: str) -> None:
    """By its path under either key."""
    assert build({key: "engine_parts.Strict", "args": {"width": 3}}).width == 3


def test_a_name_stands_for_what_the_table_says() -> None:
    """Only there is it looked up; unknown names are refused."""
    assert isinstance(build({"name": "Box"}), Box)
    with pytest.raises(ComponentError, match="name: no component is called 'Strict'"):
        build({"name": "Strict"})


def test_the_first_key_that_is_there_counts() -> None:
    """Path before class_path before name; an empty path is not passed over."""
    assert isinstance(build({"name": "no", "class_path": "no", "path": BOX}), Box)
    with pytest.raises(ComponentError, match="path: must be a text, not ''"):
        build({"path": "", "class_path": BOX})


def test_components_are_built_at_any_depth() -> None:
    """Innermost first; plain dicts, and what is in lists and in plain dicts, stay as they are."""
    box = build(nested(3, {"path": BOX, "args": {"a": STRICT, "b": {"c": STRICT}, "d": [STRICT]}}))
    for _ in range(3):
        box = box.kept["a"]
    assert (type(box.kept["a"]), box.kept["b"], box.kept["d"]) == (Strict, {"c": STRICT}, [STRICT])
    assert ["Strict", *["Box"] * 4] == BUILT


@pytest.mark.parametrize(
    "argument",
    [{}, {"x": 1}, {"name": "Nobody"}, {"path": "data/a.csv"}, {**STRICT, "config_type": "dict"}],
)
def test_a_dict_that_is_no_component_is_passed_on(argument: dict[str, Any]) -> None:
    """Also one that says that it is none."""
    assert build({"path": BOX, "args": {"a": argument}}).kept == {"a": argument}


def test_a_component_may_take_an_argument_called_path() -> None:
    """Its arguments are not mistaken for its class."""
    box = build({"path": BOX, "args": {"a": {"path": BOX, "args": {"path": "x"}}}})
    assert box.kept["a"].kept == {"path": "x"}


def test_class_attributes_replace_the_arguments() -> None:
    """As they are."""
    assert build({"path": BOX, "args": {"class_attributes": {"a": STRICT}, "b": 1}}).kept == {
        "a": STRICT
    }


COMPONENT_PATHS = {BOX, "engine_parts.Strict", "engine_parts.Here", "engine_parts.a.B"}
"""With these, a dict among the arguments is a component."""


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([STRICT], "component: a component must be a dict, not list"),
        ("text", "component: a component must be a dict, not str"),
        ({"args": {}}, "component: no path, class_path or name says which class"),
        ({"path": 1}, "path: must be a text, not 1"),
        ({"path": "Box"}, "path: 'Box' is not module.Class"),
        ({"path": "engine_parts..Box"}, "is not module.Class"),
        ({"path": BOX, "args": None}, "args: arguments must be a dict, not NoneType"),
        ({"path": BOX, "args": [1]}, "args: arguments must be a dict, not list"),
        ({"path": BOX, "args": {"class_attributes": 1}}, "args.class_attributes: must be a dict"),
        ({"path": "engine_parts.Here"}, "component: there is no class engine_parts.Here"),
        ({"path": "engine_parts.a.B"}, "component: there is no module engine_parts.a"),
        ({"path": "engine_parts.getcwd"}, "there is no class engine_parts.getcwd"),
        (
            {"path": "engine_parts.Strict", "args": {"high": 1}},
            "unexpected keyword argument 'high'",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(config: Any, said: str) -> None:
    """At the top and within; and then nothing was built."""
    with pytest.raises(ComponentError) as caught:
        build(config)
    assert said in str(caught.value)
    assert isinstance(caught.value, ConfigError)
    assert isinstance(caught.value, ValueError)
    if isinstance(config, dict) and config.get("path") in COMPONENT_PATHS:
        with pytest.raises(ComponentError, match=r"^args\.z\.args\.a"):
            build({"path": BOX, "args": {"y": STRICT, "z": {"path": BOX, "args": {"a": config}}}})
    assert BUILT == []


def test_what_a_constructor_raises_goes_through_with_its_place() -> None:
    """From any depth, unchanged but for the note."""
    with pytest.raises(LookupError, match="no luck") as caught:
        build(nested(2, {"path": "engine_parts.Broken"}))
    assert caught.value.__notes__[0] == "while args.a.args.a was built"


# -- the allow-list ------------------------------------------------------------------------


@given(st.integers(0, 6))
def test_a_refused_part_at_any_depth_imports_nothing(depth: int) -> None:
    """The whole configuration is checked before anything is imported or built."""
    BUILT.clear()
    config = nested(depth, {"path": f"{NEVER}.Here"})
    config = {"path": BOX, "args": {"first": STRICT, "then": config}}
    with pytest.raises(ComponentNotAuthorized, match=rf"args\.then.*{NEVER}"):
        build(config)
    assert NEVER not in sys.modules
    assert BUILT == []


@pytest.mark.parametrize(
    ("allowed", "path", "is_allowed"),
    [
        ("email", "email.message.Message", True),
        ("collections", "collections.OrderedDict", True),
        ("collections.OrderedDict", "collections.OrderedDict", True),
        ("collections.abc", "collections.OrderedDict", False),
        ("collection", "collections.OrderedDict", False),
        ("collections.Ordered", "collections.OrderedDict", False),
        (ANYTHING, "collections.OrderedDict", True),
        ("", "collections.OrderedDict", False),
    ],
)
def test_the_list_has_modules_and_not_beginnings_of_words(
    allowed: str, path: str, is_allowed: bool
) -> None:
    """A package allows what is in it, and a name nothing but itself."""
    with nullcontext() if is_allowed else pytest.raises(ComponentNotAuthorized):
        ComponentBuilder([allowed]).build_component({"path": path})


def test_an_empty_list_allows_nothing() -> None:
    """There is no default that trusts."""
    with pytest.raises(ComponentNotAuthorized):
        ComponentBuilder([]).build_component({"path": BOX})


def test_a_module_does_not_offer_what_it_imports() -> None:
    """``engine_parts`` has Popen in it, which is made elsewhere."""
    assert engine_parts.Popen.__module__ == "subprocess"
    with pytest.raises(ComponentNotAuthorized, match=r"subprocess\.Popen"):
        build({"path": "engine_parts.Popen", "args": {"args": "true"}})


# -- the caller's dict ---------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
COMPONENTS = st.recursive(
    st.fixed_dictionaries({"path": st.just(BOX), "args": st.dictionaries(st.text("ab"), PLAIN)}),
    lambda inner: st.fixed_dictionaries(
        {"path": st.just(BOX), "args": st.dictionaries(st.text("cd"), inner | PLAIN)}
    ),
    max_leaves=5,
)


def scribble(value: Any) -> None:
    """Change everything in it."""
    if isinstance(value, Box):
        scribble(value.kept)
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            scribble(inner)
        value.clear()


@given(COMPONENTS)
def test_the_callers_dict_is_untouched_whatever_becomes_of_what_was_built(config: Any) -> None:
    """And no two builds share anything of it."""
    before = copy.deepcopy(config)
    one, other = build(config), build(config)
    scribble(one)
    assert config == before
    assert repr(other) == repr(build(config))
