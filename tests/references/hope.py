"""Hope, and with the switches of its ablation, one token at a time; arXiv 2512.24695, secs. 7 and
8, Table 6.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from references.layers import Weights, heads, joined, mul, norm, outer, unit

Net = list[Tensor]


def box(M: Net, z: Tensor) -> Tensor:
    return z + mul(M[1], F.silu(mul(M[0], z)))  # Eq. 89; M = (W_2, W_1)


def conv(z: Tensor, kernel: Tensor) -> Tensor:
    T = z.shape[1]
    return sum(
        kernel[3 - j] * torch.cat([torch.zeros_like(z[:, :j]), z[:, : T - j]], 1)
        for j in range(min(4, T))
    )


def self_modifying(
    x: Tensor,
    w: Weights,
    near: int,
    length: int,
    erase: float = 1.0,
    beta: float = 0.9,
    forget: float = 1.0,
) -> Tensor:
    """A projection without a memory of its own in `w` is a fixed one: of z, or of x by itself."""
    z = conv(heads(x, w["z"]), w["z.conv"])  # sec. 8.3
    at = {"eta": "M_eta", "alpha": "M_alpha", "mem": "M_mem"} | {
        n: name for n in "qkv" for name in (f"M_{n}", f"{n}.M") if f"{name}.recall.M.start.W1" in w
    }
    static = {n: conv(heads(x, w[n]), w[f"{n}.conv"]) for n in "qkv" if f"{n}.conv" in w}  # Eq. 76
    M = {
        b: [w[f"{name}.recall.M.start.{n}"].expand(x.shape[0], -1, -1, -1) for n in ("W2", "W1")]
        for b, name in at.items()
    }
    S = {b: [torch.zeros_like(m) for m in M[b]] for b in M}
    A: dict[str, Net] = {}
    out = []
    for t in range(x.shape[1]):
        A = {b: M[b] if t % (length if b == "mem" else near) == 0 else A[b] for b in M}  # Eq. 90
        zt = z[:, t]
        q, k, v = (
            unit(
                box(A[n], zt)
                if n in A
                else static[n][:, t]
                if n in static
                else torch.einsum("hfge,bge->bhf", w[f"{n}.linear"], zt)
            )
            for n in "qkv"
        )  # Eqs. 76, 83
        eta = torch.sigmoid((w["r"] * box(A["eta"], zt)).sum(-1)) / length  # Eq. 83
        alpha = 1 - forget * torch.sigmoid(-(w["a"] * box(A["alpha"], zt)).sum(-1) - 6)
        out.append(joined(norm(box(A["mem"], q), w["rmsnorm"]), w["linear"]))  # Eqs. 83, 90: stale
        eta, alpha = eta[..., None, None], alpha[..., None, None]
        for b in M:
            slopes = slope(A[b], k, box(A[b], v))  # Eqs. 84, 85
            S[b] = [
                beta * s - eta * g for s, g in zip(S[b], slopes, strict=True)
            ]  # Table 6: momentum
            W2, W1 = M[b]
            M[b] = [
                alpha * W2 - erase * eta * outer(mul(W2, k), k) + S[b][0],
                alpha * W1 + S[b][1],
            ]  # Eqs. 88, 90
    return torch.stack(out, 1)


def slope(at: Net, k: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Of |M(k) - target|^2 / 2, the target and the key constant for the memory."""
    W = [a.clone() for a in at]
    return torch.autograd.grad((box(W, k) - target).square().sum() / 2, W, create_graph=True)
