"""Hope, one token at a time, from the equations of arXiv 2512.24695, secs.

7 and 8; nothing is shared with the language.
"""

from __future__ import annotations

import torch
from torch import Tensor

Weights = dict[str, Tensor]
BOXES = ("M_k", "M_v", "M_eta", "M_alpha", "M_mem")


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def rmsnorm(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6)


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def mul(W: Tensor, x: Tensor) -> Tensor:
    return (W @ x[..., None])[..., 0]


def outer(a: Tensor, b: Tensor) -> Tensor:
    return a[..., :, None] * b[..., None, :]


def box(M: tuple[Tensor, Tensor], z: Tensor) -> Tensor:
    return z + mul(M[1], silu(mul(M[0], z)))  # Eq. 89; M = (W_2, W_1)


def conv4(xs: list[Tensor], kernel: Tensor) -> list[Tensor]:
    return [sum(kernel[3 - j] * xs[t - j] for j in range(min(4, t + 1))) for t in range(len(xs))]


def self_modifying(
    xs: list[Tensor], w: Weights, at: str, chunks: dict[str, int], length: int
) -> list[Tensor]:
    def local(name: str) -> list[Tensor]:  # sec. 8.3: convolutions of width 4
        return conv4(
            [torch.einsum("bd,hed->bhe", x, w[f"{at}.{name}.linear"]) for x in xs],
            w[f"{at}.{name}.conv"],
        )

    M = {
        b: tuple(
            w[f"{at}.{b}.recall.M.start.{n}"].expand(xs[0].shape[0], -1, -1, -1)
            for n in ("W2", "W1")
        )
        for b in BOXES
    }
    A, out = dict(M), []
    for t, (z, q) in enumerate(zip(local("z"), local("q"), strict=True)):
        A = {
            b: M[b] if t % chunks[b] == 0 else A[b] for b in BOXES
        }  # Eq. 90: all is read where the chunk begins
        k, v = unit(box(A["M_k"], z)), unit(box(A["M_v"], z))  # Eq. 83; sec. 8.3: unit length
        eta = (
            torch.sigmoid((w[f"{at}.r"] * box(A["M_eta"], z)).sum(-1)) / length
        )  # Eq. 83, in (0, 1 / chunk)
        alpha = torch.sigmoid((w[f"{at}.a"] * box(A["M_alpha"], z)).sum(-1) + 6)  # Eq. 83
        read = rmsnorm(
            box(A["M_mem"], unit(q)), w[f"{at}.rmsnorm"]
        )  # Eqs. 83, 90; q is the static projection
        out.append(torch.einsum("bhe,dhe->bd", read, w[f"{at}.linear"]))
        eta, alpha = eta[..., None, None], alpha[..., None, None]
        for b in BOXES:
            (W2, W1), (A2, A1) = M[b], A[b]
            target = box(A[b], v)  # Eq. 84
            h = mul(A2, k)
            s = torch.sigmoid(h)
            error = box(A[b], k) - target  # Eq. 85: |M(k) - target|^2 / 2
            g1 = outer(error, silu(h))
            g2 = outer(mul(A1.mT, error) * (s + h * s * (1 - s)), k)
            M[b] = (
                alpha * W2
                - eta * outer(mul(W2, k), k)
                - eta * g2,  # Eqs. 88, 90 on the matrix whose input is k
                alpha * W1 - eta * g1,
            )  # Eq. 88 without the rank-one term
    return out


def losses(w: Weights, ids: Tensor, depth: int, near: int, far: int, periods: list[int]) -> Tensor:
    """[B, T - 1]: the loss of each token that has a successor.

    Weights by qualified name; every memory of a step is one of them.
    """
    chunks = {b: far if b == "M_mem" else near for b in BOXES}
    xs = [w["loss.x"][ids[:, t]] for t in range(ids.shape[1])]
    for n in range(depth):
        at = f"loss.layer[{n}]"
        mixed = self_modifying(
            [rmsnorm(x, w[f"{at}.rmsnorm"]) for x in xs],
            w,
            f"{at}.self_modifying_titans",
            chunks,
            far,
        )
        xs = [x + y for x, y in zip(xs, mixed, strict=True)]  # Eq. 94
        for p in periods:  # Eqs. 70, 97: the fastest block first
            block = f"{at}.continuum.p[{p}]"
            gate, up, down = (
                w[f"{at}.continuum.ffn[{p}].F.{name}"].T for name in ("gate", "up", "down")
            )
            zs = [rmsnorm(x, w[f"{block}.rmsnorm"]) for x in xs]
            xs = [x + (silu(z @ gate) * (z @ up)) @ down for x, z in zip(xs, zs, strict=True)]
    logits = [rmsnorm(x, w["loss.rmsnorm"]) @ w["loss.linear"].T for x in xs[:-1]]
    return torch.stack(
        [
            torch.logsumexp(z, -1) - z.gather(-1, i[:, None])[:, 0]
            for z, i in zip(logits, ids.T[1:], strict=True)
        ],
        1,
    )
