"""Arrays and their flat forms: nothing is copied, nothing is imported early, nothing runs code."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from zbus.peer.arrays import Flat, flatten, restore

ARRAYS = arrays.arrays(
    arrays.floating_dtypes(sizes=(32, 64)) | arrays.integer_dtypes(),
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
LAYOUTS = [
    lambda array: array,
    numpy.asfortranarray,
    numpy.transpose,
    lambda array: array[::2] if array.ndim else array,
    lambda array: array[::-1] if array.ndim else array,
]


def flat_of(value: Any) -> Flat:
    flat = flatten(value)
    assert flat is not None
    return flat


@given(ARRAYS, st.sampled_from(LAYOUTS))
@example(numpy.arange(6.0), LAYOUTS[3])
@example(numpy.arange(6.0), LAYOUTS[4])
@example(numpy.arange(12).reshape(3, 4), LAYOUTS[3])
def test_any_layout_comes_back(array: Any, layout: Any) -> None:
    """Whatever its order and strides, an array comes back equal, in shape and dtype."""
    laid = layout(array)
    came = restore(flat_of(laid))
    assert came.dtype == laid.dtype
    assert came.shape == laid.shape
    assert came.tobytes() == laid.tobytes()


@pytest.mark.parametrize("layout", [numpy.ascontiguousarray, numpy.asfortranarray])
def test_both_orders_are_sent_and_received_without_a_copy(layout: Any) -> None:
    """The flat buffer is the array's own memory, and the restored array is the buffer's."""
    array = layout(numpy.arange(6.0).reshape(2, 3))
    flat = flat_of(array)
    assert numpy.shares_memory(array, numpy.frombuffer(flat.buffer, "u1"))
    came = restore(flat)
    assert numpy.shares_memory(came, array)
    assert came.flags.f_contiguous == array.flags.f_contiguous
    assert not came.flags.writeable


SCALARS = [
    numpy.float64(1.5),
    numpy.float16(2),
    numpy.bool_(True),
    numpy.int8(-3),
    numpy.uint64(2**64 - 1),
    numpy.complex64(1 + 2j),
    numpy.str_("é"),
    numpy.str_(""),
    numpy.bytes_(b"ab"),
    numpy.datetime64("2026-07-01T00:00:00", "s"),
    numpy.timedelta64(5, "us"),
]


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_scalars_keep_their_type(scalar: Any) -> None:
    """A NumPy scalar comes back as that scalar, not as an array and not as Python's number."""
    came = restore(flat_of(scalar))
    assert type(came) is type(scalar)
    assert came == scalar
    assert came.dtype == scalar.dtype


class Odd(numpy.float64):
    pass


class Sub(numpy.ndarray[Any, Any]):
    pass


@pytest.mark.parametrize(
    "value",
    [
        numpy.array([object()]),
        numpy.array([(1, 2.0)], dtype="i4,f8"),
        numpy.array([1.0], numpy.longdouble),
        numpy.zeros(2, "V4"),
        numpy.ndarray((3,), "<U0", b""),
        numpy.zeros(2).view(Sub),
        numpy.ma.masked_array([1.0]),
        Odd(1.0),
        numpy.void(b"ab"),
        numpy.longdouble(1),
    ],
    ids=lambda value: f"{type(value).__name__}-{value.dtype.str}",
)
def test_what_has_no_one_meaning_is_refused(value: Any) -> None:
    """Objects, records, extended precision and subclasses are refused by name."""
    with pytest.raises(ValueError, match="sent"):
        flatten(value)


def test_other_values_are_no_arrays() -> None:
    """What NumPy did not make is left to others."""
    assert [flatten(value) for value in (1, 1.5, "x", b"x", None, [1], object())] == [None] * 7


HOSTILE = [
    Flat("|O8", (1,), False, bytes(8)),
    Flat("i4,f8", (1,), False, bytes(12)),
    Flat("<f16", (1,), False, bytes(16)),
    Flat("<f8", (2,), False, bytes(8)),
    Flat("<f8", (1,), False, bytes(9)),
    Flat("<f8", None, False, bytes(16)),
    Flat("<f8", (2**40, 2**40), False, b""),
    Flat("<f8", (2**62, 0), False, b""),
    Flat("<f8", (1,) * 65, False, bytes(8)),
    Flat("<U0", (2**40,), False, b""),
    Flat("<U999999999", (1,), False, bytes(4)),
    Flat("<U1", (1,), False, b"\xff\xff\xff\xff"),
    Flat(">U1", (1,), False, b"\x00\x11\x00\x00"),
    Flat("<M8[0s]", (1,), False, bytes(8)),
    Flat("<M8[parsec]", (1,), False, bytes(8)),
    Flat("\u0663", (1,), False, bytes(8)),
]


@pytest.mark.parametrize("flat", HOSTILE, ids=lambda flat: f"{flat.dtype}-{flat.shape}"[:30])
def test_a_form_that_says_no_array_is_refused(flat: Flat) -> None:
    """Sizes that do not match, dtypes outside the set and text that is none are refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - NumPy's own text, for some
        restore(flat)


def test_the_same_shapes_with_right_sizes_are_taken() -> None:
    """The neighbours of what is refused above are arrays."""
    assert restore(Flat("<f8", (2,), False, bytes(16))).tolist() == [0.0, 0.0]
    assert restore(Flat(">U1", (1,), False, b"\x00\x10\xff\xff")).tolist() == ["\U0010ffff"]
    assert restore(Flat("<M8[10s]", (1,), False, bytes(8))).dtype.str == "<M8[10s]"
    assert restore(Flat("<f8", (0, 3), False, b"")).shape == (0, 3)


def test_numpy_is_imported_only_for_an_array() -> None:
    """Neither importing zbus nor sending other values imports NumPy; receiving an array does."""
    program = (
        "import sys\n"
        "from zbus.peer.body import decode_body, encode_body\n"
        "from zbus.errors import UnencodableBody\n"
        "encode_body([(1, {2})])\n"
        "try: encode_body(object())\n"
        "except UnencodableBody: pass\n"
        "assert 'numpy' not in sys.modules\n"
        "array = decode_body(bytes.fromhex(sys.argv[1]), ())\n"
        "assert 'numpy' in sys.modules and array.tolist() == [1, 2]\n"
    )
    form = b"\x94\xa3<i2\x91\x02\xc2\xc4\x04\x01\x00\x02\x00"
    raw = b"\xc7" + bytes([len(form)]) + b"\x08" + form
    subprocess.run([sys.executable, "-c", program, raw.hex()], check=True, timeout=60)


def test_without_numpy_an_array_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver without NumPy is told what is missing."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ValueError, match="NumPy is not installed"):
        restore(Flat("<f8", (1,), False, bytes(8)))
    assert flatten([1]) is None
