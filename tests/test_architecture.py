"""The shape of the repository: what `ls` promises is true."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVICES = ("candidates", "ranker", "gateway")
SERVICE_FILES = {
    "README.md",
    "__init__.py",
    "__main__.py",
    "adapters",
    "config.py",
    "domain",
    "servicer.py",
    "wiring.py",
}
MAX_MAIN_LINES = 30
MAX_FUNCTION_LINES = 60


def python_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"],  # noqa: S607 - the checkout's own git
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [ROOT / name for name in listed if not name.startswith("gen/")]


def imports_of(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
    return modules


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_files(service: str) -> None:
    found = {path.name for path in (ROOT / "services" / service).iterdir()} - {"__pycache__"}

    assert found == SERVICE_FILES


@pytest.mark.parametrize("service", SERVICES)
def test_main_only_reads_the_config_and_serves(service: str) -> None:
    lines = (ROOT / "services" / service / "__main__.py").read_text().splitlines()

    assert len(lines) <= MAX_MAIN_LINES


@pytest.mark.parametrize("service", SERVICES)
def test_only_the_wiring_names_concrete_adapters(service: str) -> None:
    adapters = f"services.{service}.adapters"
    folder = ROOT / "services" / service

    naming = {
        path.name
        for path in folder.glob("*.py")
        if any(module.startswith(adapters) for module in imports_of(path))
    }

    assert naming == {"wiring.py"}


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]

    assert long == []


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]

    assert silent == []


def test_links_between_documents_lead_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in ROOT.rglob("*.md")
        if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]

    assert dead == []
