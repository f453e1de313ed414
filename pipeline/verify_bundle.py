"""Verify a bundle before it serves: `python -m pipeline.verify_bundle PATH`.

Sizes and hashes are the store's to check; here the bundle is asked whether what was hashed makes
sense. First everything that reads bytes, then what opens Annoy and LightGBM, which a bad file
crashes: so `verify` runs all of it on probation, and each check says on stderr what it is about to
do, which is what is known of a crash.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from meshkit.bundles import MANIFEST, BundleError, Manifest, read_manifest
from meshkit.bundles.manifest import content_sha256
from meshkit.probation import MEMORY_LIMIT_BYTES, TIME_LIMIT_S, Verdict, on_probation
from pipeline.array_checks import ARRAY_CHECKS, check_facts, check_shapes
from pipeline.bundle_report import REPORT_FILE, check_report
from pipeline.forest_files import check_forest
from pipeline.probes import FILE as PROBES_FILE
from pipeline.probes import check_answers, check_seal, unsealed_reports
from pipeline.tables import Tables
from services.candidates.adapters.annoy_check import check_annoy_answers, check_annoy_structure
from services.candidates.adapters.annoy_index import FILE as ANNOY_FILE
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from services.ranker.adapters.model_text_check import check_model_file
from services.ranker.domain.features import feature_names
from signals.bundle_facts import BundleFacts

MODULE = "pipeline.verify_bundle"
MEMORY_PER_BYTE = 4
"""Address space that a bundle may ask for, per byte of its files: they are mapped and counted."""
LEAST_BYTES_PER_S = 20e6
"""What a bundle is verified at on a busy machine; 40 MB take 2 s on an idle one."""

_FILE_NAME = re.compile(r"\.(index|json|npy|txt)\b|facts")


def verify(path: Path, *, time_limit_s: float | None = None) -> Verdict:
    """Verify the bundle in `path` in a child process; a crash or a hang is a verdict.

    Without `time_limit_s` it gets `TIME_LIMIT_S`, and more for a large bundle.
    """
    size = sum(file.stat().st_size for file in path.glob("*") if file.is_file())
    return on_probation(
        MODULE,
        [str(path)],
        time_limit_s=time_limit_s or TIME_LIMIT_S + size / LEAST_BYTES_PER_S,
        memory_limit_bytes=MEMORY_LIMIT_BYTES + MEMORY_PER_BYTE * size,
    )


def check_bundle(path: Path, say: Callable[[str], None]) -> None:
    """Verify the bundle in this process, and `say` what comes next.

    Raises BundleError, OSError and ValueError naming the file, and may crash or hang on a bad one.
    """

    def step(subject: str) -> AbstractContextManager[None]:
        say(f"checking {subject}")
        return _naming(subject)

    with step(MANIFEST):
        manifest = read_manifest(path)
        _check_content(manifest)
    with step("facts"):
        facts = BundleFacts.from_json(manifest.facts)
        check_facts(facts)
    with step("arrays"):
        tables = Tables.open(path, facts)
        check_shapes(path, tables)
    for check in ARRAY_CHECKS:
        with step(check.subject):
            check.run(tables)
    with step(f"{ANNOY_FILE}: its nodes"):
        check_annoy_structure(path, tables.embedding.vectors)
    with step(f"{MODEL_FILE}: its trees"):
        check_model_file(path, feature_names())
    with step("Forest.*.npy: the same trees"):
        check_forest(path)
    with step(f"{PROBES_FILE}: its seal"):
        sha256s = {name: entry.sha256 for name, entry in manifest.files.items()}
        check_seal(path, manifest.facts, sha256s)
    with step(f"{REPORT_FILE}: its sum"):
        check_report(path, needs_sum=REPORT_FILE in unsealed_reports(path))
    with step(f"{ANNOY_FILE}: what it finds"):
        check_annoy_answers(path, tables.embedding.vectors)
    with step(f"{PROBES_FILE}: its answers"):
        check_answers(path, manifest.facts)


@contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Turn a failure that names no file, as numpy's own, into one that says what was checked."""
    try:
        yield
    except Exception as exc:
        if isinstance(exc, BundleError | OSError | ValueError) and _FILE_NAME.search(str(exc)):
            raise
        raise ValueError(f"{subject}: {type(exc).__name__}: {exc}") from exc


def _check_content(manifest: Manifest) -> None:
    if content_sha256(manifest.files, manifest.facts) != manifest.content_sha256:
        raise ValueError(f"{MANIFEST}: content_sha256 is not that of its files and facts")


def main() -> None:
    """Verify the bundle whose path is the only argument; say why not and end with status 1."""
    try:
        check_bundle(Path(sys.argv[1]), lambda line: print(line, file=sys.stderr, flush=True))
    except (BundleError, OSError, ValueError) as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
