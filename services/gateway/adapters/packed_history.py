"""A user's stored history as the bytes of one DynamoDB attribute: written and read here only.

Little-endian, one after the other: the format (4 bytes), a CRC-32 of all that follows, the numbers
of plays, of keys that the filter was given, of plays ever stored and of the filter's bytes (uint32
each), the item keys oldest first (uint64), their times (uint32, unix seconds), the filter.

At most 72 KB, of which the filter has 64 (32,768 items at its full rate): DynamoDB's limit of an
item is 400. A listener of 200 items has 3.5 KB.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from services.gateway.domain.stored_history import MAX_STORED_PLAYS, StoredHistory
from signals.bloom import MAX_BYTES, check_filter

FORMAT = b"rmh1"

_HEAD = struct.Struct("<4sIIIII")
_CHECKED_FROM = 8  # behind the format and the CRC
_KEY, _TIME = np.dtype("<u8"), np.dtype("<u4")
_MOST = 2**32 - 1

MAX_PACKED_BYTES = _HEAD.size + MAX_STORED_PLAYS * (_KEY.itemsize + _TIME.itemsize) + MAX_BYTES


class PackedHistoryError(ValueError):
    """Bytes that are no packed history, or one of a newer format; the message says why."""


def pack(stored: StoredHistory) -> bytes:
    """Return the bytes of `stored`.

    Times before 1970 become 0 and those after 2106 the last second of it: no play is aged by
    either.
    """
    body = b"".join(
        (
            stored.item_keys.astype(_KEY).tobytes(),
            stored.times_s.clip(0, _MOST).astype(_TIME).tobytes(),
            stored.seen_filter,
        )
    )
    head = _head(stored, checksum=0)
    checksum = zlib.crc32(body, zlib.crc32(head[_CHECKED_FROM:]))
    return _head(stored, checksum) + body


def unpack(packed: bytes) -> StoredHistory:
    """Return the history that `packed` holds. Raises PackedHistoryError."""
    plays, keys_held, plays_ever, filter_bytes = _read_head(packed)
    keys_end = _HEAD.size + plays * _KEY.itemsize
    times_end = keys_end + plays * _TIME.itemsize
    if len(packed) != times_end + filter_bytes:
        raise PackedHistoryError(
            f"has {len(packed)} bytes; {plays} plays and a filter of {filter_bytes} have "
            f"{times_end + filter_bytes}"
        )
    if zlib.crc32(packed[_CHECKED_FROM:]) != _checksum(packed):
        raise PackedHistoryError("is damaged: its checksum is another")
    seen_filter = packed[times_end:]
    try:
        check_filter(seen_filter)
    except ValueError as exc:
        raise PackedHistoryError(f"the filter {exc}") from exc
    return StoredHistory(
        item_keys=_column(packed, _KEY, _HEAD.size, plays).astype(np.uint64),
        times_s=_column(packed, _TIME, keys_end, plays).astype(np.int64),
        seen_filter=seen_filter,
        keys_held=keys_held,
        plays_ever=plays_ever,
    )


def _head(stored: StoredHistory, checksum: int) -> bytes:
    return _HEAD.pack(
        FORMAT,
        checksum,
        len(stored.item_keys),
        stored.keys_held,
        stored.plays_ever,
        len(stored.seen_filter),
    )


def _read_head(packed: bytes) -> tuple[int, int, int, int]:
    """Return the numbers of plays, of keys held, of plays ever and of the filter's bytes."""
    if not packed.startswith(FORMAT):
        raise PackedHistoryError(f"has format {packed[: len(FORMAT)]!r}; known is {FORMAT!r}")
    if not _HEAD.size <= len(packed) <= MAX_PACKED_BYTES:
        raise PackedHistoryError(
            f"has {len(packed)} bytes; {_HEAD.size} to {MAX_PACKED_BYTES} are allowed"
        )
    _, _, plays, keys_held, plays_ever, filter_bytes = _HEAD.unpack_from(packed)
    if plays > min(MAX_STORED_PLAYS, plays_ever):
        raise PackedHistoryError(
            f"has {plays} plays of {plays_ever} ever; at most {MAX_STORED_PLAYS} are stored"
        )
    return plays, keys_held, plays_ever, filter_bytes


def _checksum(packed: bytes) -> int:
    return int.from_bytes(packed[len(FORMAT) : _CHECKED_FROM], "little")


def _column(packed: bytes, dtype: np.dtype, at: int, count: int) -> NDArray[np.generic]:
    return np.frombuffer(packed, dtype, count=count, offset=at)
