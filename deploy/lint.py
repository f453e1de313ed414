"""Check the files of deploy/ by their published schemas: `python deploy/lint.py`.

The Dockerfile by hadolint, docker-compose.yml by compose-spec, manifests by kubernetes-validate,
all of the same Python; Prometheus' configuration and alerts, with their tests, by promtool where
there is one.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # it publishes no types
from compose_spec import PyCompose

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
COMPOSE = ROOT / "deploy" / "compose"
MANIFESTS = sorted(
    path for path in (ROOT / "deploy" / "k8s").glob("*.yaml") if path.stem != "kustomization"
)


def main() -> int:
    """Run every check, also after one that failed; return how many did."""
    failures = [
        _fails(BIN / "hadolint", "Dockerfile"),
        _compose_fails(ROOT / "docker-compose.yml"),
        _fails(BIN / "kubernetes-validate", "--strict", "--quiet", *map(str, MANIFESTS)),
    ]
    promtool = shutil.which("promtool")
    if promtool is None:
        print("promtool is not installed: alerts are not checked")
    else:
        failures += [
            _fails(Path(promtool), "check", "config", "prometheus.yaml", directory=COMPOSE),
            _fails(Path(promtool), "test", "rules", "alerts.test.yaml", directory=COMPOSE),
        ]
    return sum(failures)


def _fails(program: Path, *arguments: str, directory: Path = ROOT) -> bool:
    run = subprocess.run(  # noqa: S603  our own tools
        [str(program), *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    if run.returncode:
        print(f"{program.name} {' '.join(arguments)}:\n{run.stdout}{run.stderr}")
    return run.returncode != 0


def _compose_fails(path: Path) -> bool:
    """Check a compose file against the specification, with merge keys and variables resolved."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", path.read_text())
    try:
        PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))
    except ValueError as error:
        print(f"{path.name}: {error}")
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
