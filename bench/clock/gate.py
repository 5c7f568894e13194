"""What a method must pass before the clock reports a time for it: on this device, in this process.

A fast wrong answer is no time. Two checks in float64: every golden file of the method (its authors' numbers), and
outputs, auxiliary loss and all gradients of training against the reference on the CPU, with the method's own settings
in a small model without dropout; outputs also as evaluation and decoding compute them, with keys and values carried in
the state.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bench.golden_files import read_settings
from bench.parity import LIMIT, allowance, check_file, relative_error
from models.backbone import Backbone, BackboneSettings, build
from models.state import State

GOLDEN = Path(__file__).resolve().parents[2] / "models" / "golden"
_VOCABULARY, _ROWS, _BLOCKS = 11, 2, 3
_CANCELLED = 100
"""How much larger a relative difference may be here than against golden files: with random weights, a gradient that is
one number (a bias, a span ratio) is often a small sum of large terms."""
_TOKENS = 9
"""How many tokens of the last block are read one by one where keys and values are cached."""


class ParityMissed(RuntimeError):
    """The implementation does not compute what it should; it gets no time."""


def check(method: str, impl: str, settings: object, block_length: int, device: torch.device) -> str:
    """Checks an implementation.

    Args:
        method: its id.
        impl: how it is computed.
        settings: its ``Settings``.
        block_length: T.
        device: where it will be timed.

    Returns:
        what it was checked against, in words.

    Raises:
        ParityMissed: it differs.
        SettingsError: a golden file cannot be read, so it cannot be known whose it is.
    """
    proofs = []
    golden = [path for path in sorted(GOLDEN.glob("*.json")) if read_settings(path).method == method]
    for path in golden:
        verdict = check_file(path, impl, device=device)
        if not verdict.ok:
            raise ParityMissed(f"{method} ({impl}) on {device.type} misses {path.stem}: {'; '.join(verdict.problems)}")
    if golden:
        proofs.append(f"{len(golden)} golden file{'s' if len(golden) > 1 else ''}")
    if impl != "reference" or device.type != "cpu":
        _check_against_reference(method, impl, settings, block_length, device)
        proofs.append("the reference on the CPU")
    return " and ".join(proofs) or "it is the reference"


def _check_against_reference(method: str, impl: str, settings: object, block_length: int, device: torch.device) -> None:
    oracle = _model(method, settings, block_length, "reference")
    model = _model(method, settings, block_length, impl)
    model.load_state_dict(oracle.state_dict())
    model.to(device)
    expected, found = _run(oracle, torch.device("cpu")), _run(model, device)
    for name in {**expected, **found}:  # a gradient that only one of the two has is off by as much as can be
        both = name in expected and name in found
        off = relative_error(found[name].cpu(), expected[name]) if both else float("inf")
        if not off <= max(LIMIT, _CANCELLED * allowance(model)):
            raise ParityMissed(f"{method} ({impl}) on {device.type} differs from the reference in {name} by {off:.3g}")
    evaluated = _evaluate(oracle, torch.device("cpu"), caching=False)
    for block, outputs in enumerate(_evaluate(model, device, caching=True)):
        off = relative_error(outputs.cpu(), evaluated[block])
        if not off <= max(LIMIT, _CANCELLED * allowance(model)):
            what = f"outputs of block {block} with cached keys and values"
            raise ParityMissed(f"{method} ({impl}) on {device.type} differs from the reference in {what} by {off:.3g}")


def _model(method: str, settings: object, block_length: int, impl: str) -> Backbone:
    backbone = BackboneSettings(layers=2, width=16, feedforward=24, heads=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, head = nn.Embedding(_VOCABULARY, 16), nn.Linear(16, _VOCABULARY)
        model = build(method, settings, backbone, block_length, encoder, head, impl)
    return model.double()


def _blocks(model: Backbone, device: torch.device) -> list[Tensor]:
    draws = torch.Generator().manual_seed(1)
    shape = (_ROWS, model.sizes.block_length)
    return [torch.randint(_VOCABULARY, shape, generator=draws).to(device) for _ in range(_BLOCKS)]


@torch.no_grad()
def _begin(model: Backbone, device: torch.device, caching: bool = False) -> State:
    """A fresh state; of a method that reads twice, what a first reading of the blocks leaves."""
    state = model.init_state(_ROWS)
    if model.readings() == 1:
        return state
    for tokens in _blocks(model, device):
        state = model(tokens, state, randomness=0.5, caching=caching).state
    return model.again(state)


@torch.no_grad()
def _evaluate(model: Backbone, device: torch.device, caching: bool) -> list[Tensor]:
    """Outputs of the same blocks in evaluation; with `caching` some of the last one's one by one, as in decoding."""
    model.eval()
    state = _begin(model, device, caching)
    found = []
    for block, tokens in enumerate(_blocks(model, device)):
        ones = min(_TOKENS, tokens.shape[1] - 1) if caching and block == _BLOCKS - 1 else 0
        outputs = []
        for piece in tokens.split([1] * ones + [tokens.shape[1] - ones], dim=1):  # type: ignore[no-untyped-call]
            output = model(piece, state, caching=caching)
            state = output.state
            outputs.append(output.y)
        found.append(torch.cat(outputs, dim=1))
    return found


def _run(model: Backbone, device: torch.device) -> dict[str, Tensor]:
    """Outputs, auxiliary losses and gradients of training over a few blocks, the steps' randomness given."""
    model.train()
    state = _begin(model, device)
    arrays: dict[str, Tensor] = {}
    for block, tokens in enumerate(_blocks(model, device)):
        output = model(tokens, state, randomness=(block + 1) / (_BLOCKS + 1))
        state = output.state
        (output.y.log_softmax(-1)[..., 0].mean() + output.aux_loss).backward()
        arrays[f"outputs of block {block}"] = output.y.detach()
        arrays[f"auxiliary loss of block {block}"] = output.aux_loss.detach()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            arrays[f"the gradient of {name}"] = parameter.grad
    return arrays
