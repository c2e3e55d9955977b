"""Packages that only some commands need: the extras of this project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nldsl.diagnostic import Diagnostic, Diagnostics


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around an import of what an extra brings. Raises Diagnostics (N890) where it is not there; an
    error about a module of this project stays as it is.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package in ("", "nldsl"):
            raise
        raise Diagnostics(
            [
                Diagnostic(
                    "N890",
                    f"this needs the package `{package}`, which is not installed",
                    help=f"install it: pip install 'nldsl[{extra}]'",
                )
            ]
        ) from None
