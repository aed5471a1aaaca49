"""The registry of errors: complete, stable, and one source for the wire, the shell and the docs."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import errors_page
from zbus import errors, explain
from zbus.errors import Executed, InternalError, RequestError, ZbusError, error_for, every_error

KINDS = list(every_error())
each_error = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)

NO, MAYBE, YES = Executed.NO, Executed.MAYBE, Executed.YES
GOLDEN = {
    "BrokerUnreachable": (101, 5, NO),
    "NoTarget": (102, 4, NO),
    "NoHandler": (104, 4, NO),
    "NotAuthorized": (105, 6, NO),
    "AuthFailed": (106, 6, NO),
    "NameTaken": (107, 6, NO),
    "Superseded": (108, 6, NO),
    "VersionMismatch": (109, 7, NO),
    "Overloaded": (201, 7, NO),
    "Backpressure": (202, 7, NO),
    "TooLarge": (203, 7, NO),
    "Malformed": (204, 7, NO),
    "Draining": (205, 7, NO),
    "Damaged": (206, 7, NO),
    "RequestTimeout": (301, 3, MAYBE),
    "Cancelled": (302, 9, MAYBE),
    "HandlerError": (401, 1, YES),
    "BadReply": (402, 1, YES),
    "TargetLost": (403, 8, MAYBE),
    "Poisoned": (404, 8, MAYBE),
    "UnfitLibrary": (511, 78, NO),
    "ClosedError": (501, 2, NO),
    "ForkedClientError": (502, 2, NO),
    "InvalidName": (503, 2, NO),
    "DuplicateTopic": (504, 2, NO),
    "UnencodableBody": (505, 2, NO),
    "ConfigError": (506, 78, NO),
    "AlreadyRunning": (507, 78, NO),
    "InvalidTimeout": (508, 2, NO),
    "ComponentError": (509, 78, NO),
    "ComponentNotAuthorized": (510, 78, NO),
    "ChildFailed": (520, 1, MAYBE),
    "InternalError": (901, 70, MAYBE),
}
"""Number, exit code and ``executed`` of each error. Add a line for a new error; a line that has
been released is never changed and its number never used again."""


def test_numbers_exit_codes_and_executed_are_stable() -> None:
    """What peers of other versions, scripts and operators rely on does not move."""
    actual = {kind.__name__: (kind.number, kind.exit_code, kind.default_executed) for kind in KINDS}
    assert actual == GOLDEN


def test_every_public_error_class_is_registered_or_a_branch() -> None:
    """A class of the tree either has a code or has classes below it: none is forgotten."""
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, ZbusError):
            assert kind in KINDS or kind.__subclasses__(), f"{name} has neither code nor branches"
    assert {kind.__name__ for kind in KINDS} <= set(errors.__all__)


def test_a_number_cannot_be_given_twice() -> None:
    """The second class with a number is refused where it is defined."""
    with pytest.raises(TypeError, match="NoTarget"):
        type("Impostor", (ZbusError,), {"number": 102})
    assert error_for(102) is errors.NoTarget


def test_every_error_comes_in_the_order_of_numbers() -> None:
    """Pages and lists made from the registry do not depend on the order of definitions."""
    assert [kind.number for kind in KINDS] == sorted({kind.number for kind in KINDS})


@given(number=st.integers())
def test_error_for_is_total(number: int) -> None:
    """Any number names a class; one that this version does not know is an ``InternalError``."""
    known = {kind.number: kind for kind in KINDS}
    assert error_for(number) is known.get(number, InternalError)


@each_error
def test_an_error_says_what_which_code_whether_it_ran_and_a_remedy(kind: type[ZbusError]) -> None:
    """The text is one line: what happened (code). Whether it ran. What to do."""
    text = str(kind('no reply from "server" within 2.0 s'))
    sentence = {
        NO: "It was not run.",
        MAYBE: "It may have run.",
        YES: "It was run.",
    }[kind.default_executed]
    assert text == (
        f'no reply from "server" within 2.0 s (ZB-{kind.number}). {sentence} {kind.remedy}'
    )


@each_error
def test_an_error_without_words_says_its_summary(kind: type[ZbusError]) -> None:
    """Where nothing better is known the registry's own words stand."""
    assert str(kind()).startswith(f"{kind.summary} (ZB-{kind.number}). ")


@each_error
def test_the_registry_entry_is_complete(kind: type[ZbusError]) -> None:
    """Each class has words of its own: a docstring, a summary, a remedy, a known exit code."""
    assert kind.__doc__ not in {None, *(base.__doc__ for base in kind.__mro__[1:])}
    assert re.fullmatch(r"[^A-Z.\s].*[^.]", kind.summary), "goes into a sentence"
    assert re.fullmatch(r"[A-Z].*\.", kind.remedy), "is a sentence"
    assert kind.exit_code in explain.EXIT_CODES
    assert kind.exit_code != 0


@each_error
@pytest.mark.parametrize("executed", Executed)
def test_retry_safe_is_exactly_that_it_did_not_run(
    kind: type[ZbusError], executed: Executed
) -> None:
    """``retry_safe`` follows what this very error says, not what its class says by default."""
    assert kind("x", executed=executed).retry_safe is (executed is NO)


@each_error
@given(
    what=st.text(min_size=1),
    executed=st.sampled_from(Executed),
    retry_after_s=st.floats(0, 1e6),
)
def test_an_error_survives_pickle_and_copy(
    kind: type[ZbusError], what: str, executed: Executed, retry_after_s: float
) -> None:
    """An error that crosses a process pool is the same error, to the last attribute."""
    error = kind(what, executed=executed, retry_after_s=retry_after_s)
    for twin in (_sent(error), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert (twin.what, twin.executed, twin.retry_after_s) == (what, executed, retry_after_s)


def test_users_catch_the_builtin_they_expect() -> None:
    """A time-out is a ``TimeoutError``, an unreachable broker a ``ConnectionError``, and so on."""
    assert issubclass(errors.RequestTimeout, TimeoutError)
    assert issubclass(errors.BrokerUnreachable, ConnectionError)
    assert issubclass(errors.NoHandler, LookupError)
    assert issubclass(errors.NotAuthorized, PermissionError)
    assert issubclass(errors.Malformed, ValueError)


def test_a_request_that_did_not_run_is_the_only_kind_refused() -> None:
    """``RefusedError`` promises that nothing ran; only ``TargetError``s leave it open."""
    for kind in KINDS:
        if issubclass(kind, errors.RefusedError):
            assert kind.default_executed is NO
        if issubclass(kind, errors.TargetError):
            assert issubclass(kind, RequestError)
            assert kind.default_executed is not NO


def test_the_page_is_current() -> None:
    """``docs/errors.md`` is what the registry says today; else run ``tools/errors_page.py``."""
    assert errors_page.PAGE.read_text("utf-8") == explain.errors_page()


def test_the_tool_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tools/errors_page.py`` writes exactly that page."""
    monkeypatch.setattr(errors_page, "PAGE", tmp_path / "errors.md")
    monkeypatch.setattr(sys, "path", list(sys.path))
    errors_page.main()
    assert (tmp_path / "errors.md").read_text("utf-8") == explain.errors_page()


def _sent(error: ZbusError) -> ZbusError:
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert isinstance(twin, ZbusError)
    return twin
