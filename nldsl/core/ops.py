"""THE OPERATORS: one row each, by kinds, in reading order.

    leaves     const input weight read now held ..     trees       leaf tree total
    entrywise  add mul where neg ..                    functions   exp tanh silu ..
    axes       spread permute select stack ..          sums        einsum sum softmax solve ..
    by index   gather cross_entropy                    time        conv rope attend ahead fold ..
    gradients  grad grad_stream stop                   schedule    ended replay when constant_for

A row holds everything about an operator but its meaning on numbers in time, which the interpreter
defines apart (oracle/operators.py): name, description, arguments, attributes, type law, constant
folding, simplification, derivative, sign, torch code (`Op` in build.py describes each field). Laws,
simplifications and derivatives of more than a line are functions of shapes.py, simplify.py and
derivatives.py. A new elementwise operator is a row here and a line there.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import replace

from nldsl.core import derivatives, shapes, simplify
from nldsl.core.build import Op
from nldsl.core.derivatives import slopes
from nldsl.core.nodes import Node


def comparison(name: str, sign: str, holds: Callable[[float, float], bool]) -> Op:
    """The row of a test, which is 1 or 0."""
    return Op(
        name,
        f"1 where a {sign} b, 0 elsewhere",
        2,
        fold=lambda a, b: float(holds(a, b)),
        vjp=derivatives.zero,
        active=(),
        sign="nonnegative",
        text=f"{{0}} {sign} {{1}}",
        test=True,
    )


# what is there at an instant without being computed
LEAVES = (
    Op(
        "const",
        "a number, or a nested tuple of numbers with the node's shape",
        0,
        ("value",),
        shapes.constant,
    ),
    Op("input", "a stream of the data; what one instant gives", 0, ("name",)),
    Op("weight", "a parameter slot: a plain read of its owner", 0, ("name",), shapes.array),
    Op(
        "plain",
        "in an objective: what plain reads of M inside its level see; bound by `grad`",
        0,
        ("memory",),
    ),
    Op("read", "M before this instant's tick (held since its last tick)", 0, ("memory",)),
    Op("now", "M after this instant's tick", 0, ("memory",)),
    Op(
        "held",
        "M at the last tick of clock strictly before now; start before the first or after a reset",
        0,
        ("memory", "clock"),
    ),
    Op(
        "held_stream",
        "a stream at the last tick of clock strictly before now",
        1,
        ("clock",),
        shapes.same,
    ),
    Op(
        "tick",
        "ticks of the level since its reset, this one included",
        0,
        ("level",),
        shapes.number,
    ),
    Op("ticks", "ticks planned for the run", 0, ("level",), shapes.number),
    Op("eye", "identity of shape (n, n)", 0, law=shapes.eye),
    Op(
        "random",
        "a start drawn from the seed and `name`; normal with std `scale`",
        0,
        ("name", "scale"),
        shapes.array,
    ),
    Op("load", "a start read from a checkpoint", 0, ("file", "key")),
)

# the weights of a definition, as one value
TREES = (
    Op("leaf", "one leaf of a tree", 1, ("path",), shapes.leaf, vjp=derivatives.leaf),
    Op("tree", "args in the order of type.leaves", None, (), shapes.tree, vjp=derivatives.tree),
    Op(
        "total",
        "sum over all leaves and all axes but the first `keep` of each",
        1,
        ("keep",),
        shapes.total,
        remake=lambda build, node, args: build.total(args[0], node["keep"], node.type),
        vjp=derivatives.total,
    ),
)

# on each entry: of arrays of one shape, or () with anything, or a tree with a tree, or a tree with
# an array that is a prefix of every leaf
ELEMENTWISE = (
    Op(
        "add",
        "a + b",
        2,
        fold=lambda a, b: a + b,
        simplify=simplify.add,
        vjp=slopes(lambda y, a, b: (1, 1)),
        text="{0} + {1}",
    ),
    Op(
        "sub",
        "a - b",
        2,
        fold=lambda a, b: a - b,
        simplify=simplify.sub,
        vjp=slopes(lambda y, a, b: (1, -1)),
        text="{0} - {1}",
    ),
    Op(
        "mul",
        "a * b",
        2,
        fold=lambda a, b: a * b,
        simplify=simplify.mul,
        vjp=slopes(lambda y, a, b: (b, a)),
        text="{0} * {1}",
    ),
    Op(
        "div",
        "a / b",
        2,
        fold=lambda a, b: a / b,
        simplify=simplify.div,
        vjp=derivatives.divided,
        text="{0} / {1}",
        safe=(1, 1.0),
    ),
    Op(
        "pow",
        "a to the power b; of a fraction, the root has derivative 0 at 0",
        2,
        fold=lambda a, b: a**b,
        simplify=simplify.pow,
        vjp=derivatives.power,
        text="{0} ** {1}",
        safe=(0, 1.0),
    ),
    Op("max", "the larger; at a tie the first learns", 2, fold=max, vjp=derivatives.pick("ge")),
    Op("min", "the smaller; at a tie the first learns", 2, fold=min, vjp=derivatives.pick("le")),
    comparison("le", "<=", operator.le),
    comparison("ge", ">=", operator.ge),
    comparison("eq", "==", operator.eq),
    Op(
        "where",
        "a where the test is not 0, else b",
        3,
        fold=lambda test, a, b: a if test else b,
        simplify=simplify.where,
        vjp=derivatives.where,
        active=(1, 2),
    ),
    Op(
        "neg",
        "-x",
        1,
        fold=lambda x: -x,
        simplify=simplify.neg,
        vjp=slopes(lambda y, x: -1),
        text="-{0}",
    ),
)

# elementwise too, and called by their names in a text
FUNCTIONS = (
    Op(
        "exp",
        "e to the power x",
        1,
        fold=math.exp,
        vjp=slopes(lambda y, x: y),
        sign="positive",
        text="torch.exp({0})",
        safe=(0, 0.0),
    ),
    Op(
        "log",
        "the natural logarithm",
        1,
        fold=math.log,
        vjp=derivatives.logarithm,
        text="torch.log({0})",
        safe=(0, 1.0),
    ),
    Op(
        "sqrt",
        "the root; its derivative at 0 is 0",
        1,
        fold=math.sqrt,
        vjp=derivatives.square_root,
        sign="nonnegative",
        text="torch.sqrt({0})",
        safe=(0, 1.0),
    ),
    Op(
        "abs",
        "|x|",
        1,
        fold=abs,
        vjp=slopes(lambda y, x: x.sign()),
        sign="nonnegative",
        text="torch.abs({0})",
    ),
    Op(
        "sign",
        "-1, 0 or 1",
        1,
        fold=lambda x: float((x > 0) - (x < 0)),
        vjp=derivatives.zero,
        active=(),
        text="torch.sign({0})",
    ),
    Op(
        "tanh",
        "the hyperbolic tangent",
        1,
        fold=math.tanh,
        vjp=slopes(lambda y, x: 1 - y * y),
        text="torch.tanh({0})",
    ),
    Op(
        "sigmoid",
        "1 / (1 + exp(-x))",
        1,
        fold=lambda x: 1 / (1 + math.exp(-x)),
        vjp=slopes(lambda y, x: y * (1 - y)),
        sign="positive",
        text="torch.sigmoid({0})",
    ),
    Op(
        "silu",
        "x sigmoid(x)",
        1,
        fold=lambda x: x / (1 + math.exp(-x)),
        vjp=slopes(derivatives.silu),
        text="F.silu({0})",
    ),
    Op(
        "gelu",
        "x times the normal distribution, by tanh (1606.08415v5, sec. 2)",
        1,
        fold=lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
        vjp=slopes(derivatives.gelu),
        text="F.gelu({0}, approximate='tanh')",
    ),
    Op(
        "softplus",
        "log(1 + exp(x))",
        1,
        fold=lambda x: math.log1p(math.exp(x)),
        vjp=slopes(lambda y, x: x.sigmoid()),
        sign="positive",
        text="F.softplus({0})",
    ),
    Op(
        "cos",
        "of an angle in radians",
        1,
        fold=math.cos,
        vjp=slopes(lambda y, x: (x + math.pi / 2).cos()),
        text="torch.cos({0})",
    ),
    Op(
        "floor",
        "the largest whole number that is not larger",
        1,
        fold=math.floor,
        vjp=derivatives.zero,
        active=(),
        text="torch.floor({0})",
    ),
)

# the same entries, in other axes
AXES = (
    Op(
        "spread",
        "axis i of the argument becomes axis dims[i] of the result; the others are broadcast",
        1,
        ("dims",),
        shapes.spread,
        remake=lambda build, node, args: build.spread(args[0], node.type, node["dims"]),
        vjp=derivatives.spread,
    ),
    Op(
        "permute",
        "axis i of the result is axis dims[i] of the argument",
        1,
        ("dims",),
        shapes.permute,
        remake=lambda build, node, args: build.permute(args[0], node["dims"]),
        vjp=derivatives.permute,
    ),
    Op(
        "reshape",
        "the same entries, in their order, in other axes",
        1,
        law=shapes.reshape,
        remake=lambda build, node, args: build.reshape(args[0], node.type),
        vjp=derivatives.reshape,
    ),
    Op(
        "select", "one place of an axis", 1, ("dim", "index"), shapes.select, vjp=derivatives.select
    ),
    Op("stack", "along a new axis `dim`", None, ("dim",), shapes.stack, vjp=derivatives.stack),
    Op(
        "join",
        "one behind the other along `dim`",
        None,
        ("dim",),
        shapes.join,
        vjp=derivatives.join,
    ),
    Op("diag", "[.., n] -> [.., n, n]", 1, law=shapes.diag, vjp=derivatives.diag),
)

# sums and products over axes
SUMS = (
    Op(
        "einsum",
        'letters per axis, "hij,hj->hi"; sums letters missing on the right; no letter twice in one '
        "operand",
        2,
        ("eq",),
        shapes.einsum,
        remake=lambda build, node, args: build.einsum(node["eq"], *args),
        vjp=derivatives.einsum,
    ),
    Op(
        "sum",
        "over the axes `dims`",
        1,
        ("dims",),
        shapes.reduced,
        remake=lambda build, node, args: build.sum(args[0], node["dims"]),
        vjp=derivatives.summed,
    ),
    Op("mean", "over the axes `dims`", 1, ("dims",), shapes.reduced, vjp=derivatives.averaged),
    Op("amax", "the largest over the axes `dims`", 1, ("dims",), shapes.reduced),
    Op(
        "softmax",
        "exp(x) over its sum along `dim`",
        1,
        ("dim",),
        shapes.same,
        vjp=derivatives.softmax,
        sign="positive",
    ),
    Op(
        "solve",
        "(B [.., m, n], A [.., n, n]) -> B A^-1; A is positive definite",
        2,
        law=shapes.solve,
    ),
)

# one place of an axis, said by a stream of whole numbers
BY_INDEX = (
    Op(
        "gather",
        "(table [vocab, ..], ids []) -> [..]",
        2,
        law=shapes.gather,
        vjp=derivatives.gather,
        active=(0,),
    ),
    Op(
        "cross_entropy",
        "(logits [.., vocab], ids []) -> [..]",
        2,
        law=shapes.cross_entropy,
        vjp=derivatives.cross_entropy,
        active=(0,),
    ),
)

# what looks at other tokens
TIME = (
    Op(
        "conv",
        "(x [i], K [n, i]): y_t = sum_j K[n-1-j] x_{t-j}; causal, x is 0 before the sequence",
        2,
        law=shapes.conv,
    ),
    Op(
        "rope",
        "position = tokens before this one in the sequence; rotates halves of the last axis, or of "
        "its first `part` entries",
        1,
        ("base", "part"),
        shapes.same,
    ),
    Op(
        "attend",
        "q, k1, v1, ..; groups: (k_eq, v_eq, span) per pair, the einsums of the scores and of what "
        "they weigh, and how far back",
        None,
        ("groups", "scale"),
        shapes.attend,
    ),
    Op("ahead", "one token later; absent at a sequence's last token", 1, law=shapes.same),
    Op(
        "fold",
        "sum | mean over the instants since the last tick of `since` (a Clock, or a level's name: "
        "`period`); with an axis more, over the lanes of each worker",
        1,
        ("how", "since"),
        shapes.stretch,
    ),
    Op(
        "window",
        "sum | mean over the last `length` tokens, this one included",
        1,
        ("how", "length"),
        shapes.same,
    ),
)

# derivatives, until the schedule makes equations of them
GRADIENTS = (
    Op(
        "grad",
        "(J, P): derivative of sum(J) in the plain reads of `memory` at P; `context`: tuple of "
        "nodes held constant",
        2,
        ("memory", "context"),
        shapes.gradient,
    ),
    Op(
        "grad_stream",
        "(e, y): derivative of stream e in stream y at this instant, all else held",
        2,
        law=shapes.gradient,
    ),
    Op(
        "stop",
        "derivative zero for every learner",
        1,
        law=shapes.same,
        vjp=derivatives.zero,
        active=(),
    ),
)

# what the schedule adds
OF_A_SCHEDULE = (
    Op(
        "replay",
        "(term, value of each `plain` of names): a fold or window whose terms see these memories",
        None,
        ("how", "since", "names"),
        shapes.terms,
    ),
    Op(
        "when",
        "(a, b): a where the clock ticks, from the token `first` on and not at the last `late` "
        "tokens of a sequence; else b. A third argument is 1 where a clock of documents ticks",
        None,
        ("clock", "first", "late"),
        shapes.when,
    ),
    Op("constant_for", "x, with derivative zero for these learners", 1, ("learners",), shapes.same),
)

OPS: dict[str, Op] = {
    row.name: row
    for row in (
        *LEAVES,
        *TREES,
        *(replace(row, law=shapes.elementwise, elementwise=True) for row in ELEMENTWISE),
        *(
            replace(row, law=shapes.elementwise, elementwise=True, function=True)
            for row in FUNCTIONS
        ),
        *AXES,
        *SUMS,
        *BY_INDEX,
        *TIME,
        *GRADIENTS,
        *OF_A_SCHEDULE,
    )
}


def active(node: Node) -> tuple[Node, ...]:
    """The arguments in which the node has a derivative that is not zero everywhere."""
    places = OPS[node.op].active
    return node.args if places is None else tuple(node.args[i] for i in places)
