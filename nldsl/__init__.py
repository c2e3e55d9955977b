"""Nested levels of optimization, written down and compiled."""

__version__ = "0.1.0"
