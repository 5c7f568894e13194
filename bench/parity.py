"""Checks our methods against numbers that their authors' code gave (golden files).

The settings of a golden file (`golden_files.py`) build the model through `models.backbone.build`, as a cell does; the
parameters are copied in; every stored output, loss and gradient is compared. An array that is neither an input nor
compared is a failure, so nothing can be left out unnoticed. A file that cannot be read or is incomplete fails too, with
what is wrong with it, and the others are checked all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.golden_files import Golden, incomplete, read_arrays, read_settings
from models.backbone import Backbone, build
from models.errors import SettingsError, Unsupported
from models.registry import METHODS
from models.state import State

LIMIT = 1e-9


@dataclass
class Verdict:
    """One golden file's outcome: the largest relative errors, how many arrays were compared, what was wrong."""

    name: str
    method: str
    impl: str
    worst_output: float = 0.0
    worst_gradient: float = 0.0
    compared: int = 0
    limit: float = LIMIT
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems and self.compared > 0


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """max |ours - theirs| / max |theirs|, without the divisor where it is 0; infinite for NaN or another shape."""
    if ours.shape != theirs.shape:
        return float("inf")
    difference = float((ours - theirs).abs().max())
    scale = float(theirs.abs().max())
    error = difference / scale if scale > 0 else difference
    return error if error == error else float("inf")


# Their parameter name (with {} for the layer) -> ours.
FIRST_FAMILY = {
    "in_emb.weight": "encoder.weight",
    "out.out_emb.weight": "head.weight",
    "out.out_emb.bias": "head.bias",
    "out_norm.weight": "norm.weight",
    "out_norm.bias": "norm.bias",
    "layers.{}.attn.proj_query.weight": "blocks.{}.mixer.project.query.weight",
    "layers.{}.attn.proj_key.weight": "blocks.{}.mixer.project.key.weight",
    "layers.{}.attn.proj_val.weight": "blocks.{}.mixer.project.value.weight",
    "layers.{}.attn.proj_out.weight": "blocks.{}.mixer.project.output.weight",
    "layers.{}.attn.attn.key_pe": "shared.p",
    "layers.{}.attn.attn.adaptive_span.mask.size_ratio": "blocks.{}.mixer.ratio",
    "layers.{}.attn.attn.expire_span.span_predictor.weight": "blocks.{}.mixer.predictor.weight",
    "layers.{}.attn.attn.expire_span.span_predictor.bias": "blocks.{}.mixer.predictor.bias",
    "layers.{}.ff.fc1.weight": "blocks.{}.expand.weight",
    "layers.{}.ff.fc1.bias": "blocks.{}.expand.bias",
    "layers.{}.ff.fc2.weight": "blocks.{}.contract.weight",
    "layers.{}.ff.fc2.bias": "blocks.{}.contract.bias",
    "layers.{}.norm1.weight": "blocks.{}.norm1.weight",
    "layers.{}.norm1.bias": "blocks.{}.norm1.bias",
    "layers.{}.norm2.weight": "blocks.{}.norm2.weight",
    "layers.{}.norm2.bias": "blocks.{}.norm2.bias",
}
DAI = {
    "word_emb.emb_layers.0.weight": "encoder.weight",
    "crit.out_layers.0.weight": "head.weight",
    "crit.out_layers.0.bias": "head.bias",
    "r_w_bias": "shared.u",
    "r_r_bias": "shared.v",
    "layers.{}.dec_attn.qkv_net.weight": "blocks.{}.mixer.qkv.weight",
    "layers.{}.dec_attn.r_net.weight": "blocks.{}.mixer.relative.weight",
    "layers.{}.dec_attn.o_net.weight": "blocks.{}.mixer.output.weight",
    "layers.{}.dec_attn.layer_norm.weight": "blocks.{}.norm1.weight",
    "layers.{}.dec_attn.layer_norm.bias": "blocks.{}.norm1.bias",
    "layers.{}.pos_ff.CoreNet.0.weight": "blocks.{}.expand.weight",
    "layers.{}.pos_ff.CoreNet.0.bias": "blocks.{}.expand.bias",
    "layers.{}.pos_ff.CoreNet.3.weight": "blocks.{}.contract.weight",
    "layers.{}.pos_ff.CoreNet.3.bias": "blocks.{}.contract.bias",
    "layers.{}.pos_ff.layer_norm.weight": "blocks.{}.norm2.weight",
    "layers.{}.pos_ff.layer_norm.bias": "blocks.{}.norm2.bias",
}


NAMES = {"transformer-sequential": FIRST_FAMILY, "transformer-xl": DAI}


def our_name(theirs: str, names: str) -> str | None:
    """Our name of the authors' parameter, or None if it is not known."""
    table = NAMES[names]
    parts = theirs.split(".")
    if parts[0] == "layers" and len(parts) > 1 and parts[1].isdigit():
        general = ".".join(["layers", "{}", *parts[2:]])
        return table[general].format(parts[1]) if general in table else None
    return table.get(theirs)


def build_model(golden: Golden, impl: str) -> Backbone:
    """The model that the golden file describes, in float64 and training mode."""
    settings = METHODS.load(golden.method).Settings(**golden.settings)
    width = golden.backbone.width
    encoder, head = nn.Embedding(golden.vocabulary, width), nn.Linear(width, golden.vocabulary)
    model = build(golden.method, settings, golden.backbone, golden.block_length, encoder, head, impl)
    return model.double().train()


def check_file(
    path: Path, impl: str = "reference", limit: float = LIMIT, device: str | torch.device = "cpu"
) -> Verdict:
    """Compares one golden file (its json's path) with our method. What is wrong with the file stands in the verdict.

    Args:
        impl: how the method is to be computed.
        limit: the largest relative error that passes, where the impl does not say that it differs by more.
        device: where it is to be computed.

    Raises:
        SettingsError: the file's method has no such impl.
    """
    verdict = Verdict(path.stem, "", impl)
    try:
        golden = read_settings(path)
        verdict.method = golden.method
        arrays = read_arrays(path.with_suffix(".npz"))
        verdict.problems += incomplete(golden, arrays)
        model = build_model(golden, impl).to(device)
    except (SettingsError, Unsupported) as error:
        if isinstance(error, SettingsError) and error.key == "impl":
            raise  # the caller's mistake, not the file's
        verdict.problems.append(str(error))
    if verdict.problems:
        return verdict
    verdict.limit = limit = max(limit, allowance(model))
    ours = dict(model.named_parameters())
    names = copy_parameters(arrays, ours, golden.names, verdict)
    if verdict.problems:
        return verdict
    expected = {name: tensor for name, tensor in arrays.items() if name != "tokens" and not name.startswith("param/")}
    computed = run_blocks(golden, model, arrays["tokens"].to(device), int(arrays[golden.layout].shape[0]))
    for theirs, our in names.items():
        grad = ours[our].grad
        target = arrays.get(f"grad/{theirs}")
        if grad is not None and target is not None:
            computed[f"grad/{theirs}"] = grad.reshape(target.shape) if grad.numel() == target.numel() else grad
    for name, target in expected.items():
        if name not in computed:
            verdict.problems.append(f"{name} was not computed by our model")
            continue
        off = relative_error(computed[name].cpu(), target)
        verdict.compared += 1
        if name.startswith("grad/"):
            verdict.worst_gradient = max(verdict.worst_gradient, off)
        else:
            verdict.worst_output = max(verdict.worst_output, off)
        if not off <= limit:
            verdict.problems.append(f"{name} differs by {off:.3g}, the limit is {limit:g}")
    for theirs in names:
        if f"grad/{theirs}" not in expected:
            verdict.problems.append(f"grad/{theirs} is not in the file, so it cannot be checked")
    return verdict


def allowance(model: Backbone) -> float:
    """By how much the model's impl may differ from the reference."""
    return max(block.mixer.differs_by for block in model.layers())


def copy_parameters(
    arrays: dict[str, Tensor], ours: dict[str, nn.Parameter], authors: str, verdict: Verdict
) -> dict[str, str]:
    """Copies every ``param/`` array into our model; returns their names -> ours. Problems go to the verdict."""
    names: dict[str, str] = {}
    for stored, tensor in arrays.items():
        if not stored.startswith("param/"):
            continue
        theirs = stored.removeprefix("param/")
        our = our_name(theirs, authors)
        if our is None or our not in ours:
            verdict.problems.append(f"{stored} has no place in our model")
            continue
        if tensor.numel() != ours[our].numel():
            verdict.problems.append(f"{stored} has {tensor.numel()} elements, ours has {ours[our].numel()}")
            continue
        ours[our].data.copy_(tensor.reshape(ours[our].shape))
        names[theirs] = our
    verdict.problems += [f"our parameter {our} is not in the file" for our in sorted(set(ours) - set(names.values()))]
    return names


def run_blocks(golden: Golden, model: Backbone, tokens: Tensor, blocks: int) -> dict[str, Tensor]:
    """Runs all blocks, back-propagating each one's loss, and returns outputs and losses under the file's names."""
    length = golden.block_length
    state: State = model.init_state(tokens.shape[0])
    outputs: list[Tensor] = []
    losses: list[Tensor] = []
    aux_losses: list[Tensor] = []
    for block in range(blocks):
        window = tokens[:, block * length : (block + 1) * length + 1]
        output = model(window[:, :-1], state, randomness=None if golden.noise is None else golden.noise[block])
        state = output.state
        log_probs = output.y.log_softmax(-1)  # [B, T, V]
        nll = -log_probs.gather(-1, window[:, 1:, None]).squeeze(-1)  # [B, T]
        (nll.mean() + output.aux_loss).backward()
        outputs.append((log_probs if golden.layout == "log_probs" else nll).detach())
        losses.append(nll.mean().detach())
        aux_losses.append(output.aux_loss.detach())
    return {golden.layout: torch.stack(outputs), "nll": torch.stack(losses), "aux_loss": torch.stack(aux_losses)}


def check_folder(folder: Path, impl: str = "reference", limit: float = LIMIT) -> list[Verdict]:
    """Compares all golden files of a folder; half a pair is a file that fails.

    Raises SettingsError where there are none, or a method has no such impl.
    """
    stems = sorted({path.stem for ending in ("json", "npz") for path in folder.glob(f"*.{ending}")})
    if not stems:
        raise SettingsError(
            "DIR", f"{folder} holds no golden files", "Give a folder with NAME.json and NAME.npz pairs."
        )
    return [check_file(folder / f"{stem}.json", impl, limit) for stem in stems]
