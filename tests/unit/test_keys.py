"""Item keys: the same in Python and in the SQL of the pipeline."""

import hashlib

import duckdb
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.event_log import KEY_SQL
from signals.keys import item_key, item_keys

IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)


def test_a_key_is_the_first_half_of_the_md5() -> None:
    assert item_key("abc") == 0x900150983CD24FB0  # RFC 1321 gives the whole digest


@given(IDS)
def test_ids_are_read_as_utf8(item_id: str) -> None:
    digest = hashlib.md5(item_id.encode("utf-8"), usedforsecurity=False).hexdigest()

    assert f"{item_key(item_id):016x}" == digest[:16]


def test_sql_computes_the_same_keys() -> None:
    item_ids = ["", "a", "Björk, Jóga", "日本", "🎵", "it's", *(str(n) for n in range(2000))]
    with duckdb.connect() as db:
        sql = f"SELECT {KEY_SQL.format(column='id')} FROM (SELECT unnest($ids) AS id)"  # noqa: S608 - our own expression
        computed = [key for (key,) in db.execute(sql, {"ids": item_ids}).fetchall()]

    assert computed == item_keys(item_ids).tolist()


@given(st.lists(IDS, max_size=30))
def test_keys_come_in_the_order_of_their_ids(item_ids: list[str]) -> None:
    keys = item_keys(item_ids)

    assert keys.dtype == np.uint64
    assert keys.tolist() == [item_key(item_id) for item_id in item_ids]
