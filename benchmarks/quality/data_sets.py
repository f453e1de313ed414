"""The public data sets: where each stands below the data directory, and how it is imported."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.importing.import_log import import_log
from pipeline.recipe import DEFAULT, RECIPES, Recipe, read_recipe

VARIABLE = "RECMESH_DATA"


@dataclass(frozen=True, slots=True)
class DataSet:
    """One data set."""

    name: str
    folder: str
    log_format: str
    compared_by: str
    """The metric that peers are tuned by and compared by; a name of `pipeline.metrics.METRICS`."""

    @property
    def recipe(self) -> Recipe:
        """The project's own recipe of that name, or the default where it has none."""
        has_own = (RECIPES / f"{self.log_format}.toml").is_file()
        return read_recipe(self.log_format) if has_own else DEFAULT

    def import_from(self, data: Path, out: Path) -> Path:
        """Import it into the log directory `out`, as `meshctl data import` does."""
        import_log(data / self.folder, out, log_format=self.log_format)
        return out


DATA_SETS = (
    DataSet("30Music", "30music", "30music", "ndcg_20"),
    DataSet("MovieLens-1M", "ml-1m", "movielens-1m", "ndcg_10"),
    DataSet("MovieLens-100K", "ml-100k", "movielens-100k", "ndcg_10"),
    DataSet("Last.fm-2K", "lastfm-2k", "lastfm-2k", "ndcg_10"),
)
