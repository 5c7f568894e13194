"""Naive oracles of the methods without attention memory: Performer, LSTM and the causal MLP-Mixer.

Written from methods.md alone, one query at a time and one memory at a time. Each oracle takes one batch row:
`blocks` is a list of raw inputs [T, E] from the stream's start, `weights` a dict of tensors, `norm` a function
[S, E] -> [S, E]. Each returns one y [T, E] per block. What an earlier block left is detached at that block's end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Norm = Callable[[Tensor], Tensor]

SOFTMAX_EPSILON = 1e-4
RELU_EPSILON = 1e-3


def check_blocks(blocks: list[Tensor], T: int) -> None:
    """Refuse a block that is not [T, E]."""
    for block in blocks:
        if block.dim() != 2 or block.shape[0] != T:
            raise ValueError(f"a block has shape {tuple(block.shape)}, not [{T}, E]")


def rotate(x: Tensor, time: int) -> Tensor:
    """Rotary position of one head's query or key x [D] at `time`; returns [D].

    "by the angles `t f_j`, `f_j = 10000^(-2j/D)`, each channel `j` of the first half with channel `j + D/2`,
    `(a, b) -> (a cos - b sin, a sin + b cos)`"
    """
    width = x.shape[0]
    if width % 2 != 0:
        raise ValueError(f"rotary positions need an even head width, not {width}")
    half = width // 2
    first: list[Tensor] = []
    second: list[Tensor] = []
    for j in range(half):
        angle = time * 10000.0 ** (-2.0 * j / width)
        a = x[j]
        b = x[j + half]
        first.append(a * math.cos(angle) - b * math.sin(angle))
        second.append(a * math.sin(angle) + b * math.cos(angle))
    return torch.stack(first + second)


def phi(x: Tensor, rows: Tensor, features: str, asks: bool = False) -> Tensor:
    """Features [m] of one key or (`asks`) query x [D], already divided by D^(1/4); rows [m, D] are the w_r.

    softmax: "phi(k)_r = (exp(w_r . k - |k|^2 / 2) + 1e-4) / sqrt(m)"
             "phi(q)_r = (exp(w_r . q - max_s w_s . q) + 1e-4) / sqrt(m)"
    relu:    "phi(x)_r = [w_r . x]_+ + 1e-3"
    """
    count = rows.shape[0]
    values: list[Tensor] = []
    for r in range(count):
        product = torch.dot(rows[r], x)
        if features == "softmax":
            less = torch.stack([torch.dot(row, x) for row in rows]).max() if asks else torch.dot(x, x) / 2
            values.append((torch.exp(product - less) + SOFTMAX_EPSILON) / math.sqrt(count))
        elif features == "relu":
            values.append(torch.clamp(product, min=0.0) + RELU_EPSILON)
        else:
            raise ValueError(f"features is {features!r}, not 'softmax' or 'relu'")
    return torch.stack(values)


def performer(
    blocks: list[Tensor],
    weights: dict[str, Tensor],
    norm: Norm,
    *,
    T: int,
    heads: int,
    features: str = "softmax",
    positions: str = "rotary",
    reset_every: int = 0,
) -> list[Tensor]:
    """Performer: blocks of [T, E] to one y [T, E] per block.

    "y_t = sum_{i<t} phi(q_t) . phi(k_i) v_i / sum_{i<t} phi(q_t) . phi(k_i),    q, k divided by D^(1/4)"

    weights: query, key, value [H*D, E]; output [E, H*D]; features [m, D], the rows w_r, one set for all heads.
    The first key is a zero key with a zero value, before the stream; with `reset_every`, before every sequence of that
    many tokens, and nothing of the sequences before is left. Instead of S = sum phi(k_i) v_i^T and
    z = sum phi(k_i), every term of the two sums is held and summed anew for each query; to detach all terms at a
    block's end is to detach S and z.
    """
    check_blocks(blocks, T)
    if positions not in ("rotary", "none"):
        raise ValueError(f"positions is {positions!r}, not 'rotary' or 'none'")
    width = weights["query"].shape[0] // heads
    rows = weights["features"]
    scale = width**0.25

    zero = torch.zeros(width, dtype=blocks[0].dtype)
    # Per head, the terms (phi(k_i) [m], v_i [D]) of all keys read so far. A rotated zero key is the zero key.
    # Like every carried term, the one from before the stream has no gradient.
    first = (phi(zero, rows, features).detach(), zero)
    memories: list[list[tuple[Tensor, Tensor]]] = [[first] for _ in range(heads)]

    outputs: list[Tensor] = []
    time = 0
    for block in blocks:
        hidden = norm(block)
        rows_out: list[Tensor] = []
        for t in range(T):
            if reset_every and time % reset_every == 0:
                memories = [[first] for _ in range(heads)]
            mixed: list[Tensor] = []
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                q = weights["query"][part] @ hidden[t]
                k = weights["key"][part] @ hidden[t]
                v = weights["value"][part] @ hidden[t]
                if positions == "rotary":
                    q = rotate(q, time)
                    k = rotate(k, time)
                phi_q = phi(q / scale, rows, features, asks=True)
                phi_k = phi(k / scale, rows, features)

                numerator = torch.zeros(width, dtype=block.dtype)
                denominator = torch.zeros((), dtype=block.dtype)
                for phi_i, v_i in memories[head]:
                    weight = torch.dot(phi_q, phi_i)
                    numerator = numerator + weight * v_i
                    denominator = denominator + weight
                mixed.append(numerator / denominator)

                # The query's own key comes after its output: i < t.
                memories[head].append((phi_k, v))
            rows_out.append(weights["output"] @ torch.cat(mixed))
            time += 1
        outputs.append(torch.stack(rows_out))
        memories = [[(f.detach(), v.detach()) for f, v in memory] for memory in memories]
    return outputs


def exact_softmax(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What FAVOR+ approximates, for one head: query, key, value [n, D] to y [n, D].

    "`phi(q) . phi(k)` is, on average over the `w_r`, `exp(q . k / sqrt(D))`"

    y_t = sum_{i<t} exp(q_t . k_i / sqrt(D)) v_i / sum_{i<t} exp(q_t . k_i / sqrt(D)), where one zero key with a zero
    value comes before the stream. Nothing is turned or divided beforehand but what the caller has turned.
    """
    length, width = query.shape
    result: list[Tensor] = []
    for t in range(length):
        zero = torch.zeros(width, dtype=query.dtype)
        weight = torch.exp(torch.dot(query[t], zero) / math.sqrt(width))
        numerator = weight * zero
        denominator = weight
        for i in range(t):
            weight = torch.exp(torch.dot(query[t], key[i]) / math.sqrt(width))
            numerator = numerator + weight * value[i]
            denominator = denominator + weight
        result.append(numerator / denominator)
    return torch.stack(result)


def lstm(blocks: list[Tensor], weights: dict[str, Tensor], norm: Norm, *, T: int) -> list[Tensor]:
    """LSTM: blocks of [T, E] to one y [T, E] per block.

    "i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of (W x_t + b + U r_{t-1} + b'),    c_t = f c_{t-1} + i g,
    r_t = o tanh(c_t),    y_t = W_o r_t"

    weights: weight_ih [4*hidden, E] (W), weight_hh [4*hidden, hidden] (U), bias_ih, bias_hh [4*hidden] (b, b'),
    output [E, hidden] (W_o, no bias). x_t is the normalised input. r and c begin as zeros.
    """
    check_blocks(blocks, T)
    hidden = weights["weight_hh"].shape[1]
    r = torch.zeros(hidden, dtype=blocks[0].dtype)
    c = torch.zeros(hidden, dtype=blocks[0].dtype)
    outputs: list[Tensor] = []
    for block in blocks:
        x = norm(block)
        rows_out: list[Tensor] = []
        for t in range(T):
            gates = weights["weight_ih"] @ x[t] + weights["bias_ih"] + weights["weight_hh"] @ r + weights["bias_hh"]
            i = torch.sigmoid(gates[0 * hidden : 1 * hidden])
            f = torch.sigmoid(gates[1 * hidden : 2 * hidden])
            g = torch.tanh(gates[2 * hidden : 3 * hidden])
            o = torch.sigmoid(gates[3 * hidden : 4 * hidden])
            c = f * c + i * g
            r = o * torch.tanh(c)
            rows_out.append(weights["output"] @ r)
        outputs.append(torch.stack(rows_out))
        r = r.detach()
        c = c.detach()
    return outputs


def gelu(x: Tensor) -> Tensor:
    """The exact gelu of every element: x (1 + erf(x / sqrt(2))) / 2."""
    return x * (1 + torch.erf(x / math.sqrt(2.0))) / 2


def mlp_mixer(blocks: list[Tensor], weights: dict[str, Tensor], norm: Norm, *, T: int, window: int) -> list[Tensor]:
    """Causal MLP-Mixer: blocks of [T, E] to one y [T, E] per block.

    "y_{t,e} = sum_k c_k gelu( b_k + sum_{d=0}^{L-1} A_{kd} h_{t-L+1+d, e} ) + b'"

    weights: first_weight [K, L] (A), first_bias [K] (b), second_weight [K] (c), second_bias [] (b'); L is `window`.
    The window ends at t itself. Before the stream stand L - 1 raw zero vectors; `norm` is applied to them, too.
    """
    check_blocks(blocks, T)
    first_weight = weights["first_weight"]
    units = first_weight.shape[0]
    if first_weight.shape[1] != window:
        raise ValueError(f"first_weight has {first_weight.shape[1]} columns, not {window}")
    width = blocks[0].shape[1]

    # Raw states in order of time, the zero vectors first; raw[start + t] is the block's state t.
    raw: list[Tensor] = [torch.zeros(width, dtype=blocks[0].dtype) for _ in range(window - 1)]
    outputs: list[Tensor] = []
    for block in blocks:
        start = len(raw)
        for t in range(T):
            raw.append(block[t])
        h = norm(torch.stack(raw))
        rows_out: list[Tensor] = []
        for t in range(T):
            y = torch.zeros(width, dtype=block.dtype)
            for k in range(units):
                inner = weights["first_bias"][k].expand(width)
                for d in range(window):
                    inner = inner + first_weight[k, d] * h[start + t - window + 1 + d]
                y = y + weights["second_weight"][k] * gelu(inner)
            rows_out.append(y + weights["second_bias"])
        outputs.append(torch.stack(rows_out))
        raw = [state.detach() for state in raw]
    return outputs
