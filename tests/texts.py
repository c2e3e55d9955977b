"""Parts that the programs of several tests share: a stream of words, and the level that learns all
weights.
"""

from __future__ import annotations

WORDS = """nldsl 1
import layers, optimizers
dim d = 4, head = 2, e = d / head, vocab = 5
input ids: index(vocab)
x = embed(ids, [d])
"""


def training(context: str = "ids", update: str = "W - 0.1 * grad(W)") -> str:
    """The text of the level; it learns from `loss` at every step."""
    return f"""
level training every step {{
    memory W: weights
    context {context}
    minimize mean(loss over period)
    W <- {update}
}}
"""
