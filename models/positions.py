"""Learned relative positions (Sukhbaatar et al. 2019; 2021): one vector per distance, shared by heads and layers.

Notation: `p` is a matrix [D, P] whose column j belongs to distance P - j, so the last column is distance 1. The score
of query t and memory i gets `q_t . p[:, P - (t - i)]`; beyond distance P the position term is zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LearnedPositions(nn.Module):
    """The matrix `p`, drawn from N(0, scale^2).

    Args:
        head_dim: D.
        count: P, the number of distances that have a vector.
        scale: standard deviation at initialisation.
    """

    def __init__(self, head_dim: int, count: int, scale: float = 1.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.randn(head_dim, count) * scale)


def unskew(x: Tensor) -> Tensor:
    """Moves row t of x [..., n, P] right by t: the result [..., n, P + n] has x[t, j] in column t + j, else zeros."""
    *lead, n, width = x.shape
    flat = functional.pad(x, (0, n + 1)).flatten(-2)[..., : n * (width + n)]
    return flat.view(*lead, n, width + n)


def position_scores(query: Tensor, p: Tensor, keys: int) -> Tensor:
    """Position terms `q_t . p[:, P - (t - i)]` of every query and key; zero beyond distance P and where t - i < 1.

    Args:
        query: [B, H, n, D].
        p: [D, P].
        keys: number of keys; the last n of them are the block's own positions, the others stand right before it.

    Returns:
        [B, H, n, keys].
    """
    near = unskew(query @ p)  # [B, H, n, P + n]: distances P .. 1 of each query, at the last P + n keys
    missing = keys - near.shape[-1]
    return functional.pad(near, (missing, 0)) if missing > 0 else near[..., near.shape[-1] - keys :]


def distances(n: int, keys: int, device: torch.device) -> Tensor:
    """The distance t - i of each query and key [n, keys], where the keys are consecutive and the last n the block."""
    times = torch.arange(keys, device=device)
    return times[keys - n :, None] - times[None, :]
