"""A bundle is tried once, by one of the processes that share a directory."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from meshkit.bundles import MANIFEST, Bundle, BundleError
from meshkit.probation import Verdict
from meshkit.verifier import REFUSAL_LASTS_S, Verifier

SOUND = Verdict(is_sound=True, reason="")
BROKEN = Verdict(is_sound=False, reason="annoy.index crashed with SIGSEGV")


@dataclass(slots=True)
class Trial:
    """Gives one verdict and counts."""

    verdict: Verdict
    times: int = 0

    def __call__(self, _bundle: Bundle) -> Verdict:
        self.times += 1
        return self.verdict


@dataclass(slots=True)
class Machine:
    """Processes that share a directory of verdicts."""

    directory: Path
    trial: Trial
    verifiers: list[Verifier] = field(default_factory=list)

    def process(self) -> Verifier:
        return Verifier(self.trial, self.directory)

    def age_verdicts(self, seconds: float) -> None:
        for path in self.directory.glob("*.json"):
            written_s = path.stat().st_mtime - seconds
            os.utime(path, (written_s, written_s))


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[Verdict], Machine]:
    return lambda verdict: Machine(tmp_path / "verdicts", Trial(verdict))


def test_a_sound_bundle_is_tried_once_by_a_process(small_bundle: Bundle) -> None:
    trial = Trial(SOUND)
    verifier = Verifier(trial)

    verifier.require_sound(small_bundle)
    verifier.require_sound(small_bundle)

    assert trial.times == 1


def test_a_broken_bundle_is_refused_with_its_reason_each_time(small_bundle: Bundle) -> None:
    verifier = Verifier(Trial(BROKEN))

    for _ in range(2):
        with pytest.raises(BundleError, match=f"{small_bundle.version}.*SIGSEGV"):
            verifier.require_sound(small_bundle)


def test_processes_that_start_together_hold_one_trial(
    machine: Callable[[Verdict], Machine], small_bundle: Bundle
) -> None:
    shared = machine(SOUND)
    processes = [shared.process() for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: each.require_sound(small_bundle), processes))

    assert shared.trial.times == 1


def test_a_refusal_is_shared_as_well(
    machine: Callable[[Verdict], Machine], small_bundle: Bundle
) -> None:
    shared = machine(BROKEN)

    for _ in range(2):
        with pytest.raises(BundleError, match="SIGSEGV"):
            shared.process().require_sound(small_bundle)

    assert shared.trial.times == 1


def test_an_old_refusal_is_tried_again_and_an_old_acceptance_is_not(
    machine: Callable[[Verdict], Machine], small_bundle: Bundle
) -> None:
    shared = machine(BROKEN)
    with pytest.raises(BundleError):
        shared.process().require_sound(small_bundle)
    shared.age_verdicts(REFUSAL_LASTS_S + 1)
    shared.trial.verdict = SOUND

    shared.process().require_sound(small_bundle)
    shared.age_verdicts(REFUSAL_LASTS_S + 1)
    shared.process().require_sound(small_bundle)

    assert shared.trial.times == 2


def test_a_verdict_does_not_hold_for_another_manifest(
    machine: Callable[[Verdict], Machine], small_bundle: Bundle, tmp_path: Path
) -> None:
    shared = machine(SOUND)
    shared.process().require_sound(small_bundle)
    (tmp_path / MANIFEST).write_bytes((small_bundle.path / MANIFEST).read_bytes() + b"\n")

    shared.process().require_sound(Bundle(tmp_path, small_bundle.manifest))

    assert shared.trial.times == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"sound": 1}'])
def test_a_damaged_verdict_is_no_verdict(
    machine: Callable[[Verdict], Machine], small_bundle: Bundle, damage: str
) -> None:
    shared = machine(SOUND)
    shared.process().require_sound(small_bundle)
    (verdict,) = shared.directory.glob("*.json")
    verdict.write_text(damage)

    shared.process().require_sound(small_bundle)

    assert shared.trial.times == 2
