"""Fills repeated number fields of messages from numpy arrays, without a Python object a number.

How this works. `message.rows.extend(array.tolist())` makes an int of every number and checks it:
14 us for 500. On the wire a packed repeated field is a tag, a length in bytes and the numbers, so
the array is written in that form and parsed into the message: 1 us for 500 floats, 5 to 8 us for
500 uint32. A float is its four little-endian bytes. A uint32 is a varint: seven bits a byte, low
ones first, and the top bit says that more follow. Here all of an array take as many pairs of bytes
as the largest, from a table; zero bits on top are valid
(https://protobuf.dev/programming-guides/encoding/#varints). What is sent in the end does not
differ: it is written anew from the numbers in the message.
"""

from functools import lru_cache

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from numpy.typing import NDArray

_LENGTH_DELIMITED = 2
_BITS = 7
_MORE_FOLLOW = 0x80

_PAIR_BITS = 2 * _BITS
_PAIR_MASK = (1 << _PAIR_BITS) - 1
_pairs = np.arange(1 << _PAIR_BITS, dtype="<u2")
_LAST = _pairs & 0x7F | _MORE_FOLLOW | _pairs >> _BITS << 8
"""uint16 [2^14]: every 14 bits as a varint of two bytes."""
_MORE = _LAST | _MORE_FOLLOW << 8
"""The same where more bytes follow."""


def append_floats(message: Message, field: str, values: NDArray[np.float32]) -> None:
    """Append `values` [n] to a `repeated float` field.

    Raises TypeError for a field of another type, and for values that are wider than float32.
    """
    fixed = values.astype("<f4", casting="safe", copy=False)
    _append(message, _tag(message.DESCRIPTOR, field, FieldDescriptor.TYPE_FLOAT), fixed.tobytes())


def append_uints(message: Message, field: str, values: NDArray[np.uint32]) -> None:
    """Append `values` [n] to a `repeated uint32` field.

    Raises TypeError for a field of another type, and for values that are wider than uint32 or
    signed.
    """
    whole = values.astype(np.uint32, casting="safe", copy=False)
    _append(message, _tag(message.DESCRIPTOR, field, FieldDescriptor.TYPE_UINT32), _varints(whole))


def _append(message: Message, tag: bytes, packed: bytes) -> None:
    if packed:
        message.MergeFromString(tag + _varint(len(packed)) + packed)


def _varints(values: NDArray[np.uint32]) -> bytes:
    """Return every value as a varint of as many pairs of bytes as the largest needs."""
    if not len(values):
        return b""
    largest = int(values.max())
    if largest <= _PAIR_MASK:
        return _LAST.take(values).tobytes()
    n_pairs = -(-largest.bit_length() // _PAIR_BITS)
    written = np.empty((len(values), n_pairs), dtype="<u2")
    for place in range(n_pairs - 1):
        written[:, place] = _MORE.take(values >> (_PAIR_BITS * place) & _PAIR_MASK)
    written[:, -1] = _LAST.take(values >> (_PAIR_BITS * (n_pairs - 1)))
    return written.tobytes()


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= _MORE_FOLLOW:
        written.append(value & 0x7F | _MORE_FOLLOW)
        value >>= _BITS
    written.append(value)
    return bytes(written)


@lru_cache(maxsize=256)  # more fields than our messages have
def _tag(kind: Descriptor, field: str, number_type: int) -> bytes:
    """Return what a packed field begins with."""
    descriptor = kind.fields_by_name.get(field)
    if descriptor is None or descriptor.type != number_type or not descriptor.is_packed:
        raise TypeError(f"{kind.full_name} has no packed column {field} of this type")
    return _varint(descriptor.number << 3 | _LENGTH_DELIMITED)
