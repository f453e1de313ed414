"""Rows of the trending tables: written and read here only; `trending_tables` describes them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.candidates.adapters.trending_tables import TTL_ATTRIBUTE
from services.candidates.domain.trending import (
    BUCKET_S,
    TOP_ITEMS,
    WINDOW_S,
    BucketCounts,
    BucketTop,
    Segment,
    TrendingRowInvalidError,
    top_of,
)
from signals.keys import item_keys

EXPIRY_SLACK_S = 24 * 3600
"""How long rows are kept beyond the window."""
TOP_ATTRIBUTES = "row_format, item_keys, item_counts, rolled_at"
"""What `parse_top` reads beside the key; the ids are for people, and the bulk of a row."""

SEGMENTS_KEY = "segments"
SEGMENTS_ATTRIBUTE = "segment_keys"

_LOAD = "load-"
_ROW_FORMAT = "1"
_UINT64 = np.dtype("<u8")

Row = dict[str, Any]
"""A row as boto3's client has it: attribute name -> {type: value}."""


def counts_key(segment: Segment, bucket: int, shard: str) -> str:
    """Return the partition of one shard's counts."""
    return f"{segment.key}#{bucket}#{shard}"


def shards_key(bucket: int) -> str:
    """Return the partition that lists a bucket's shards."""
    return f"shards#{bucket}"


def shard_name(loader: str, counts: Sequence[BucketCounts]) -> str:
    """Return the shard of a load, named by its content: the same load is the same shard."""
    content = [
        (one.segment.key, one.bucket, list(one.item_ids), list(map(int, one.counts)))
        for one in counts
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return f"{load_writer(loader)}-{digest[:16]}"


def load_writer(loader: str) -> str:
    """Return the name under which a loader's shard is registered."""
    return f"{_LOAD}{loader}"


def is_load(shard: str) -> bool:
    """Tell whether a shard holds chunks of a load, rather than live counts."""
    return shard.startswith(_LOAD)


def shard_row(bucket: int, writer: str, shard: str) -> Row:
    """Say that what `writer` counted in `bucket` is in `shard`."""
    return {"pk": {"S": shards_key(bucket)}, "sk": {"S": writer}, "shard": {"S": shard}}


def chunk_rows(counts: BucketCounts, shard: str) -> Iterator[Row]:
    """Yield the rows of a load, `TOP_ITEMS` items each: below 400 KB at the longest ids."""
    key = counts_key(counts.segment, counts.bucket, shard)
    starts = range(0, len(counts.item_ids), TOP_ITEMS)
    for number, at in enumerate(starts):
        yield {
            **chunk_key(key, number),
            "chunks": {"N": str(len(starts))},
            "item_ids": {"S": _pack_ids(counts.item_ids[at : at + TOP_ITEMS])},
            "item_counts": {"B": _pack(counts.counts[at : at + TOP_ITEMS])},
        }


def chunk_key(key: str, number: int) -> Row:
    """Return the key of a chunk in the partition `key`."""
    return {"pk": {"S": key}, "sk": {"S": f"chunk-{number}"}}


def chunks_of(row: Row) -> int:
    """Return how many chunks the partition has that a chunk is in."""
    return int(row["chunks"]["N"])


def top_row(segment: Segment, bucket: int, counts: Mapping[str, int], now_s: float) -> Row:
    """Return the row of the highest of `counts`, which may be empty."""
    top = top_of(counts)
    ids = [item_id for item_id, _ in top]
    return {
        "pk": {"S": segment.key},
        "sk": {"N": str(bucket)},
        "row_format": {"N": _ROW_FORMAT},
        "item_ids": {"S": _pack_ids(ids)},
        "item_keys": {"B": item_keys(ids).astype(_UINT64).tobytes()},
        "item_counts": {"B": _pack([count for _, count in top])},
        "rolled_at": {"N": str(now_s)},
    }


def segments_row_key(bucket: int) -> Row:
    """Return the key of the row that names the segments with a top in `bucket`."""
    return {"pk": {"S": SEGMENTS_KEY}, "sk": {"N": str(bucket)}}


def parse_segments(row: Row) -> list[Segment]:
    """Return the segments that a row names; raises TrendingRowInvalidError."""
    try:
        return [Segment.from_key(key) for key in row[SEGMENTS_ATTRIBUTE]["SS"]]
    except (KeyError, ValueError) as exc:
        raise TrendingRowInvalidError(f"{SEGMENTS_KEY} {row['sk']}: {exc!r}") from exc


def expiry(bucket: int) -> Row:
    """Return the attribute by which DynamoDB deletes a row of `bucket` some day."""
    expires_at_s = (bucket + 1) * BUCKET_S + WINDOW_S + EXPIRY_SLACK_S
    return {TTL_ATTRIBUTE: {"N": str(expires_at_s)}}


def parse_counts(row: Row) -> dict[str, int]:
    """Return item id -> count of a live row or a chunk; raises TrendingRowInvalidError."""
    try:
        if "n" in row:
            return {row["sk"]["S"]: int(row["n"]["N"])}
        item_counts = _unpack(row["item_counts"]["B"]).tolist()
        return dict(zip(json.loads(row["item_ids"]["S"]), item_counts, strict=True))
    except (KeyError, ValueError) as exc:
        raise TrendingRowInvalidError(f"counts {row['pk']} {row['sk']}: {exc!r}") from exc


def parse_top(segment: Segment, row: Row) -> BucketTop:
    """Return the top that a row holds; raises TrendingRowInvalidError."""
    place = f"top of segment {segment.key}, bucket {row['sk']['N']}"
    try:
        row_format = row["row_format"]["N"]
        keys = _unpack(row["item_keys"]["B"])
        counts = _unpack(row["item_counts"]["B"])
        rolled_at_s = float(row["rolled_at"]["N"])
    except (KeyError, ValueError) as exc:
        raise TrendingRowInvalidError(f"{place}: {exc!r}") from exc
    if row_format != _ROW_FORMAT:
        raise TrendingRowInvalidError(f"{place}: format {row_format}; known is {_ROW_FORMAT}")
    if len(keys) != len(counts):
        raise TrendingRowInvalidError(f"{place}: {len(keys)} keys but {len(counts)} counts")
    return BucketTop(int(row["sk"]["N"]), keys, counts, rolled_at_s)


def _pack_ids(item_ids: Sequence[str]) -> str:
    return json.dumps(list(item_ids), ensure_ascii=False, separators=(",", ":"))


def _pack(counts: Sequence[int]) -> bytes:
    return np.array(counts, dtype=_UINT64).tobytes()


def _unpack(packed: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(packed, _UINT64)
