"""The tasks, in the order of the runs. Each file draws the sequences of its tasks from their laws.

task.py       what a task is
text.py       bytes of text, drawn or read on in
recall.py     MQAR, and the needle in a haystack
formal.py     six formal languages
continual.py  classes and domains that come one after another
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.learning.scales import Scale
from benchmarks.learning.tasks import continual, formal, recall, text
from benchmarks.learning.tasks.task import Task


def tasks(scale: Scale, path: Path | None = None) -> list[Task]:
    """At a scale; the text is that of a file, or of Python's own library."""
    return [
        text.task(scale, path),
        recall.mqar(scale),
        continual.classes(scale),
        continual.classes(scale, replay=True),
        continual.domains(scale),
        *(formal.task(language, scale) for language in formal.LANGUAGES),
        recall.needle(scale),
        text.carried(scale, path),
    ]
