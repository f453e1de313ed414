"""Known answers: what a bundle answered its publisher, to be asked again before it serves.

`probes.json` holds, for a sample of the bundle's users, the ids and scores that every source and
the ranker answered. Beside them stands a seal: the SHA-256 of every other file and of the facts,
so that a manifest that was made to fit a broken file does not fit the probes. Reports are not in
it, since it is content and they are not; they carry sums of their own.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshkit.bundles.manifest import NOT_CONTENT, sha256_of
from pipeline.offline_mesh import OfflineMesh, ranking_query
from services.gateway.domain.values import Rows
from services.ranker.adapters.forest_model import ForestModel
from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.adapters.scoring_model import has_forest
from services.ranker.domain.features import feature_names
from services.ranker.domain.rank import rank
from services.ranker.domain.values import ScoringModel
from signals.bundle_facts import BundleFacts

FILE = "probes.json"
FORMAT = 1
USERS = 16
LIST_LENGTH = 50
"""Of each source's answer."""
RANKED_LENGTH = 100
"""Candidates that the ranker is asked to score, in merge order."""
MIN_SAME = 0.95
"""Part of a list that must come back with its score. Another machine's BLAS and SIMD width move
the last bits of scores, and with them items that tie and rows beside a tree's threshold."""
MAX_SCORE_ERROR = 1e-4
"""Of a score, relative to the greatest of its list."""

Answers = dict[str, list[dict[str, Any]]]


class ProbeError(ValueError):
    """A bundle that does not answer as it did; the message says what differs."""


@dataclass(frozen=True, slots=True)
class _Agreed:
    """The forest's scores, and only while they are LightGBM's."""

    forest: ForestModel
    lightgbm: LightgbmModel

    @property
    def scorer(self) -> str:
        return self.forest.scorer

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores. Raises ProbeError unless both agree on them to the last bit."""
        ours, theirs = self.forest.raw_scores(features), self.lightgbm.raw_scores(features)
        differs = ours.view(np.uint64) != theirs.view(np.uint64)
        if differs.any():
            row = int(differs.argmax())
            raise ProbeError(
                f"Forest.*.npy scores {ours[row]!r} where LightGBM scores {theirs[row]!r}, "
                f"and {int(differs.sum())} of {len(differs)} rows otherwise"
            )
        return self.forest.score(features)


def write_probes(directory: Path, facts: Mapping[str, Any]) -> None:
    """Ask the bundle in `directory`, complete but for its manifest, and write down its answers.

    `facts` are those of the manifest.
    """
    mesh, model = _open(directory, facts)
    keys = mesh.tables.histories.user_keys
    places = np.linspace(0, len(keys) - 1, min(USERS, len(keys))).astype(np.int64)
    probes = [
        {"user_key": str(key), "answers": _ask(mesh, model, int(key))}
        for key in keys[places].tolist()
    ]
    unsealed = {FILE, *NOT_CONTENT}
    names = sorted(path.name for path in directory.iterdir() if path.name not in unsealed)
    seal = _seal(facts, {name: sha256_of(directory / name) for name in names})
    content = {"format": FORMAT, "probes": probes, "seal": seal}
    (directory / FILE).write_text(_canonical({**content, "sha256": _digest(content)}))


def check_seal(directory: Path, facts: Mapping[str, Any], sha256s: Mapping[str, str]) -> None:
    """Raise ProbeError unless the probes are whole and were made beside these very files.

    `sha256s` are the manifest's, by name. Bundles of before sealed their reports as well.
    """
    content = _read(directory)
    now = _seal(facts, {name: one for name, one in sha256s.items() if name != FILE})
    for name in sorted({*content["seal"], *now} - unsealed_reports(directory)):
        if content["seal"].get(name) != now.get(name):
            raise ProbeError(f"{name} is not what {FILE} was made beside")


def unsealed_reports(directory: Path) -> frozenset[str]:
    """Return the files of which the probes say nothing. Raises ProbeError."""
    return NOT_CONTENT - frozenset(_read(directory)["seal"])


def check_answers(directory: Path, facts: Mapping[str, Any]) -> None:
    """Raise ProbeError unless the bundle answers every probe as it did, by either scorer.

    Opens Annoy and LightGBM, which may crash: call it in a process that may.
    """
    mesh, model = _open(directory, facts)
    probes = _read(directory)["probes"]
    wanted = min(USERS, len(mesh.tables.histories.user_keys))
    if len(probes) != wanted:
        raise ProbeError(f"{FILE} holds {len(probes)} probes, not {wanted}")
    for probe in probes:
        found = _ask(mesh, model, int(probe["user_key"]))
        for who, answer in found.items():
            fault = _difference(probe["answers"][who], answer)
            if fault:
                raise ProbeError(
                    f"{FILE}: {who} answers user {probe['user_key']} otherwise: {fault}"
                )


def _open(directory: Path, facts: Mapping[str, Any]) -> tuple[OfflineMesh, ScoringModel]:
    mesh = OfflineMesh.open(directory, BundleFacts.from_json(facts))
    lightgbm = LightgbmModel.open(directory, feature_names())
    if not has_forest(directory):
        return mesh, lightgbm
    return mesh, _Agreed(ForestModel.open(directory), lightgbm)


def _ask(mesh: OfflineMesh, model: ScoringModel, user_key: int) -> Answers:
    history = mesh.history(user_key)
    answers = mesh.ask_sources(history)
    candidates = mesh.candidates(history, answers).head(RANKED_LENGTH)
    ranked = rank(ranking_query(candidates, history), mesh.item_tables(), model)
    lists = {
        one.source: _scored(mesh, one.rows[:LIST_LENGTH], one.scores.tolist()) for one in answers
    }
    return {**lists, "ranker": _scored(mesh, candidates.rows, ranked.tolist())}


def _scored(mesh: OfflineMesh, rows: Rows, scores: Iterable[float]) -> list[dict[str, Any]]:
    return [
        {"id": mesh.tables.texts.item_id(row), "score": score}
        for row, score in zip(rows.tolist(), scores, strict=False)
    ]


def _difference(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """Return how two answers differ; empty when they do not."""
    if len(expected) != len(found):
        return f"{len(found)} items, not {len(expected)}"
    scores = {one["id"]: one["score"] for one in found}
    greatest = max((abs(one["score"]) for one in expected), default=0.0)
    same = sum(
        abs(scores.get(one["id"], np.inf) - one["score"]) <= MAX_SCORE_ERROR * greatest
        for one in expected
    )
    if same < MIN_SAME * len(expected):
        return f"{same} of {len(expected)} items come back with their scores"
    return ""


def _read(directory: Path) -> Mapping[str, Any]:
    try:
        text = (directory / FILE).read_text()
        content = json.loads(text)
        digest = content.pop("sha256")
        is_whole = text == _canonical({**content, "sha256": _digest(content)})
    except FileNotFoundError as exc:
        raise ProbeError(f"{FILE} is missing") from exc
    except (ValueError, KeyError, AttributeError, TypeError) as exc:
        raise ProbeError(f"{FILE} cannot be read: {exc}") from exc
    if not is_whole or digest != _digest(content):
        raise ProbeError(f"{FILE} is not what its own sum says")
    if content.get("format") != FORMAT:
        raise ProbeError(f"{FILE} has format {content.get('format')!r}, not {FORMAT}")
    return dict(content)


def _seal(facts: Mapping[str, Any], sha256s: Mapping[str, str]) -> dict[str, str]:
    return {**sha256s, "facts": _digest(facts)}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n"
