"""The built wheel, used from outside the tree: the grammar, the library and the explanations travel
with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's files, and no path to the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True, timeout=600
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True, timeout=600
    )
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def nldsl(folder: Path, *arguments: str) -> str:
    where = {**os.environ, "PYTHONPATH": str(folder / "site"), "PYTHONSAFEPATH": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "nldsl", *arguments],
        cwd=folder,
        env=where,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.soak
def test_the_wheel_holds_what_is_read_at_run_time(installed: Path) -> None:
    """The library, starters, explanations and pages of the package, and the grammar."""
    (wheel,) = installed.glob("*.whl")
    held = set(ZipFile(wheel).namelist())
    read = {
        path.relative_to(ROOT)
        for path in (ROOT / "nldsl").rglob("*.*")
        if "__pycache__" not in path.parts
    } | {Path("nldsl") / path.relative_to(ROOT) for path in (ROOT / "grammar").glob("*.*")}
    assert {path.suffix for path in read} >= {".nl", ".md", ".lark", ".css", ".js", ".py"}
    assert {str(path) for path in read} <= held


@pytest.mark.soak
def test_the_wheel_is_complete(installed: Path) -> None:
    import_path = subprocess.run(
        [sys.executable, "-c", "import nldsl; print(nldsl.__file__)"],
        cwd=installed,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(installed / "site"), "PYTHONSAFEPATH": "1"},
    ).stdout
    assert Path(import_path.strip()).is_relative_to(installed / "site")
    assert "accepted" in nldsl(installed, "check", "examples/hope.nl")
    assert "N610" in nldsl(installed, "explain", "N610")
    assert "level" in nldsl(installed, "fmt", "examples/titans.nl")
    assert "written" in nldsl(installed, "new", "first.nl")
    assert "accepted" in nldsl(installed, "check", "first.nl")
    assert "color-scheme" in nldsl(installed, "graph", "first.nl", "--as", "html")
    assert list((installed / "site").glob("nldsl-*.dist-info/**/LICENSE"))


@pytest.mark.soak
def test_the_wheel_compiles_and_trains(installed: Path) -> None:
    small = ["--set", "d=16", "--set", "depth=1", "--set", "head=2"]
    assert "Memories that learn" in nldsl(
        installed, "compile", "examples/titans.nl", *small, "--length", "64", "--capture", "eager"
    )
    nldsl(
        installed,
        "train",
        "examples/titans.nl",
        *small,
        "--steps",
        "2",
        "--length",
        "64",
        "--capture",
        "eager",
        "--out",
        "runs/first",
    )
    assert (installed / "runs" / "first" / "run.json").exists()
