"""Full attention against loops over queries and memories, and against the methods that it is a limit of.

The oracle is written from the equations of the shared backbone, its learned positions and full attention alone: one
stream, one query, one head and one memory at a time, in float64.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.backbone import Backbone, Block
from models.heads import Heads
from models.registry import load_file

toy = load_file(Path(__file__).with_name("toy_models.py"))

T, HEADS, HEAD_DIM = 5, 2, 3  # H * D is not E
Memory = list[tuple[int, Tensor]]  # (time i, the layer's input [E])
SETTINGS: list[dict[str, Any]] = [
    {},
    {"max_span": 8},
    {"max_span": 3},
    {"memory": "none"},
    {"memory": "none", "max_span": 3},
    {"positions": "none", "max_span": 7},
]


def make(method: str, settings: dict[str, Any], pre_norm: bool) -> Backbone:
    model = toy.make(method, settings, T, width=8, feedforward=10, heads=HEADS, head_dim=HEAD_DIM, pre_norm=pre_norm)
    return toy.moved(model)


def attend(block: Block, memory: Memory, own: Memory, p: Tensor | None, longest: float) -> list[Tensor]:
    """What each query of the block mixes, [E] each, from memory and the block's own past."""
    project = block.mixer.project
    assert isinstance(project, Heads)
    norm = block.norm1 if block.pre_norm else nn.Identity()
    keys = [
        (i, (project.key.weight @ norm(m)).view(HEADS, -1), project.value.weight @ norm(m)) for i, m in memory + own
    ]
    mixed = []
    for t, h in own:
        query = (project.query.weight @ norm(h)).view(HEADS, HEAD_DIM)
        heads = []
        for head in range(HEADS):
            scores, values = [], []
            for i, key, value in keys:
                if not 1 <= t - i <= longest:
                    continue
                score = query[head] @ key[head]
                if p is not None and t - i <= p.shape[1]:
                    score = score + query[head] @ p[:, p.shape[1] - (t - i)]
                scores.append(score / math.sqrt(HEAD_DIM))
                values.append(value.view(HEADS, HEAD_DIM)[head])
            weights = torch.stack(scores).exp()
            heads.append(weights / weights.sum() @ torch.stack(values))
        mixed.append(project.output.weight @ torch.cat(heads))
    return mixed


def oracle(model: Backbone, stream: Tensor, settings: dict[str, Any]) -> list[Tensor]:
    """Logits [T, V] of every block of one stream [n]."""
    p = None if settings.get("positions") == "none" else model.shared.get_parameter("p")  # type: ignore[union-attr]
    longest = settings.get("max_span", math.inf)
    forgets = settings.get("memory") == "none"
    begin = min(longest, T) if forgets or longest == math.inf else longest  # zero vectors that a stream begins with
    assert p is None or p.shape == (HEAD_DIM, begin)
    kept: list[Memory] = [[] for _ in model.layers()]
    logits = []
    for first in range(0, len(stream), T):
        own = list(enumerate(model.encoder(stream[first : first + T]), start=first))
        for number, block in enumerate(model.layers()):
            if forgets or first == 0:
                kept[number] = [(first - age, torch.zeros(8, dtype=torch.double)) for age in range(1, begin + 1)]
            mixed = attend(block, kept[number], own, p, longest)
            kept[number] = kept[number] + [(i, h.detach()) for i, h in own]
            own = [(t, finish(block, h, y)) for (t, h), y in zip(own, mixed, strict=True)]
        logits.append(model.head(model.norm(torch.stack([h for _, h in own]))))
    return logits


def finish(block: Block, h: Tensor, y: Tensor) -> Tensor:
    """Residuals, norms and the feed-forward network around one position."""
    if block.pre_norm:
        h = h + y
        return h + block.contract(block.expand(block.norm2(h)).clamp(min=0))
    h = block.norm1(h + y)
    return block.norm2(h + block.contract(block.expand(h).clamp(min=0)))


def gradients(model: Backbone, losses: Tensor) -> dict[str, Tensor]:
    """Of the summed losses; an error where a parameter has no part in them."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(losses.sum(), parameters), strict=True))


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_outputs_and_gradients_are_those_of_loops_over_queries_and_memories(
    settings: dict[str, Any], pre_norm: bool
) -> None:
    model = make("full_attention", settings, pre_norm)
    tokens = torch.randint(toy.VOCABULARY, (2, 3 * T))
    direction = torch.randn(2, 3 * T, toy.VOCABULARY, dtype=torch.double)

    ours = toy.logits(toy.read(model, tokens)[0])
    our_gradients = gradients(model, ours * direction)
    theirs = torch.stack([torch.cat(oracle(model, stream, settings)) for stream in tokens])
    their_gradients = gradients(model, theirs * direction)

    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)
    for name, gradient in their_gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize("length", [3, 8])
def test_with_a_span_it_is_transformer_xl_of_that_length(length: int, pre_norm: bool) -> None:
    full = make("full_attention", {"max_span": length}, pre_norm)
    window = make("transformer_xl", {"memory_length": length}, pre_norm)
    window.load_state_dict(full.state_dict())
    tokens = torch.randint(toy.VOCABULARY, (2, 4 * T + 2))
    with torch.no_grad():
        outputs = [toy.logits(toy.read(model, tokens)[0]) for model in (full, window)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("pre_norm", [False, True], ids=["post", "pre"])
def test_it_is_what_expire_span_becomes_when_no_span_ends(pre_norm: bool) -> None:
    full = make("full_attention", {}, pre_norm)
    endless = make("expire_span", {"max_span": 10**6, "initial_fraction": 0.5}, pre_norm)
    missing = endless.load_state_dict(full.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all("predictor" in name for name in missing.missing_keys)
    tokens = torch.randint(toy.VOCABULARY, (2, 6 * T))
    with torch.no_grad():
        everything, expiring = (toy.logits(toy.read(model, tokens)[0]) for model in (full, endless))
        within_reach = toy.logits(toy.read(make("full_attention", {"max_span": T}, pre_norm), tokens)[0])
    torch.testing.assert_close(expiring, everything, rtol=0, atol=1e-6)  # Expire-Span divides by a sum plus 1e-8
    assert not torch.allclose(within_reach, everything, rtol=0, atol=1e-2), "what lies beyond T is to count"
