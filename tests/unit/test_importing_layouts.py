"""The public sets' own layouts, in small copies written here and in the real files."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.importing.registry import FORMATS
from pipeline.importing.staging import UnusableSourceError
from tests.unit.importing import DATA, imported, write_lines, write_parquet

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is absent")

HETREC = {
    "user_artists.dat": ("userID\tartistID\tweight", "2\t51\t100", "2\t52\t7", "3\t51\t1"),
    "artists.dat": ("id\tname\turl\tpictureURL", '51\tThe "Düo"\thttp://a\t', "52\tB\thttp://b\t"),
    "tags.dat": ("tagID\ttagValue", *(f"{n}\ttag{n}" for n in range(1, 8))),
    "user_taggedartists.dat": (
        "userID\tartistID\ttagID\tday\tmonth\tyear",
        *(f"{user}\t51\t{tag}\t1\t4\t2009" for tag in range(1, 8) for user in range(tag)),
    ),
}


def write_hetrec(folder: Path, files: Mapping[str, tuple[str, ...]]) -> Path:
    for name, lines in files.items():
        write_lines(folder / name, *lines)
    return folder


def test_30music_reads_the_folder_or_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "30music"
    folder.mkdir()
    source = write_parquet(
        folder / "plays.parquet",
        "SELECT 1 AS session_id, 7 AS user_id, 9 AS song_id, 1390209882 AS ts, 200 AS playtime",
    )

    of_folder, of_file = imported(folder, "30music"), imported(source, "30music")

    assert of_folder.events("user_id, item_id, timestamp") == [("7", "9", 1_390_209_882)]
    assert of_folder.events("*") == of_file.events("*")
    assert of_folder.summary.catalogue_items == 0


def test_lastfm_2k_is_without_order_and_its_values_are_play_counts(tmp_path: Path) -> None:
    log = imported(write_hetrec(tmp_path / "hetrec", HETREC), "lastfm-2k")

    assert log.summary.order == "none"
    assert log.events("user_id, item_id, value") == [
        ("2", "51", 100.0),
        ("2", "52", 7.0),
        ("3", "51", 1.0),
    ]


def test_lastfm_2k_artists_have_their_five_most_applied_tags_as_genres(tmp_path: Path) -> None:
    log = imported(write_hetrec(tmp_path / "hetrec", HETREC), "lastfm-2k")

    assert log.items("item_id, title, artist, genres") == [
        ("51", 'The "Düo"', 'The "Düo"', ["tag7", "tag6", "tag5", "tag4", "tag3"]),
        ("52", "B", "B", []),
    ]


def test_lastfm_2k_reads_latin_1_among_utf_8_and_files_without_header(tmp_path: Path) -> None:
    folder = write_hetrec(tmp_path / "hetrec", HETREC)
    (folder / "tags.dat").write_bytes("7\tfrançais".encode("latin-1") + "\n6\tmúsica\n".encode())

    log = imported(folder, "lastfm-2k")

    assert log.items("genres")[0] == (["français", "música"],)


def test_lastfm_2k_names_the_file_that_is_missing(tmp_path: Path) -> None:
    folder = write_hetrec(tmp_path / "hetrec", HETREC)
    (folder / "tags.dat").unlink()

    with pytest.raises(UnusableSourceError, match=r"tags\.dat does not exist"):
        imported(folder, "lastfm-2k")


MOVIES = ("1::Toy Story (1995)::Animation|Children's", "2::Misérables, Les: 2::Drama", "3::Bad")


def test_movielens_1m_reads_grouplens_files(tmp_path: Path) -> None:
    folder = tmp_path / "ml-1m"
    write_lines(folder / "movies.dat", *MOVIES, encoding="latin-1")
    write_lines(folder / "ratings.dat", "1::2::5::978300760", "1::1::3::978300000", "1::1::3")

    log = imported(folder, "movielens-1m")

    assert log.events("item_id, timestamp, position, value") == [
        ("1", 978_300_000, 0, 3.0),
        ("2", 978_300_760, 1, 5.0),
    ]
    assert log.items("item_id, title, genres, released") == [
        ("1", "Toy Story (1995)", ["Animation", "Children's"], 788_918_400),
        ("2", "Misérables, Les: 2", ["Drama"], None),
    ]
    assert log.summary.rejected == {
        "items: wrong number of columns": 1,
        "wrong number of columns": 1,
    }


def test_movielens_1m_reads_interactions_where_there_are_no_ratings(tmp_path: Path) -> None:
    folder = tmp_path / "ml-1m"
    write_lines(folder / "movies.dat", *MOVIES, encoding="latin-1")
    (folder / "interactions.csv.gz").write_bytes(
        gzip.compress(b"user_id,item_id,position,rating\n1,2,1,4\n1,1,0,5\n")
    )

    log = imported(folder, "movielens-1m")

    assert log.summary.order == "position"
    assert log.events("item_id, value") == [("1", 5.0), ("2", 4.0)]
    assert log.summary.catalogue_items == 2


def test_movielens_100k_reads_recboles_layout(tmp_path: Path) -> None:
    folder = tmp_path / "ml-100k"
    write_lines(
        folder / "ml-100k.inter",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        "196\t242\t3\t881250949",
    )
    write_lines(
        folder / "ml-100k.item",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        "242\tKolya\t1996\tComedy Sci-Fi",
    )

    log = imported(folder, "movielens-100k")

    assert log.events("user_id, item_id, timestamp, value") == [("196", "242", 881_250_949, 3.0)]
    assert log.items("title, genres, released") == [("Kolya", ["Comedy", "Sci-Fi"], 820_454_400)]


@pytest.mark.parametrize("log_format", FORMATS)
def test_no_layout_takes_a_folder_that_is_not_its_own(tmp_path: Path, log_format: str) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()

    with pytest.raises(UnusableSourceError, match="empty"):
        imported(folder, log_format)


@needs_data
@pytest.mark.data
@pytest.mark.parametrize(
    ("log_format", "source", "counts"),
    [
        ("30music", "30music", ("time", 307_431, 13_207, 9_996, 0)),
        ("lastfm-2k", "lastfm-2k", ("none", 92_834, 1_892, 17_632, 17_632)),
        ("movielens-1m", "ml-1m", ("position", 993_571, 6_040, 3_416, 3_883)),
        ("movielens-100k", "ml-100k", ("time", 100_000, 943, 1_682, 1_682)),
    ],
)
def test_the_real_sets_are_imported_whole(
    tmp_path: Path, log_format: str, source: str, counts: tuple[str, int, int, int, int]
) -> None:
    (tmp_path / "set").symlink_to(DATA / source)

    summary = imported(tmp_path / "set", log_format).summary

    found = (summary.order, summary.events, summary.users, summary.items, summary.catalogue_items)
    assert found == counts
    assert [reason for reason in summary.rejected if not reason.startswith("items: ")] == []
