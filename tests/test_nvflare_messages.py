"""Shareables as FOBS bytes, and outcomes of the bus as return codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zbus import errors

pytest.importorskip("nvflare", reason="needs the extra nvflare")

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable

from zbus.nvflare.messages import code_of, decode, decode_reply, encode, encode_reply, refusal

pytestmark = pytest.mark.real

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


class Weird:
    """What FOBS cannot encode: it has no picture of a lock."""

    def __init__(self) -> None:
        self.inner = iter(())


@given(value=PLAIN, name=st.text(min_size=1))
def test_a_request_survives(value: object, name: str) -> None:
    """Values, headers and props come out as they went in; the caller's is as before."""
    request = Shareable()
    request["value"] = value
    request.set_header("mine", name)
    received = decode(encode(request, {"__topic__": "t"}, {"who": name}))
    assert received["value"] == value
    assert received.get_header("mine") == name
    assert received.get_header("__topic__") == "t"
    assert received.get_peer_props() == {"who": name}
    assert request.get_peer_props() is None
    assert request.get_header("__topic__") is None


def test_arrays_survive() -> None:
    """A large array is in the bytes; nothing is left behind for a cell to fetch."""
    request = Shareable()
    request["array"] = np.arange(200_000.0)
    received = decode(encode(request, {}, {}))
    assert np.array_equal(received["array"], request["array"])


def test_a_reply_has_a_peer_context() -> None:
    """The replier's public props are the reply's peer context, and an FLContext."""
    reply = decode_reply(encode_reply(Shareable(), {"__identity_name__": "site-1"}))
    assert reply.get_peer_context().get_identity_name() == "site-1"


def test_what_fobs_cannot_encode_raises() -> None:
    """At the sender, and named."""
    request = Shareable()
    request["value"] = Weird()
    with pytest.raises(errors.UnencodableBody, match="FOBS"):
        encode(request, {}, {})


def test_such_a_prop_is_left_out() -> None:
    """The others travel."""
    received = decode(encode(Shareable(), {}, {"good": 1, "bad": Weird()}))
    assert received.get_peer_props() == {"good": 1}


@given(body=st.binary(max_size=200) | st.none() | st.integers() | st.text())
def test_garbage_is_malformed(body: object) -> None:
    """Any bytes give a Shareable or Malformed, and nothing else is raised."""
    try:
        assert isinstance(decode(body), Shareable)
    except errors.Malformed:
        return


def test_only_a_shareable_counts() -> None:
    """Another value that FOBS can say is refused, as are headers that are none."""
    from nvflare.fuel.utils import fobs

    broken = Shareable()
    broken[ReservedHeaderKey.HEADERS] = [1]
    for value in ({"a": 1}, broken):
        with pytest.raises(errors.Malformed):
            decode(fobs.dumps(value))


@pytest.mark.parametrize("kind", list(errors.every_error()))
def test_every_error_has_a_code(kind: type[errors.ZbusError]) -> None:
    """Each is a constant of nvflare's ReturnCode, also the four that nvflare forgets."""
    constants = {value for name, value in vars(ReturnCode).items() if name.isupper()}
    assert code_of(kind("why")) in constants


def test_outcomes_that_callers_tell_apart() -> None:
    """Late, gone, busy and failed are four codes."""
    assert code_of(errors.RequestTimeout("")) == ReturnCode.TIMEOUT
    assert code_of(errors.TargetLost("")) == ReturnCode.COMMUNICATION_ERROR
    assert code_of(errors.Overloaded("")) == ReturnCode.SERVICE_UNAVAILABLE
    assert code_of(errors.HandlerError("")) == ReturnCode.EXECUTION_EXCEPTION
    assert refusal(ReturnCode.TIMEOUT, "late").get_header("__error__") == "late"
