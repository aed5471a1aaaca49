"""NumPy arrays and scalars to flat buffers and back, without importing NumPy before it is needed.

Rules of this room:

* Sending never imports NumPy: a value can only be an array where somebody imported it already.
  Receiving an array imports it.
* The dtypes are a closed set with one meaning on every machine: bool, integers, floats and
  complex of portable size, datetime64, timedelta64 and fixed-width strings. Object, structured,
  extended-precision and foreign dtypes are refused, so nothing here can run foreign code.
* C- and Fortran-ordered arrays are not copied; any other layout is copied once.
* What is restored is a read-only view of the buffer it is given.
"""

from __future__ import annotations

import importlib
import math
import re
import sys
from typing import Any, NamedTuple

__all__ = ["Flat", "flatten", "restore"]

_DTYPE = re.compile(
    r"\|b1|[|<>][iu]1|[<>](?:[iu][248]|f[248]|c8|c16)"
    r"|[|<>]S\d{1,9}|[<>]U\d{1,9}"
    r"|[<>][mM]8(?:\[(?:[1-9]\d{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?",
    re.ASCII,
)
_LAST_CODE_POINT = 0x10FFFF
_BYTES_PER_CODE_POINT = 4


class Flat(NamedTuple):
    """An array as its buffer and what is needed to read it; ``shape`` None says a scalar."""

    dtype: str
    shape: tuple[int, ...] | None
    fortran: bool
    buffer: bytes | memoryview


def flatten(value: object) -> Flat | None:
    """The flat form of a NumPy array or scalar; None where the value is neither.

    The buffer is the array's own memory wherever its layout allows, so the array must not be
    changed while the buffer is in use.

    Raises:
        ValueError: it is one, but of a dtype or class that zbus does not carry.
    """
    numpy = sys.modules.get("numpy")
    array_type = getattr(numpy, "ndarray", None)
    scalar_type = getattr(numpy, "generic", None)
    if array_type is None or scalar_type is None:
        return None
    if isinstance(value, array_type):
        return _flat_array(numpy, value)
    if isinstance(value, scalar_type):
        return _flat_scalar(value)
    return None


def _flat_array(numpy: Any, array: Any) -> Flat:
    if type(array) is not numpy.ndarray:
        raise ValueError("only plain arrays are sent; numpy.asarray() makes one of it")
    dtype = _checked(array.dtype.str)
    if array.dtype.itemsize == 0 and array.size:
        raise ValueError(f"arrays of {dtype} are not sent")
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        array = numpy.ascontiguousarray(array)
    fortran = not array.flags.c_contiguous
    return Flat(dtype, array.shape, fortran, _memory(array, fortran))


def _memory(array: Any, fortran: bool) -> bytes | memoryview:
    if not array.size:
        return b""
    return memoryview(array.reshape(-1, order="F" if fortran else "C").view("u1"))


def _flat_scalar(scalar: Any) -> Flat:
    if type(scalar) is not scalar.dtype.type:
        raise ValueError("subclasses of NumPy scalars are not sent")
    # An empty numpy.str_ gives four bytes although its dtype has none.
    raw = scalar.tobytes()[: scalar.dtype.itemsize]
    return Flat(_checked(scalar.dtype.str), None, False, raw)


def restore(flat: Flat) -> Any:
    """The read-only array, or the scalar, that this flat form says.

    Raises:
        ValueError: the form says no array that zbus carries, or NumPy is not installed.
    """
    dtype_text = _checked(flat.dtype)
    try:
        numpy = importlib.import_module("numpy")
        dtype = numpy.dtype(dtype_text)
    except ImportError:
        raise ValueError("an array came, and NumPy is not installed here") from None
    except TypeError as error:
        raise ValueError(str(error)) from None
    shape = () if flat.shape is None else flat.shape
    buffer = memoryview(flat.buffer).toreadonly()
    if math.prod(shape) * dtype.itemsize != buffer.nbytes:
        raise ValueError(f"{buffer.nbytes} bytes for an array of {dtype_text} and another size")
    if not dtype.itemsize and math.prod(shape) > 1:
        raise ValueError(f"arrays of {dtype_text} are not sent")
    if dtype.kind == "U":
        _check_text(numpy, dtype_text[0], buffer)
    array = numpy.ndarray(shape, dtype, buffer, order="F" if flat.fortran else "C")
    return array[()] if flat.shape is None else array


def _check_text(numpy: Any, byte_order: str, buffer: memoryview) -> None:
    # NumPy itself fails with a SystemError only when such an element is looked at.
    count = buffer.nbytes // _BYTES_PER_CODE_POINT
    points = numpy.ndarray((count,), f"{byte_order}u4", buffer)
    if count and points.max() > _LAST_CODE_POINT:
        raise ValueError("an array of text holds what is no character")


def _checked(dtype: str) -> str:
    if _DTYPE.fullmatch(dtype) is None:
        raise ValueError(f"arrays of dtype {dtype!a:.40} are not sent")
    return dtype
