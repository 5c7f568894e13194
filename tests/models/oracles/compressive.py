"""Naive float64 computation of one layer of `compressive` (the Compressive Transformer), for one batch row.

Written from methods.md alone, a query and a memory at a time. Sizes: E model width, H heads, D head width, T block
length, L recent states, C compressed slots, c the rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Norm = Callable[[Tensor], Tensor]


def normalised(norm: Norm, state: Tensor) -> Tensor:
    """h [E] of one raw state [E]."""
    return norm(state.unsqueeze(0))[0]


def normalised_with_fixed_parameters(norm: Norm, state: Tensor) -> Tensor:
    """h [E] of one raw state [E], with the gradient to the state but none to the parameters of `norm`.

    `norm` is a function whose parameters cannot be taken hold of here, so its value h and its Jacobian J at the state
    are computed without a graph, and `h + J (state - state.detach())` returned: h in value, J in derivative.
    """
    point = state.detach()
    h = normalised(norm, point).detach()
    jacobian = torch.autograd.functional.jacobian(lambda z: normalised(norm, z), point)  # type: ignore[no-untyped-call]
    return h + jacobian.detach() @ (state - point)


def mean_slots(old: list[Tensor], rate: int) -> list[Tensor]:
    """s_j = mean of x_{jc} .. x_{jc+c-1}, channel by channel; T states [E] in, T/c slots [E] out."""
    slots = []
    for j in range(len(old) // rate):
        total = torch.zeros_like(old[0])
        for k in range(rate):
            total = total + old[j * rate + k]
        slots.append(total / rate)
    return slots


def max_slots(old: list[Tensor], rate: int) -> list[Tensor]:
    """s_j = maximum of x_{jc} .. x_{jc+c-1}, channel by channel; T states [E] in, T/c slots [E] out."""
    slots = []
    for j in range(len(old) // rate):
        greatest = old[j * rate]
        for k in range(1, rate):
            greatest = torch.maximum(greatest, old[j * rate + k])
        slots.append(greatest)
    return slots


def conv_slots(old: list[Tensor], rate: int, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """s_j = b + sum_{k<c} W_k x_{jc+k}; `weight` [E, E, c] as (out, in, k), `bias` [E]."""
    slots = []
    for j in range(len(old) // rate):
        s_j = bias
        for k in range(rate):
            s_j = s_j + weight[:, :, k] @ old[j * rate + k]
        slots.append(s_j)
    return slots


def dilated_conv_slots(old: list[Tensor], rate: int, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """s_j = b + sum_{k<c} W_k x_{jc+c-1-2(c-1-k)}, zeros before x_0; `weight` [E, E, c] as (out, in, k), `bias` [E]."""
    slots = []
    for j in range(len(old) // rate):
        s_j = bias
        for k in range(rate):
            index = j * rate + rate - 1 - 2 * (rate - 1 - k)
            if index >= 0:
                s_j = s_j + weight[:, :, k] @ old[index]
        slots.append(s_j)
    return slots


def most_used_slots(old: list[Tensor], rate: int, usage: list[float]) -> list[Tensor]:
    """The T/c states with the greatest `usage`, in order of time; of equal ones the newer."""
    ranked = sorted(range(len(old)), key=lambda i: (usage[i], i), reverse=True)
    return [old[i] for i in sorted(ranked[: len(old) // rate])]


def content_attention(q_t: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """A_t(z) = sum_j softmax_j(q_t . k(z_j) / sqrt(D)) v(z_j), [D], of one head; all vectors are [D]."""
    width = q_t.shape[0]
    scores = [torch.dot(q_t, k_j) / math.sqrt(width) for k_j in keys]
    a_t = torch.softmax(torch.stack(scores), dim=0)
    total = torch.zeros_like(q_t)
    for j, v_j in enumerate(values):
        total = total + a_t[j] * v_j
    return total


def attention_reconstruction_loss(
    block: Tensor, old: list[Tensor], slots: list[Tensor], weights: dict[str, Tensor], norm: Norm, heads: int
) -> Tensor:
    """mean over t, heads, channels of (A_t(x) - A_t(s))^2.

    `block` [T, E] raw, `old` x_0 .. x_{T-1} [E] raw, `slots` s_0 .. s_{T/c-1} [E] with the graph of the convolution.
    Queries, projections, norm and old states are constants here: the gradient goes through the slots alone.
    """
    query, key, value = (weights[name].detach() for name in ("query", "key", "value"))
    D = query.shape[0] // heads
    h_block = [normalised(norm, state.detach()).detach() for state in block]
    h_old = [normalised(norm, x_j.detach()).detach() for x_j in old]
    h_slots = [normalised_with_fixed_parameters(norm, s_j) for s_j in slots]
    total = torch.zeros((), dtype=block.dtype, device=block.device)
    for head in range(heads):
        own = slice(head * D, (head + 1) * D)
        old_keys = [key[own] @ h_j for h_j in h_old]
        old_values = [value[own] @ h_j for h_j in h_old]
        slot_keys = [key[own] @ h_j for h_j in h_slots]
        slot_values = [value[own] @ h_j for h_j in h_slots]
        for h_t in h_block:
            q_t = query[own] @ h_t
            target = content_attention(q_t, old_keys, old_values).detach()
            rebuilt = content_attention(q_t, slot_keys, slot_values)
            for channel in range(D):
                total = total + (target[channel] - rebuilt[channel]) ** 2
    return total / (len(h_block) * heads * D)


def auto_encoding_loss(
    old: list[Tensor], slots: list[Tensor], rate: int, decoder_weight: Tensor, decoder_bias: Tensor
) -> Tensor:
    """mean over elements of (x - decoded)^2, decoded_{jc+k} = b' + W'_k s_j.

    `decoder_weight` [E, E, c] is laid out (in, out, k), so W'_k (out by in) is its transpose; `decoder_bias` [E].
    """
    total = torch.zeros((), dtype=old[0].dtype, device=old[0].device)
    elements = 0
    for j, s_j in enumerate(slots):
        for k in range(rate):
            decoded = decoder_bias + decoder_weight[:, :, k].T @ s_j
            x = old[j * rate + k].detach()
            for channel in range(x.shape[0]):
                total = total + (x[channel] - decoded[channel]) ** 2
                elements += 1
    return total / elements


def compressive(
    blocks: list[Tensor],
    weights: dict[str, Tensor],
    norm: Norm,
    *,
    T: int,
    heads: int,
    recent: int,
    compressed: int,
    rate: int,
    compression: str,
    compression_loss: str,
) -> tuple[list[Tensor], list[Tensor]]:
    """One layer of the Compressive Transformer: y [T, E] and the compression loss (a scalar) of every block.

    `blocks` are raw inputs [T, E]; `weights` has query, key, value [H*D, E], output [E, H*D] and p [D, C + 1 + L]
    (compressed columns first, the column of slot j for group g being j - g; then the L recent ones, distance 1 last);
    conv_weight [E, E, c] and conv_bias [E] for the convolutions; decoder_weight [E, E, c] and decoder_bias [E] for
    auto-encoding. `recent` is L, `compressed` C (slots), `rate` c.

        y_t = sum_j a_tj v_j   over the L positions before t and C + 1 compressed slots, one softmax

    At the block's start the oldest T recent states become T/c slots behind the C compressed ones; query t of the block
    sees slots t // c .. t // c + C of these. The loss is that of a full block, zero where there is none.
    """
    convolution = compression in ("conv", "dilated_conv")
    if compression not in ("mean", "max", "conv", "dilated_conv", "most_used"):
        raise ValueError(f"no compression {compression!r}")
    if compression_loss not in ("attention_reconstruction", "auto_encoding", "bptt"):
        raise ValueError(f"no compression loss {compression_loss!r}")
    L, C = recent, compressed
    D = weights["query"].shape[0] // heads
    p = weights["p"]
    assert L >= T
    assert T % rate == 0
    assert p.shape == (D, C + 1 + L)
    assert all(block.shape[0] == T for block in blocks)

    zero = torch.zeros_like(blocks[0][0]).detach()
    recent_states = [zero.clone() for _ in range(L)]  # raw, oldest first, no gradient
    compressed_states = [zero.clone() for _ in range(C)]  # raw, oldest first, no gradient
    # Of each recent state: the weight that queries gave it so far (mean over heads), and how many queries those were.
    weight_received = [0.0] * L
    queries_since = [0] * L

    outputs = []
    losses = []
    for block in blocks:
        # 1. The oldest T recent states x_0 .. x_{T-1} become slots s_0 .. s_{T/c-1}.
        old = [state.detach() for state in recent_states[:T]]
        if compression == "mean":
            new_slots = mean_slots(old, rate)
        elif compression == "max":
            new_slots = max_slots(old, rate)
        elif compression == "conv":
            new_slots = conv_slots(old, rate, weights["conv_weight"], weights["conv_bias"])
        elif compression == "dilated_conv":
            new_slots = dilated_conv_slots(old, rate, weights["conv_weight"], weights["conv_bias"])
        else:
            usage = [weight_received[i] / max(1, queries_since[i]) for i in range(T)]
            new_slots = most_used_slots(old, rate, usage)

        # 2. The loss: `new_slots` here still have the graph of the convolution.
        if convolution and compression_loss == "attention_reconstruction":
            losses.append(attention_reconstruction_loss(block, old, new_slots, weights, norm, heads))
        elif convolution and compression_loss == "auto_encoding":
            decoder = weights["decoder_weight"], weights["decoder_bias"]
            losses.append(auto_encoding_loss(old, new_slots, rate, *decoder))
        else:
            losses.append(torch.zeros((), dtype=block.dtype, device=block.device))

        # 3. What the layer attends to is compressed without a gradient; with bptt alone the task's gradient reaches
        #    the convolution, through the slots made in this very block.
        if compression_loss != "bptt":
            new_slots = [s_j.detach() for s_j in new_slots]
        slots = compressed_states + new_slots
        assert len(slots) == C + T // rate

        # 4. Attention. `near` is [recent; block]; query t of the block is near[L + t], the L before it are
        #    near[t] .. near[t + L - 1].
        near = recent_states + [block[t] for t in range(T)]
        h_slots = [normalised(norm, state) for state in slots]
        h_near = [normalised(norm, state) for state in near]
        weight_received = weight_received + [0.0] * T
        queries_since = queries_since + [0] * T
        rows = []
        for t in range(T):
            g = t // rate
            per_head = []
            for head in range(heads):
                own = slice(head * D, (head + 1) * D)
                query, key, value = weights["query"][own], weights["key"][own], weights["value"][own]
                q_t = query @ h_near[L + t]
                scores = []
                values = []
                for j in range(g, g + C + 1):
                    k_j = key @ h_slots[j]
                    scores.append((torch.dot(q_t, k_j) + torch.dot(q_t, p[:, j - g])) / math.sqrt(D))
                    values.append(value @ h_slots[j])
                for i in range(t, t + L):
                    distance = L + t - i
                    k_i = key @ h_near[i]
                    position = p[:, C + 1 + L - distance]
                    scores.append((torch.dot(q_t, k_i) + torch.dot(q_t, position)) / math.sqrt(D))
                    values.append(value @ h_near[i])
                a_t = torch.softmax(torch.stack(scores), dim=0)
                y_head = torch.zeros(D, dtype=block.dtype, device=block.device)
                for n, v_n in enumerate(values):
                    y_head = y_head + a_t[n] * v_n
                per_head.append(y_head)
                for i in range(t, t + L):
                    weight_received[i] += float(a_t[C + 1 + i - t].detach()) / heads
            for i in range(t, t + L):
                queries_since[i] += 1
            rows.append(weights["output"] @ torch.cat(per_head))
        outputs.append(torch.stack(rows))

        # 5. What is kept, raw and without a gradient (so that in bptt, too, a slot is a constant from now on).
        recent_states = [state.detach().clone() for state in near[T:]]
        weight_received = weight_received[T:]
        queries_since = queries_since[T:]
        compressed_states = [state.detach().clone() for state in slots[T // rate :]]
        assert len(recent_states) == L
        assert len(compressed_states) == C
    return outputs, losses
