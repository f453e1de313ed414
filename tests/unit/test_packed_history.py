"""Packed histories: what goes in comes out, and whatever else comes in is refused."""

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.adapters.packed_history import (
    FORMAT,
    MAX_PACKED_BYTES,
    PackedHistoryError,
    pack,
    unpack,
)
from services.gateway.domain.stored_history import StoredHistory, stored_history
from signals.bloom import MAX_BYTES, contains
from tests.unit.gateway_world import CASES

DYNAMODB_ITEM_BYTES = 400 * 1024
HEAD = 24


def history_of(count: int, *, first_s: int = 1_700_000_000) -> StoredHistory:
    keys = np.random.default_rng(count).integers(0, 2**64, count, dtype=np.uint64)
    return stored_history(keys, np.arange(count, dtype=np.int64) + first_s)


def checked(body: bytes) -> bytes:
    """Return bytes of the format whose checksum is right."""
    return FORMAT + zlib.crc32(body).to_bytes(4, "little") + body


@CASES
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)), max_size=600))
def test_a_history_comes_out_as_it_went_in(plays: list[tuple[int, int]]) -> None:
    keys = np.array([key for key, _ in plays], dtype=np.uint64)
    stored = stored_history(keys, np.array([time_s for _, time_s in plays], dtype=np.int64))

    found = unpack(pack(stored))

    assert found.item_keys.tolist() == stored.item_keys.tolist()
    assert found.times_s.tolist() == stored.times_s.tolist()
    assert found.seen_filter == stored.seen_filter
    assert (found.keys_held, found.plays_ever) == (stored.keys_held, stored.plays_ever)


def test_times_outside_32_bits_become_the_nearest() -> None:
    times_s = np.array([-5, 2**40])

    found = unpack(pack(stored_history(np.array([1, 2], dtype=np.uint64), times_s)))

    assert found.times_s.tolist() == [0, 2**32 - 1]


@pytest.mark.parametrize("count", [40_000, 100_000])
def test_the_longest_history_fits_into_an_item(count: int) -> None:
    stored = history_of(count)
    packed = pack(stored)

    assert len(stored.seen_filter) == MAX_BYTES
    assert len(packed) == MAX_PACKED_BYTES < DYNAMODB_ITEM_BYTES / 5
    assert contains(unpack(packed).seen_filter, stored.item_keys).all()


def test_a_listener_of_two_hundred_items_takes_less_than_four_kilobytes() -> None:
    assert len(pack(history_of(200))) < 4_000


@CASES
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(PackedHistoryError):
        unpack(packed)


@CASES
@given(st.integers(0, 2_000), st.integers(1, 255))
def test_one_changed_byte_is_noticed(place: int, change: int) -> None:
    packed = bytearray(pack(history_of(100)))
    packed[place % len(packed)] ^= change

    with pytest.raises(PackedHistoryError):
        unpack(bytes(packed))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda packed: packed[:-1], "plays and a filter of"),
        (lambda packed: packed + b"\0", "plays and a filter of"),
        (lambda packed: packed[:HEAD], "plays and a filter of"),
        (lambda packed: packed[: HEAD - 1], "24 to"),
        (lambda _: b"", "has format b''"),
        (lambda packed: b"rmh2" + packed[4:], "has format b'rmh2'; known is b'rmh1'"),
        (lambda packed: packed[:-1] + bytes([packed[-1] ^ 1]), "checksum"),
        (lambda packed: packed + bytes(MAX_PACKED_BYTES), f"24 to {MAX_PACKED_BYTES}"),
        (lambda _: checked(struct.pack("<IIII", 513, 1, 513, 0) + bytes(513 * 12)), "512 are"),
        (lambda _: checked(struct.pack("<IIII", 2, 1, 1, 0) + bytes(24)), "2 plays of 1 ever"),
        (lambda _: checked(struct.pack("<IIII", 2**32 - 1, 0, 2**32 - 1, 2**32 - 1)), "512 are"),
        (lambda _: checked(struct.pack("<IIII", 0, 0, 0, 300) + bytes(300)), "the filter has 300"),
    ],
)
def test_what_is_wrong_is_said(change: Callable[[bytes], bytes], says: str) -> None:
    with pytest.raises(PackedHistoryError, match=says):
        unpack(change(pack(history_of(100))))


def test_the_layout_never_changes() -> None:
    """Histories are stored beside users and must be read by later programs."""
    stored = StoredHistory(
        np.array([1, 2**63], dtype=np.uint64), np.array([7, 2**31]), b"", keys_held=2, plays_ever=9
    )

    assert pack(stored).hex() == (
        "726d6831"  # the format
        "ba6e478f"  # CRC-32
        "02000000"  # plays
        "02000000"  # keys held
        "09000000"  # plays ever
        "00000000"  # bytes of the filter
        "0100000000000000"  # the older key
        "0000000000000080"  # the newer key
        "07000000"  # the older time
        "00000080"  # the newer time
    )
