"""The policy's rules as TOML: zbus/broker/rules.py."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus.broker.rules import Rules
from zbus.protocol.policy import Rule

PATTERNS = st.lists(st.sampled_from(["jobs.*", "metrics.cpu", "*", "zbus.status"])).map(tuple)
LIMITS = st.integers(0, 1_000_000)
RULES = st.builds(
    Rule,
    request=PATTERNS,
    serve=PATTERNS,
    push=PATTERNS,
    in_flight=LIMITS,
    rate=LIMITS,
    bytes_s=LIMITS,
    push_rate=LIMITS,
    push_bytes_s=LIMITS,
)


@given(st.none() | st.dictionaries(st.sampled_from(["site-1", "a.b", "local"]), RULES))
def test_what_is_shown_is_read_again(rules: dict[str, Rule] | None) -> None:
    """As TOML in a file, and as the text of a flag."""
    form = Rules()
    shown = form.show(rules)
    assert form.read(tomllib.loads(f"rules = {shown}")["rules"]) == rules
    assert form.read_text("open" if rules is None else shown) == rules


def test_a_table_reads_as_people_write_it() -> None:
    """Sizes with their unit; what is left out is nothing."""
    text = '[rules."site-1"]\nrequest = ["jobs.*"]\nin_flight = 4\nbytes = "1KiB"\n'
    text += 'push_rate = 5\npush_bytes = "2KiB"\n'
    rules = Rules().read(tomllib.loads(text)["rules"])
    assert rules == {
        "site-1": Rule(
            request=("jobs.*",), in_flight=4, bytes_s=1024, push_rate=5, push_bytes_s=2048
        )
    }


@pytest.mark.parametrize(
    "value",
    [
        5,
        "closed",
        {"no name": {}},
        {"a": []},
        {"a": {"requests": ["x"]}},
        {"a": {"request": "x"}},
        {"a": {"request": ["x y"]}},
        {"a": {"request": ["x*"]}},
        {"a": {"request": ["*.x"]}},
        {"a": {"request": [5]}},
        {"a": {"rate": 0}},
        {"a": {"in_flight": True}},
        {"a": {"bytes": 5}},
    ],
    ids=str,
)
def test_p16_what_does_not_fit_refuses_the_whole(value: object) -> None:
    """Nothing of it is half obeyed."""
    with pytest.raises(ValueError, match=r"."):
        Rules().read(value)


@pytest.mark.parametrize("text", ["", "{", "shut", "5\nmore = 5", "{} # \n[x]"])
def test_a_flag_that_is_no_table_is_refused(text: str) -> None:
    """Nor may it hold more than the rules."""
    with pytest.raises(ValueError, match=r"."):
        Rules().read_text(text)
