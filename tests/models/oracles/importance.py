"""Naive float64 computations of one layer of `memory_transformer` and of `importance_sparse`, for one batch row.

Written from methods.md alone, a query and a memory at a time. Sizes: E model width, H heads, D head width, T block
length, m slots of memory, P distances that have a position vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Norm = Callable[[Tensor], Tensor]


class Slot(NamedTuple):
    """One state that can be attended: its time in the stream, the raw state [E], and whether it was ever read."""

    time: int
    state: Tensor
    was_read: bool


def zero_slots(before: int, slots: int, like: Tensor) -> list[Slot]:
    """`slots` zero vectors [E] at distances `slots .. 1` before time `before`, oldest first."""
    width = like.shape[-1]
    return [
        Slot(before - distance, torch.zeros(width, dtype=like.dtype, device=like.device), False)
        for distance in range(slots, 0, -1)
    ]


def block_as_slots(block: Tensor, start: int) -> list[Slot]:
    """The states of a block [T, E] whose first time is `start`, raw and without a gradient, as slots."""
    return [Slot(start + t, block[t].detach().clone(), True) for t in range(block.shape[0])]


def normalised(norm: Norm, state: Tensor) -> Tensor:
    """h [E] of one raw state [E]."""
    return norm(state.unsqueeze(0))[0]


def most_important(
    candidates: list[Slot], importance: Tensor, norm: Norm, slots: int, fade: Tensor, now: int
) -> list[Slot]:
    """The `slots` candidates with the greatest `s_i - f (now - i)`, `s_i = w . h_i`, in order of time.

    `importance` is w, [E], `fade` f. Of equal ones the newer stay; zero vectors that were never read go before any
    state that was.
    """
    with torch.no_grad():
        ranked = []
        for slot in candidates:
            s = float(torch.dot(importance, normalised(norm, slot.state)) - fade * (now - slot.time))
            ranked.append((slot.was_read, s, slot.time, slot))
        ranked.sort(key=lambda entry: entry[:3], reverse=True)
    return sorted((entry[3] for entry in ranked[:slots]), key=lambda slot: slot.time)


def attend(
    query_state: Tensor,
    query_time: int,
    seen: list[tuple[int, Tensor]],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    p: Tensor,
    w: Tensor,
    fade: Tensor,
) -> Tensor:
    """One head of one query: [D].

    `query_state` is h_t [E]; `seen` has (time, h_i [E]) of every state that the query attends to; `query`, `key` and
    `value` are the head's [D, E]; `p` is [D, P]; `w` is [E]; `fade` is f, 0 where importance does not fall with age.

        s_i = w . h_i,    a_t = softmax_i( (q_t . k_i + q_t . p_{t-i}) / sqrt(D) + s_i - f (t - i) )
        y_t = sum_i a_ti v_i

    p_d is column P - d of `p` for 1 <= d <= P, and zero for every other distance.
    """
    width, distances = p.shape
    q_t = query @ query_state
    scores = []
    for time, h_i in seen:
        k_i = key @ h_i
        score = torch.dot(q_t, k_i)
        distance = query_time - time
        if 1 <= distance <= distances:
            score = score + torch.dot(q_t, p[:, distances - distance])
        s_i = torch.dot(w, h_i)
        scores.append(score / math.sqrt(width) + s_i - fade * distance)
    a_t = torch.softmax(torch.stack(scores), dim=0)
    total = torch.zeros(width, dtype=p.dtype, device=p.device)
    for n, (_, h_i) in enumerate(seen):
        v_i = value @ h_i
        total = total + a_t[n] * v_i
    return total


def memory_transformer(
    blocks: list[Tensor],
    weights: dict[str, Tensor],
    norm: Norm,
    *,
    T: int,
    heads: int,
    slots: int,
    memory: str = "importance",
    reading: str = "causal",
) -> list[Tensor]:
    """One layer of the Memory Transformer: y [T, E] of every block.

    `blocks` are raw inputs [T, E]; `weights` has query, key, value [H*D, E], output [E, H*D], p [D, T], importance [E]
    (w) and, with `fading: learned`, fade [] (log f); `slots` is m; `memory` is "importance", "recent" or "none";
    `reading` is "causal" or "two_pass", the latter not with memory "none".

        s_i = w . h_i,    a_t = softmax_i( (q_t . k_i + q_t . p_{t-i}) / sqrt(D) + s_i )

    over the m slots of memory and the block's past. After each block memory is the m states of memory and block with
    the greatest importance, in order of time. Two-pass: the whole document is read so, then each block again, every
    query seeing all of the finished memory, whatever its time, and its block's past.
    """
    if memory not in ("importance", "recent", "none"):
        raise ValueError(f"no oracle for memory {memory!r}")
    if reading not in ("causal", "two_pass"):
        raise ValueError(f"no reading {reading!r}")
    if reading == "two_pass" and memory == "none":
        raise ValueError("nothing would be left for the second reading")
    if slots < 1:
        raise ValueError("the first query of a block would see nothing: slots must be at least 1")
    D = weights["query"].shape[0] // heads
    assert weights["p"].shape == (D, T), "P = T"
    fade = weights["fade"].exp() if "fade" in weights else torch.tensor(0.0)  # f
    assert all(block.shape[0] == T for block in blocks)

    def memory_after(held: list[Slot], block: Tensor, start: int) -> list[Slot]:
        """Memory once the block that began at `start` has been read; no gradient."""
        candidates = held + block_as_slots(block, start)
        if memory == "importance":
            return most_important(candidates, weights["importance"], norm, slots, fade, start + T)
        if memory == "recent":
            return candidates[-slots:]
        return zero_slots(start + T, slots, block)

    def read(block: Tensor, start: int, held: list[Slot]) -> Tensor:
        """y [T, E] of one block, given the memory that its queries see."""
        memory_seen = [(slot.time, normalised(norm, slot.state)) for slot in held]
        h = [normalised(norm, block[t]) for t in range(T)]
        rows = []
        for t in range(T):
            # A state of this block that is in the finished memory too (two-pass) is attended in both its places.
            seen = memory_seen + [(start + i, h[i]) for i in range(t)]
            per_head = []
            for head in range(heads):
                own = slice(head * D, (head + 1) * D)
                per_head.append(
                    attend(
                        h[t],
                        start + t,
                        seen,
                        weights["query"][own],
                        weights["key"][own],
                        weights["value"][own],
                        weights["p"],
                        weights["importance"],
                        fade,
                    )
                )
            rows.append(weights["output"] @ torch.cat(per_head))
        return torch.stack(rows)

    held = zero_slots(0, slots, blocks[0])
    outputs = []
    for b, block in enumerate(blocks):
        if reading == "causal":
            outputs.append(read(block, b * T, held))
        held = memory_after(held, block, b * T)
    if reading == "causal":
        return outputs

    # Second pass. What the first would have put out is thrown away, so only its memory was computed above.
    finished = held
    for b, block in enumerate(blocks):
        outputs.append(read(block, b * T, finished))
    return outputs


def importance_sparse(
    blocks: list[Tensor],
    weights: dict[str, Tensor],
    norm: Norm,
    *,
    T: int,
    heads: int,
    slots: int,
) -> list[Tensor]:
    """One layer of the Sparse Transformer of importance scores: y [T, E] of every block.

    As `memory_transformer` read causally, but `weights["importance"]` is [H, E], a w_h for every head, and every head
    has m = `slots` slots of its own:

        s_{h,i} = w_h . h_i,    a_t = softmax_i( (q_t . k_i + q_t . p_{t-i}) / sqrt(D) + s_{h,i} )   for head h
    """
    if slots < 1:
        raise ValueError("the first query of a stream would see nothing: slots must be at least 1")
    D = weights["query"].shape[0] // heads
    assert weights["p"].shape == (D, T), "P = T"
    assert weights["importance"].shape[0] == heads
    fade = weights["fade"].exp() if "fade" in weights else torch.zeros(heads)  # f_h
    assert all(block.shape[0] == T for block in blocks)

    held = [zero_slots(0, slots, blocks[0]) for _ in range(heads)]
    outputs = []
    for b, block in enumerate(blocks):
        start = b * T
        h = [normalised(norm, block[t]) for t in range(T)]
        rows = []
        for t in range(T):
            per_head = []
            for head in range(heads):
                own = slice(head * D, (head + 1) * D)
                seen = [(slot.time, normalised(norm, slot.state)) for slot in held[head]]
                seen = seen + [(start + i, h[i]) for i in range(t)]
                per_head.append(
                    attend(
                        h[t],
                        start + t,
                        seen,
                        weights["query"][own],
                        weights["key"][own],
                        weights["value"][own],
                        weights["p"],
                        weights["importance"][head],
                        fade[head],
                    )
                )
            rows.append(weights["output"] @ torch.cat(per_head))
        outputs.append(torch.stack(rows))
        for head in range(heads):
            candidates = held[head] + block_as_slots(block, start)
            held[head] = most_important(candidates, weights["importance"][head], norm, slots, fade[head], start + T)
    return outputs
