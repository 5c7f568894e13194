"""Softmax attention that keeps no scores: for a CPU, tile by tile on the BLAS that is there, with its own backward.

    y_t = sum_i a_ti W_v h_i,    a_t = softmax_i( (q_t . W_k h_i + r_t . p_c(t,i)) / sqrt(D) + b_ti )

over the keys i that its `bands` let query t see; b is a `Bias` (log m of Expire-Span and Adaptive-Span, say). The
forward keeps keys, values and the output; the backward computes the weights anew from them, so nothing of the size of
T x S lives longer than its tile. Keys and values are projected from the hidden states h in here: so the gradient of h
is computed for those sources alone that ask for it, and a detached memory does not.

Layout: the rows of a batch are taken in groups, the heads of a group in lanes, the queries of a lane in chunks, so that
a tile of scores [rows * heads, queries, columns] stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.kernels import skew
from models.kernels.bands import Chunk
from models.kernels.bias import Bias
from models.kernels.rows import Group
from models.kernels.work import Lane, Plan, Work, buffer


def attend(
    query: Tensor,
    sources: Sequence[Tensor],
    key_weight: Tensor,
    value_weight: Tensor,
    lanes: Sequence[Lane],
    positions: Sequence[Tensor | None],
    *,
    asking: Tensor | None = None,
    lengths: Sequence[tuple[int, ...] | None] | None = None,
    bias: Bias | None = None,
    of_bias: Sequence[Tensor] = (),
    dropout: float = 0.0,
) -> Tensor:
    """The attention of a block's queries.

    Args:
        query: q [B, H, n, D].
        sources: hidden states that keys and values are projected from, oldest first: each [B, S, E], the first alone
            perhaps ragged [sum of lengths, E], the rows one behind the other.
        key_weight, value_weight: W_k, W_v [H * D, E].
        lanes: heads and the bands that they see; together all heads.
        positions: for each band its position vectors, [D, P] for all heads or [H, D, P], or None.
        asking: r [B, H, n, D], what asks for positions; `query` if not given.
        lengths: for each source the rows' slots if it is ragged, else None.
        bias: the rule for b.
        of_bias: the tensors that the rule depends on.
        dropout: probability of dropping a weight.

    Returns:
        [B, n, H * D].
    """
    with torch.autocast(query.device.type, enabled=False):
        kind = key_weight.dtype  # half precision would add up the sums of the softmax in itself
        plan = Plan(
            heads=query.shape[1],
            lanes=tuple(lanes),
            lengths=tuple(lengths) if lengths is not None else (None,) * len(sources),
            sources=len(sources),
            scale=query.shape[-1] ** -0.5,
            dropout=dropout,
            seed=int(torch.randint(2**62, ())) if dropout > 0 else 0,
            learns=torch.is_grad_enabled(),
            bias=bias,
        )
        y: Tensor = _Attend.apply(  # type: ignore[no-untyped-call]
            plan,
            query.to(kind),
            None if asking is None else asking.to(kind),
            key_weight,
            value_weight,
            *(None if vectors is None else vectors.to(kind) for vectors in positions),
            *(source.to(kind) for source in sources),
            *(tensor.to(kind) for tensor in of_bias),
        )
    return y.flatten(-2)


def project(h: Tensor, weight: Tensor) -> Tensor:
    """Keys or values [..., H * D] of hidden states [..., E] by a weight [H * D, E], in the weight's precision."""
    with torch.autocast(h.device.type, enabled=False):
        return functional.linear(h.to(weight.dtype), weight)


def attend_projected(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lanes: Sequence[Lane],
    positions: Sequence[Tensor | None],
    *,
    asking: Tensor | None = None,
    lengths: tuple[int, ...] | None = None,
    bias: Bias | None = None,
    of_bias: Sequence[Tensor] = (),
) -> Tensor:
    """`attend` where keys and values are there already, without gradients.

    Args:
        positions, asking: as for `attend`, or both of another width than D.
        key, value: of memory and block, [B, S + n, H * D], or ragged [sum of lengths, H * D].
        lengths: the rows' slots, the block's among them, if they are ragged.

    Returns:
        [B, n, H * D].
    """
    kind = key.dtype
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        plan = Plan(query.shape[1], tuple(lanes), (lengths,), 1, query.shape[-1] ** -0.5, 0.0, 0, False, bias)
        vectors = [None if p is None else p.to(kind) for p in positions]
        asking = None if asking is None else asking.to(kind)
        work = Work(plan, query.to(kind), asking, vectors, [key], [x.to(kind) for x in of_bias], values=value)
        return _forward(work, None).flatten(-2)


def _forward(work: Work, kept: list[Tensor] | None) -> Tensor:
    """The output [B, n, H, D]; if wanted, keys and values of each group go to `kept`."""
    y = work.query.new_empty(work.batch, work.n, work.plan.heads, work.head_dim)
    for group in work.groups():
        key, value = work.projected(group)
        if kept is not None:
            kept += [key, value]
        for lane, span in work.spans(group):
            if span.width == 0:
                y[group.rows, span.begin : span.end, lane.heads] = 0
                continue
            weight = work.attention(work.scores(group, lane, span, key))
            keep = work.kept(group, lane, span)
            if keep is not None:
                weight.mul_(keep)
            mixed = work.weighted(lane, span, weight, value)
            by_head = mixed.view(group.count, -1, span.end - span.begin, work.head_dim)
            y[group.rows, span.begin : span.end, lane.heads] = by_head.transpose(1, 2)
    return y


class _Attend(torch.autograd.Function):
    """The forward and backward of `attend`; see there."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, query: Tensor, asking: Tensor | None, *tensors: Tensor) -> Tensor:
        kept: list[Tensor] | None = [] if plan.learns else None
        y = _forward(_work(plan, query, asking, tensors), kept)
        ctx.plan, ctx.inputs = plan, len(tensors)
        ctx.save_for_backward(query, asking, y, *tensors, *(kept or []))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, asking, y, *saved = ctx.saved_tensors
        tensors, kept = saved[: ctx.inputs], saved[ctx.inputs :]
        with torch.autocast(grad.device.type, enabled=False):
            work = _work(ctx.plan, query, asking, tensors)
            wanted = _Gradients(work, ctx.needs_input_grad[3:])
            _backward(work, wanted, grad.transpose(1, 2).contiguous(), y, kept)
            return None, *wanted.all()


def _backward(work: Work, wanted: _Gradients, grad: Tensor, y: Tensor, kept: Sequence[Tensor]) -> None:
    """Adds up all gradients from that of the output [B, H, n, D]; the weights are computed anew, tile by tile."""
    share = (grad * y.transpose(1, 2)).sum(-1, keepdim=True)  # sum_i a_ti da_ti
    for number, group in enumerate(work.groups()):
        key, value = kept[2 * number : 2 * number + 2]
        wanted.begin(group)
        for lane, span in work.spans(group):
            if span.width == 0:
                wanted.nothing(group, lane, span)
                continue
            weight = work.attention(work.scores(group, lane, span, key))
            out = work.of_lane(grad, group, lane, span)
            slope = work.slope(lane, span, out, value)
            keep = work.kept(group, lane, span)
            if keep is not None:
                slope.mul_(keep)
                keep.mul_(weight)
            wanted.values(lane, span, weight if keep is None else keep, out)
            slope.sub_(work.of_lane(share, group, lane, span)).mul_(weight)
            wanted.scores(group, lane, span, slope, key)
        wanted.end(group)


def _work(plan: Plan, query: Tensor, asking: Tensor | None, tensors: Sequence[Tensor]) -> Work:
    """Takes apart what `attend` gave to the function."""
    key_weight, value_weight, *others = tensors
    bands = len(plan.lanes[0].bands)
    positions, sources, of_bias = others[:bands], others[bands : bands + plan.sources], others[bands + plan.sources :]
    return Work(plan, query, asking, positions, sources, of_bias, weights=(key_weight, value_weight))


class _Gradients:
    """The gradients, as they add up."""

    def __init__(self, work: Work, wanted: Sequence[bool]) -> None:
        self.work = work
        self.query = torch.empty_like(work.query)
        self.asking = torch.empty_like(work.query) if work.apart else None
        assert work.weights is not None
        self.weights = work.weights
        self.key_weight, self.value_weight = (torch.zeros_like(weight) for weight in work.weights)
        self.positions = [None if p is None else torch.zeros_like(p) for p in work.positions]
        first = 2 + len(work.positions)
        self.sources = [
            torch.zeros_like(source) if wanted[first + number] else None for number, source in enumerate(work.sources)
        ]
        self.bias = None if work.plan.bias is None else work.plan.bias.gradient(work)
        self.key = self.value = work.query.new_empty(0)
        self.beta = 1
        """0 where a tile's gradients of keys and values are all that there are of them."""

    def begin(self, group: Group) -> None:
        work = self.work
        self.beta = 0 if work.at_once(group) else 1
        self.key, self.value = (self._room(old, group) for old in (self.key, self.value))

    def _room(self, old: Tensor, group: Group) -> Tensor:
        """Where a group's gradient of keys or values adds up, [rows * H, columns, D], laid out as these are."""
        work = self.work
        if group.count == 1:
            room = work.by_head(buffer(old, group.columns, work.plan.heads * work.head_dim), group)
        else:
            room = buffer(old, group.count * work.plan.heads, group.columns, work.head_dim)
        return room if self.beta == 0 else room.zero_()

    def nothing(self, group: Group, lane: Lane, span: Chunk) -> None:
        """For queries that see no key."""
        for total in (self.query, self.asking):
            if total is not None:
                total[group.rows, lane.heads, span.begin : span.end] = 0

    def values(self, lane: Lane, span: Chunk, weight: Tensor, out: Tensor) -> None:
        """Adds to the gradient of values, from weights and the output's gradient."""
        for columns, keys in span.runs:
            self.work.keys_of(self.value, lane, keys).baddbmm_(weight[:, :, columns].mT, out, beta=self.beta)

    def scores(self, group: Group, lane: Lane, span: Chunk, slope: Tensor, key: Tensor) -> None:
        """Adds what follows from the gradient of a tile's scores."""
        work = self.work
        query = work.of_lane(work.query, group, lane, span)
        asking = work.of_lane(work.asking, group, lane, span) if work.apart else query
        asked = work.weighted(lane, span, slope, key)
        by_position = torch.zeros_like(asked) if work.apart else asked
        for columns, keys in span.runs:
            work.keys_of(self.key, lane, keys).baddbmm_(slope[:, :, columns].mT, query, beta=self.beta)
        for piece in span.pieces:
            p, total = work.vectors(piece.band, lane, group), self.positions[piece.band]
            if p is not None and total is not None:
                by_p = total if p.dim() == 2 else torch.zeros_like(p)
                skew.add_gradients(slope, asking, p, by_position, by_p, lane.bands[piece.band].rate, piece)
                if p.dim() == 3:
                    total[lane.heads] += by_p.view(group.count, -1, *p.shape[1:]).sum(0)
        shape = (group.count, -1, *query.shape[1:])
        self.query[group.rows, lane.heads, span.begin : span.end] = asked.view(shape)
        if self.asking is not None:
            self.asking[group.rows, lane.heads, span.begin : span.end] = by_position.view(shape)
        if self.bias is not None:
            self.bias.collect(slope, group, lane, span)

    def end(self, group: Group) -> None:
        """From the gradients of a group's keys and values to those of what they were projected from."""
        work = self.work
        for by_head, weight, total in (
            (self.key, self.weights[0], self.key_weight),
            (self.value, self.weights[1], self.value_weight),
        ):
            grad = work.by_slot(by_head, group)
            for columns, states in work.states(group):
                total.addmm_((grad[columns] if group.count == 1 else grad).T, states.flatten(0, 1))
            for number, columns in enumerate(work.rows.places(group)):
                into = self.sources[number]
                if into is not None:
                    work.rows.add(into, number, group, grad.view(group.count, group.columns, -1)[:, columns] @ weight)

    def all(self) -> tuple[Tensor | None, ...]:
        scale = self.work.plan.scale
        bias = () if self.bias is None else self.bias.all()
        return (
            self.query.mul_(scale),
            None if self.asking is None else self.asking.mul_(scale),
            self.key_weight,
            self.value_weight,
            *self.positions,
            *self.sources,
            *bias,
        )
