"""mypy, in strict mode, finds no error in the package and its benchmarks."""

from __future__ import annotations

from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[1]


def test_types_agree() -> None:
    """mypy, strict: `[tool.mypy]` in pyproject.toml says of what."""
    config, cache = ROOT / "pyproject.toml", ROOT / ".mypy_cache"
    found, failed, _ = api.run(
        [
            "--config-file",
            str(config),
            "--cache-dir",
            str(cache),
            *map(str, (ROOT / "nldsl", ROOT / "benchmarks")),
        ]
    )
    assert not failed and "no issues found" in found, found or failed
