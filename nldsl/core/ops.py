"""The operators of the core, in reading order."""

from __future__ import annotations

# op -> (number of array arguments or None for any, attributes). The law table: `check_node`
# verifies it after every stage.
#   Leaves of time
OPS: dict[str, tuple[int | None, tuple[str, ...]]] = {
    "const": (0, ("value",)),  # a number, or a nested tuple of numbers with the node's shape
    "input": (0, ("name",)),  # a stream of the data; rate token
    "weight": (0, ("name",)),  # a parameter slot: a plain read of its owner
    "plain": (
        0,
        ("memory",),
    ),  # in an objective: what plain reads of M inside its level see; bound by `grad`
    "read": (0, ("memory",)),  # M before this instant's tick (held since its last tick)
    "now": (0, ("memory",)),  # M after this instant's tick
    "held": (
        0,
        ("memory", "clock"),
    ),  # M at the last tick of clock strictly before now; start before the first or after a reset
    "held_stream": (1, ("clock",)),  # a stream at the last tick of clock strictly before now
    "tick": (0, ("level",)),  # ticks of the level since its reset, this one included
    "ticks": (0, ("level",)),  # ticks planned for the run
    "eye": (0, ()),  # identity of shape (n, n)
    "random": (
        0,
        ("name", "scale"),
    ),  # a start drawn from the seed and `name`; normal with std `scale`
    "load": (0, ("file", "key")),  # a start read from a checkpoint
    # Trees
    "leaf": (1, ("path",)),  # one leaf of a tree
    "tree": (None, ()),  # args in the order of type.leaves
    "total": (1, ("keep",)),  # sum over all leaves and all axes but the first `keep` of each
    # Elementwise; arrays of one shape, or () with anything, or a tree with a tree, or a tree with
    # an array that is a prefix of every leaf
    **{op: (2, ()) for op in ("add", "sub", "mul", "div", "pow", "max", "min", "le", "ge", "eq")},
    **{
        op: (1, ())
        for op in (
            "neg",
            "exp",
            "log",
            "sqrt",
            "abs",
            "sign",
            "tanh",
            "sigmoid",
            "silu",
            "gelu",
            "softplus",
            "cos",
            "floor",
        )
    },
    "where": (3, ()),
    # Axes
    "spread": (
        1,
        ("dims",),
    ),  # axis i of the argument becomes axis dims[i] of the result; the others are broadcast
    "permute": (1, ("dims",)),
    "reshape": (1, ()),
    "einsum": (
        2,
        ("eq",),
    ),  # letters per axis, "hij,hj->hi"; sums letters missing on the right; no letter twice in one operand
    "sum": (1, ("dims",)),
    "mean": (1, ("dims",)),
    "amax": (1, ("dims",)),
    "softmax": (1, ("dim",)),
    "select": (1, ("dim", "index")),
    "stack": (None, ("dim",)),
    "join": (None, ("dim",)),
    "solve": (2, ()),  # (B [.., m, n], A [.., n, n]) -> B A^-1; A is positive definite
    "diag": (1, ()),  # [.., n] -> [.., n, n]
    "gather": (2, ()),  # (table [vocab, ..], ids []) -> [..]
    "cross_entropy": (2, ()),  # (logits [.., vocab], ids []) -> [..]
    # Time
    "conv": (
        2,
        (),
    ),  # (x [i], K [n, i]): y_t = sum_j K[n-1-j] x_{t-j}; causal, x is 0 before the sequence
    "rope": (
        1,
        ("base",),
    ),  # position = tokens before this one in the sequence; rotates halves of the last axis
    "attend": (
        None,
        ("groups", "scale"),
    ),  # q, k1, v1, ..; see `attend` in desugar.py. groups: (k_eq, v_eq, span) per pair
    "ahead": (1, ()),  # one token later; absent at a sequence's last token
    "fold": (
        1,
        ("how", "since"),
    ),  # sum | mean over the instants since the last tick of `since` (a Clock, or a level's name: `period`)
    "window": (1, ("how", "length")),  # sum | mean over the last `length` tokens, this one included
    # Gradients
    "grad": (
        2,
        ("memory", "context"),
    ),  # (J, P): derivative of sum(J) in the plain reads of `memory` at P; `context`: tuple of nodes held constant
    "grad_stream": (
        2,
        (),
    ),  # (e, y): derivative of stream e in stream y at this instant, all else held
    "stop": (1, ()),  # derivative zero for every learner
    # Of a schedule alone
    "ended": (
        None,
        ("clocks",),
    ),  # (value, a stream for each of `clocks`): the value; the streams are 1 where documents end for these clocks
    "replay": (
        None,
        ("how", "since", "names"),
    ),  # (term, value of each `plain` of names): a fold or window whose terms see these memories
}
ELEMENTWISE = frozenset(
    op
    for op in OPS
    if op
    in "add sub mul div pow max min le ge eq neg exp log sqrt abs sign tanh sigmoid silu gelu "
    "softplus cos floor where".split()
)
