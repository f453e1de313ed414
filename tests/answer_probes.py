"""Ask a bundle its probes without any look at its structure, as a reader that trusts it would."""

import sys
from pathlib import Path

from meshkit.bundles import read_manifest
from pipeline.probes import check_answers

if __name__ == "__main__":
    path = Path(sys.argv[1])
    check_answers(path, read_manifest(path).facts)
