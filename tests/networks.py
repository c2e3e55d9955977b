"""Programs in which a memory of the token clock learns from the loss of the network around it."""

from __future__ import annotations

from texts import training

HEAD = """nldsl 1
import layers, optimizers, associative_optimizers
dim d = 4, vocab = 5
input ids: index(vocab)
"""


TRAINING = training()


NET = """
def net(z: [d]) -> [d] {
    W2 = weight([2 * d, d])
    W1 = weight([d, 2 * d])
    return W1 * silu(W2 * z)
}
"""


def level(
    name: str,
    clock: str,
    update: str,
    bptt: str = "full",
    objective: str = "mean(loss over period)",
    more: str = "",
    memory: str = "net = learned",
) -> str:
    return f"""
    level {name} every {clock} {{
        memory F: {memory}
        context ids
        minimize {objective}
        F <- {update}
        {more}
        bptt {bptt}
    }}"""


def network(body: str, layers: int = 1, head: str = "", learner: str = TRAINING) -> str:
    """`body` makes y from x; `ids` and `loss` are in its scope."""
    return f"""{HEAD}{NET}{head}
def layer(x: [d], ids) -> [d] {{{body}
}}
def model(ids) -> [vocab] {{
    x = embed(ids, [d])
    x <- x + attention(rmsnorm(x), 2, 2, 3)
    for i in range({layers}) {{ x <- layer(x, ids) }}
    return linear(rmsnorm(x), [vocab])
}}
answer = model(ids)
loss = cross_entropy(answer, next(ids))
{learner}"""
