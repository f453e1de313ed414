"""Each leaf in turn killed, stopped, cut off, delayed and talking nonsense, under load."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from meshctl.drills.child import LoadProcess
from meshctl.drills.heartbeat import Stalls
from meshctl.drills.mesh import Served
from meshctl.drills.plans import BYTES_PLAN
from meshctl.drills.records import Record, between
from meshctl.drills.report import Finding
from meshctl.drills.stage import SMALL_REQUESTS, Scenario, Stage, wait_until
from meshctl.drills.verdicts import BUDGET_S, Subject, no_request_failed, no_request_late
from meshctl.faults import Fault, FaultKind
from meshctl.standard_mesh import LEAVES, RANKER

Harm = Literal["killed", "stopped", "black hole", "delayed 0-5 s", "garbage"]
HARMS: tuple[Harm, ...] = ("killed", "stopped", "black hole", "delayed 0-5 s", "garbage")
SMALL_EPISODES: tuple[tuple[str, Harm], ...] = (
    ("similar", "stopped"),
    ("trending", "black hole"),
    (RANKER, "delayed 0-5 s"),
    ("ann", "garbage"),
    (RANKER, "killed"),
)
"""Every harm and every leaf, but not every one with every other."""

_FAULTS = {
    "black hole": Fault(FaultKind.BLACK_HOLE),
    "delayed 0-5 s": Fault(FaultKind.DELAY, delay_s=(0.0, 5.0)),
    "garbage": Fault(FaultKind.GARBAGE),
}

REQUESTS = 3_000
PER_S = 50.0
SMALL_PER_S = 25.0
HARMED_S = 4.0
"""Beyond the 2 s in which a dead peer is noticed, so that both ways of failing are seen."""
SMALL_HARMED_S = 1.5
RECOVERY_S = 5.0
STEADY_S = 1.0
"""Answers must be right for so long to count as recovered."""
RECOVERY_WAIT_S = 30.0
NAMED_SHARE_WHEN_DELAYED = 0.9
"""Some delays are short enough for an answer to come in time."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One fault, from its begin to the recovery; times on the monotonic clock."""

    leaf: str
    harm: Harm
    harmed_s: float
    """The fault was in force."""
    healing_s: float
    """It was still in force; what came later may have met a healed leaf."""
    serving_s: float
    """The leaf was healed and SERVING."""
    steady_s: float
    """The drill turned to the next one."""


def is_named(record: Record, leaf: str) -> bool:
    """Tell whether an answer's coverage says that a leaf had no part in it."""
    if leaf == RANKER:
        return record.ranked_by == "FALLBACK"
    return record.status_of(leaf) not in {"OK", ""}


def run(stage: Stage) -> Sequence[Finding]:
    """Harm, heal, and read what the callers saw."""
    episodes = []
    per_s = SMALL_PER_S if stage.is_small else PER_S
    with stage.heartbeats() as heartbeats:
        with stage.load("leaf-faults", per_s=per_s) as load:
            for leaf, harm in _episodes(stage):
                stage.say(f"{leaf} {harm}")
                episodes.append(_play(stage, load, leaf, harm))
            least = SMALL_REQUESTS if stage.is_small else REQUESTS
            load.await_requests(least)
            records = load.stop()
        stalls = heartbeats.stalls()
    subject = Subject("leaf-faults", f"{len(episodes)} times a leaf harmed, {per_s:g} requests/s")
    return (
        no_request_failed(subject, records, at_least=least),
        no_request_late(subject, records, stalls),
        *(finding for harm in HARMS for finding in _of_harm(harm, episodes, records, stalls)),
    )


def _of_harm(
    harm: Harm, episodes: Sequence[Episode], records: Sequence[Record], stalls: Stalls
) -> Iterator[Finding]:
    of_harm = [episode for episode in episodes if episode.harm == harm]
    if of_harm:
        yield names_the_right_part(of_harm, records)
        yield names_no_other_part(of_harm, records, stalls)
        yield recovers(of_harm, records)


def names_the_right_part(episodes: Sequence[Episode], records: Sequence[Record]) -> Finding:
    """Hold when every answer begun a budget after the harm says which leaf is missing."""
    least = NAMED_SHARE_WHEN_DELAYED if episodes[0].harm == "delayed 0-5 s" else 1.0
    meant = [_meant(episode, records) for episode in episodes]
    shares = [_named_share(*each) for each in zip(episodes, meant, strict=True)]
    return Finding(
        "leaf-faults",
        f"{_leaves(episodes)} {episodes[0].harm}",
        f"coverage names the part within one deadline ({BUDGET_S * 1e3:.0f} ms)",
        f"in {min(shares):.1%} of the answers begun later",
        is_held=min(shares) >= least,
        about="time" if not all(meant) else "state",  # a machine that stood still answered nobody
    )


def names_no_other_part(
    episodes: Sequence[Episode], records: Sequence[Record], stalls: Stalls
) -> Finding:
    """Hold when no other leaf is missing from any answer meanwhile, outside of stalls."""
    others = sum(
        any(is_named(record, leaf) for leaf in LEAVES if leaf != episode.leaf)
        for episode in episodes
        for record in between(records, episode.harmed_s, episode.healing_s)
        if not stalls.overlap(record)
    )
    return Finding(
        "leaf-faults",
        f"{_leaves(episodes)} {episodes[0].harm}",
        "coverage names no other part",
        f"{others} answers did",
        is_held=others == 0,
        about="time",
    )


def recovers(episodes: Sequence[Episode], records: Sequence[Record]) -> Finding:
    """Hold when the leaf takes part again for good within 5 s of being SERVING."""
    slowest_s = max(_recovery_s(episode, records) for episode in episodes)
    return Finding(
        "leaf-faults",
        f"{_leaves(episodes)} {episodes[0].harm}, then healed",
        f"answers whole within {RECOVERY_S:.0f} s of the leaf SERVING",
        f"after at most {slowest_s:.1f} s",
        is_held=slowest_s <= RECOVERY_S,
        about="time" if all(_is_whole_in_the_end(each, records) for each in episodes) else "state",
    )


def _meant(episode: Episode, records: Sequence[Record]) -> Sequence[Record]:
    """Return the answers that cannot have the leaf in them."""
    return [
        record
        for record in between(records, episode.harmed_s + BUDGET_S, episode.healing_s)
        if record.is_answered and record.ended_s < episode.healing_s
    ]


def _named_share(episode: Episode, meant: Sequence[Record]) -> float:
    return sum(is_named(r, episode.leaf) for r in meant) / len(meant) if meant else 0.0


def _recovery_s(episode: Episode, records: Sequence[Record]) -> float:
    """Return when the last answer without the leaf began, in seconds after it served."""
    later = between(records, episode.serving_s, episode.steady_s)
    lacking = [record.began_s for record in later if is_named(record, episode.leaf)]
    if not later:
        return float("inf")
    return max(lacking, default=episode.serving_s) - episode.serving_s


def _is_whole_in_the_end(episode: Episode, records: Sequence[Record]) -> bool:
    """Tell whether the leaf took part again, however late."""
    last = between(records, episode.steady_s - STEADY_S / 2, episode.steady_s)
    return bool(last) and not any(is_named(record, episode.leaf) for record in last)


def _leaves(episodes: Sequence[Episode]) -> str:
    return ", ".join(episode.leaf for episode in episodes)


def _episodes(stage: Stage) -> Sequence[tuple[str, Harm]]:
    if stage.is_small:
        return SMALL_EPISODES
    return [(leaf, harm) for harm in HARMS for leaf in LEAVES]


def _play(stage: Stage, load: LoadProcess, leaf: str, harm: Harm) -> Episode:
    with _harmed(stage, leaf, harm) as served:
        harmed_s = time.monotonic()
        if harm != "killed":  # its supervisor heals that at once
            time.sleep(SMALL_HARMED_S if stage.is_small else HARMED_S)
        healing_s = time.monotonic()
    back = served[0]
    _await_steady(load, leaf, back)
    healed_s = back.not_before_s if harm == "killed" else healing_s
    return Episode(leaf, harm, harmed_s, healed_s, back.at_s, time.monotonic())


def _await_steady(load: LoadProcess, leaf: str, back: Served) -> None:
    def is_steady() -> bool:
        since_s = time.monotonic() - STEADY_S
        lately = [record for record in load.records()[-500:] if record.began_s >= since_s]
        is_whole = bool(lately) and not any(is_named(record, leaf) for record in lately)
        return since_s >= back.at_s and is_whole

    wait_until(is_steady, limit_s=RECOVERY_WAIT_S)


@contextmanager
def _harmed(stage: Stage, leaf: str, harm: Harm) -> Iterator[list[Served]]:
    """Harm a leaf for as long as the block runs; afterwards the list says when it served."""
    name = stage.mesh.workers_of(leaf)[0]
    served: list[Served] = []
    if harm == "killed":
        old = stage.mesh.process(name).identity
        os.kill(old.pid, signal.SIGKILL)
        yield served
        served.append(stage.mesh.await_restart(name, old))
    elif harm == "stopped":
        pid = stage.mesh.process(name).identity.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield served
        finally:
            os.kill(pid, signal.SIGCONT)
        served.append(stage.mesh.await_serving(name))
    else:
        with stage.mesh.faults_of(name).injected(_FAULTS[harm]):
            yield served
        served.append(stage.mesh.await_serving(name))


SCENARIO = Scenario(
    "leaf-faults",
    "each leaf killed, stopped, black-holed, delayed and answering garbage",
    BYTES_PLAN,
    run,
)
