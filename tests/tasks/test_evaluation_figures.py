"""What an evaluation says of memory and spans, against figures taken while the split is read by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.adaptive_span import Method as AdaptiveSpan
from models.backbone import Backbone
from models.expire_span import Method as ExpireSpan
from models.registry import load_file
from models.state import LayerState
from tasks import enwik8

toy = load_file(Path(__file__).with_name("toy_training.py"))
methods = load_file(Path(__file__).parents[1] / "every_method.py")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    # 209 bytes are for validation, 208 targets: 2 rows of 13 blocks of 8, with nothing to fill up.
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    path.write_bytes(enwik8.part(enwik8.Settings(), "train")[:4_180].numpy().tobytes())
    return str(path)


def spans(mixer: nn.Module, h: Tensor) -> Tensor | None:
    """The spans [B, n] (or [H]) of a layer, from its input [B, n, E] in a post-norm backbone; None if it has none."""
    if isinstance(mixer, ExpireSpan):
        logit = h @ mixer.predictor.weight[0] / mixer.settings.pre_div + mixer.predictor.bias
        return mixer.settings.max_span / (1 + (-logit).exp())
    return mixer.ratio * mixer.settings.max_span if isinstance(mixer, AdaptiveSpan) else None


def mean_age(layer: LayerState, row: int) -> float:
    """How long before the next block the slots of a row were read that were, on average."""
    slots = zip(layer["time"][row].flatten().tolist(), layer["read"][row].flatten().tolist(), strict=True)
    ages = [int(layer["clock"][row]) - time for time, read in slots if read]
    return sum(ages) / len(ages) if ages else 0.0


@torch.no_grad()
def figures_by_hand(model: Backbone, source: Any) -> dict[str, float]:
    """Means over blocks (`max_`: the largest) of what the memory holds and of the spans predicted."""
    model.eval()
    given: list[Tensor] = []
    hooks = [block.mixer.register_forward_pre_hook(lambda _, args: given.append(args[0])) for block in model.layers()]
    position, state, seen = source.start(), model.init_state(2), []
    for _ in range(source.blocks):
        batch = source.read(position)
        assert bool((batch.weights == 1).all())
        before, position, state = state, batch.position, model(batch.inputs, state).state
        figures = model.memory(state)
        if "read" in before[0]:
            ages = [mean_age(layer, row) for layer in before for row in range(2)]
            figures["mean_age"] = sum(ages) / len(ages)
        layers = [spans(block.mixer, h) for block, h in zip(model.layers(), given, strict=True)]
        if layers[0] is not None:
            figures["mean_span"] = sum(float(span.mean()) for span in layers if span is not None) / len(layers)
        given.clear()
        seen.append(figures)
    for hook in hooks:
        hook.remove()
    return {
        name: max(block[name] for block in seen)
        if name.startswith("max_")
        else sum(block[name] for block in seen) / len(seen)
        for name in seen[0]
    }


@pytest.mark.parametrize("method", methods.every_method())
def test_memory_and_spans_of_an_evaluation_are_means_over_its_blocks(text: str, method: str) -> None:
    module, data = toy.module_and_data(text, method, evaluation_batch_size=2)
    for parameter in module.model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    module.model.after_step()
    toy.make_trainer(module).validate(module, datamodule=data, verbose=False)
    expected = figures_by_hand(
        module.model, enwik8.evaluation_source(data.task_settings, module.settings, "validation")
    )
    if method == "performer":
        expected["redraws"] = 0.0
    assert module.statistics == pytest.approx(expected, rel=1e-9)
    assert ("mean_span" in expected) == (method in ("adaptive_span", "expire_span"))
    assert ("mean_age" in expected) == (method in ("memory_transformer", "importance_sparse"))
    if method == "expire_span":
        assert expected["slots_alive"] < expected["max_slots_alive"]
