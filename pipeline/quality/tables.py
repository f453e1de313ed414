"""The tables of an evaluation, for the terminal and for the page alike."""

from dataclasses import dataclass

from pipeline.quality.bootstrap import Difference, Interval
from pipeline.quality.charts import figure
from pipeline.quality.evaluation import Evaluation

METRIC_NAMES = {
    "ndcg_10": "NDCG@10",
    "ndcg_20": "NDCG@20",
    "hit_10": "HR@10",
    "recall_20": "recall@20",
    "recall_100": "recall@100",
}
LOSS_METRICS = ("ndcg_10", "hit_10", "recall_100")


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts; the first column names the row."""

    title: str
    about: str
    """What a reader must know of it, a sentence or two."""
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def grids(evaluation: Evaluation) -> tuple[Grid, ...]:
    """Return every table, most asked for first; those that hold nothing are left out."""
    made = (
        methods(evaluation),
        comparison(evaluation),
        cohorts(evaluation),
        slates(evaluation),
        sources(evaluation),
        fates(evaluation),
        approximation(evaluation),
        losses(evaluation),
        calibration(evaluation),
        importance(evaluation),
    )
    return tuple(grid for grid in made if grid.rows)


def methods(evaluation: Evaluation) -> Grid:
    """Return the quality of every method."""
    return Grid(
        "Quality",
        f"{evaluation.users:,} users with at least {evaluation.min_history} plays; in brackets the "
        "95 % interval of the mean, bootstrapped over users.",
        ("method", *METRIC_NAMES.values()),
        tuple(
            (each.method, *(_with_interval(each.metrics[name]) for name in METRIC_NAMES))
            for each in evaluation.methods
        ),
    )


def comparison(evaluation: Evaluation) -> Grid:
    """Return what the ranked list gains over others."""
    return Grid(
        "The ranked list against others",
        "Mean difference on the same users (paired bootstrap). Chance: the share of resamples in "
        "which the ranked list is not better.",
        ("against", "metric", "gain", "chance"),
        tuple(
            (
                each.against,
                METRIC_NAMES[each.metric],
                _signed(each.gain),
                f"{each.gain.chance:.3f}",
            )
            for each in evaluation.comparisons
        ),
    )


def cohorts(evaluation: Evaluation) -> Grid:
    """Return quality by cohort."""
    return Grid(
        "Cohorts",
        "Users by the length of their history; items by popularity, each part of a user's targets "
        "measured as if it were all of them.",
        ("cohort", "users", "method", "NDCG@10", "HR@10", "recall@100"),
        tuple(
            (
                f"{cohort.name} ({cohort.definition})",
                f"{cohort.users:,}",
                method,
                *(_with_interval(found) for found in measured.values()),
            )
            for cohort in evaluation.cohorts
            for method, measured in cohort.methods.items()
        ),
    )


def slates(evaluation: Evaluation) -> Grid:
    """Return what pages are like."""
    return Grid(
        "Pages",
        "Of the first 20 places. Novelty: mean -log2 of the share of all plays. Popularity: mean "
        "percentile, 1 the most played item; lift: above what the same users played themselves. "
        "Artist: share of a page that its most frequent artist has; Gini over all artists.",
        ("method", "covered", "novelty, bits", "popularity", "lift", "artist", "artist Gini"),
        tuple(
            (
                method,
                f"{facts.catalogue_coverage:.1%}",
                f"{facts.novelty_bits:.2f}",
                f"{facts.popularity:.3f}",
                f"{facts.popularity_lift:+.3f}",
                f"{facts.artist_share:.3f}",
                f"{facts.artist_gini:.3f}",
            )
            for method, facts in evaluation.slates.items()
        ),
    )


def sources(evaluation: Evaluation) -> Grid:
    """Return what each source finds."""
    return Grid(
        "Sources",
        "Share of what users played that is anywhere in a source's answer; unique: that no other "
        "source found, so what retrieval loses without it.",
        ("source", "answered", "recall", "unique recall"),
        tuple(
            (
                each.source,
                f"{each.answered:.0f}",
                f"{each.recall:.4f}",
                f"{each.unique_recall:.4f}",
            )
            for each in evaluation.sources
        ),
    )


def fates(evaluation: Evaluation) -> Grid:
    """Return where targets were lost."""
    return Grid(
        "Where the played items were lost",
        "Mean share of a user's new items; each item is counted once, at the first step that lost "
        "it. A seen filter loses by its false positives alone, since targets are new.",
        ("step", "share"),
        tuple((each.name, f"{each.share:.4f}") for each in evaluation.fates),
    )


def approximation(evaluation: Evaluation) -> Grid:
    """Return what approximate search loses."""
    return Grid(
        "Approximate search",
        "The `ann` source as served, and with every vector looked at. Overlap: share of the exact "
        "answer that the served one has.",
        ("search", "recall", "overlap"),
        tuple(
            (each.search, f"{each.recall:.4f}", f"{each.overlap:.4f}")
            for each in evaluation.approximations
        ),
    )


def losses(evaluation: Evaluation) -> Grid:
    """Return what the ranked list loses without a part."""
    return Grid(
        "Without a source or a feature group",
        "What the ranked list loses, with its 95 % interval; nothing is trained anew, so a model "
        "that was trained without it may lose less.",
        ("without", *(METRIC_NAMES[name] for name in LOSS_METRICS)),
        tuple(
            (label, *(_signed(by_metric[name]) for name in LOSS_METRICS))
            for label, by_metric in evaluation.losses.items()
        ),
    )


def calibration(evaluation: Evaluation) -> Grid:
    """Return hit rates by score."""
    return Grid(
        "Score and plays",
        "All ranked candidates of all users in tenths by score. Scores order candidates of one "
        "request; they are no probabilities.",
        ("tenth", "mean score", "played", "candidates"),
        tuple(
            (str(place), f"{each.score:.3f}", f"{each.hit_rate:.5f}", f"{each.candidates:,}")
            for place, each in enumerate(evaluation.calibration, start=1)
        ),
    )


def importance(evaluation: Evaluation) -> Grid:
    """Return what the model used."""
    return Grid(
        "Features",
        "Share of the gain of all splits of the model.",
        ("feature", "share"),
        tuple((each.feature, f"{each.share:.4f}") for each in evaluation.feature_gains),
    )


def training(evaluation: Evaluation) -> Grid:
    """Return what training took; not among `grids`, since it says nothing of the users."""
    return Grid(
        "Training",
        "Chart: LightGBM's NDCG@10 on the newest training cut after each tree, among the "
        f"candidates that training keeps; {evaluation.trees or 'an unknown number of'} trees were "
        "kept. Memory: the most that was held at once by the end of a step.",
        ("step", "seconds", "MiB"),
        tuple(
            (each.description, f"{each.seconds:,.1f}", f"{each.peak_mib:,.0f}")
            for each in evaluation.steps
        ),
    )


def _with_interval(found: Interval) -> str:
    return f"{figure(found.mean)} [{figure(found.low)}, {figure(found.high)}]"


def _signed(found: Difference) -> str:
    return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
