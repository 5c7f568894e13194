"""Performer: softmax attention by random features, with sums for a memory (Choromanski et al. 2021, 2009.14794).

    phi(k)_r = (exp(w_r . k - |k|^2 / 2) + 1e-4) / sqrt(m),    q, k divided by D^(1/4)            (FAVOR+)
    phi(q)_r = (exp(w_r . q - max_s w_s . q) + 1e-4) / sqrt(m)
    y_t = phi(q_t)^T S_{t-1} / (phi(q_t) . z_{t-1}),    S_t = S_{t-1} + phi(k_t) v_t^T,    z_t = z_{t-1} + phi(k_t)

The w_r are rows of random orthogonal matrices, each as long as a Gaussian vector of its own, so that phi(q) . phi(k) is
exp(q . k / sqrt(D)) on average. They are drawn anew every `redraw_every` updates, and sums over other features
begin anew. So do all sums every `reset_every` tokens of the stream, if that is given: the published model reads
sequences that end. Before the first key of a sequence stands a zero key with a zero value.
A factor of phi(q) cancels in y, so a query's largest feature is 1 + 1e-4, and the 1e-4 is small beside it.
Of keys nothing is subtracted: a maximum over them would tell of later ones. `positions: rotary`
turns q and k before phi by their time in the stream (Su et al. 2021, 2104.09864): the published model's absolute
positions do not exist in an endless stream, and without any it does not know what came first.

State, per head: `sums` [B, H, m, D + 1], S and z side by side, without the zero key; `time` [B, 1], tokens read so far;
`draw` [B, 1], which features the sums are of.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from models.backbone import BackboneSettings
from models.errors import SettingsError, Unsupported
from models.heads import Heads
from models.mixer import Context, Mixed, Mixer, Sizes
from models.state import LayerState

CARD = {
    "title": "Performer",
    "family": "linear attention",
    "paper": "Choromanski et al. 2021, 2009.14794",
    "impls": ["reference"],
    "colour": "#8B5FBF",
    "marker": "p",
    "cost": "8 * E * H * D + 4 * H * D * M + 4 * H * M * (D + 1) + 2 * H * (M + D + 1) * C",
    "state": "H * M * (D + 1) + 2",
    "symbols": {
        "M": "features or round(D * log(D))",
        "C": "(64 ** 2 * (T // 64) + (T % 64) ** 2) / T",
    },
}

CHUNK = 64
"""Tokens whose sums are taken at once; within a chunk products of all pairs are formed."""


@dataclass(frozen=True)
class Settings:
    """Settings of `performer`."""

    features: int | None = None
    """m, random features per head; D ln D, rounded, if not given."""
    kernel: Literal["softmax", "relu"] = "softmax"
    """What phi approximates: the softmax (FAVOR+); or phi(x)_r = max(w_r . x, 0) + 1e-3, another kernel."""
    redraw_every: int = 1000
    """Updates of the weights after which the features are drawn anew; 0 for never."""
    reset_every: int = 0
    """Tokens after which the sums begin anew; 0 for never, so that a stream without end is summed up whole."""
    positions: Literal["rotary", "none"] = "rotary"
    """Turn queries and keys by their time in the stream, or no positions at all."""


def sized(slots: int, alive: float, block_length: int) -> Settings:
    """The default, whatever the context: the sums have one size. Nothing of them goes: `alive` must be 1."""
    if alive != 1:
        raise Unsupported("performer sums up all that it reads")
    return Settings()


def check(settings: Settings, backbone: BackboneSettings, block_length: int) -> None:
    """Raises SettingsError for settings that cannot work together."""
    key = "method.performer"
    if settings.features is not None and settings.features < 1:
        raise SettingsError(f"{key}.features", f"is {settings.features}", "Give at least 1, or null.")
    for name in ("redraw_every", "reset_every"):
        if getattr(settings, name) < 0:
            raise SettingsError(f"{key}.{name}", f"is {getattr(settings, name)}", "Give 0 or more.")
    width = backbone.sizes(block_length).head_dim
    if settings.positions == "rotary" and width % 2:
        raise SettingsError(f"{key}.positions", f"are rotary, and heads are {width} wide", "Give heads an even width.")


class Method(Mixer):
    """Attention as sums over random features of the keys."""

    statistic_units: ClassVar[dict[str, str]] = {"redraws": "draws"}

    def __init__(self, settings: Settings, sizes: Sizes) -> None:
        super().__init__()
        self.settings, self.sizes = settings, sizes
        self.count = settings.features or max(1, round(sizes.head_dim * math.log(sizes.head_dim)))  # m
        self.project = Heads(sizes)
        self.steps = 0
        self.features: Tensor
        self.seed: Tensor
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.register_buffer("features", orthogonal(self.count, sizes.head_dim, None))

    @property
    def draw(self) -> int:
        """How often the features were drawn anew."""
        return self.steps // self.settings.redraw_every if self.settings.redraw_every else 0

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)

    def init_state(self, batch: int) -> LayerState:
        return {
            "sums": self.zeros(batch, self.sizes.heads, self.count, self.sizes.head_dim + 1),
            "time": self.zeros(batch, 1, dtype=torch.long),
            "draw": self.zeros(batch, 1, dtype=torch.long) + self.draw,
        }

    def sequences(self, time: Tensor, n: int) -> Tensor:
        """Which sequence the tokens at `time` [B, 1] and the n - 1 after it are of, [B, n]."""
        times = time + torch.arange(n, device=time.device)
        return times // self.settings.reset_every if self.settings.reset_every else torch.zeros_like(times)

    def slots(self, state: LayerState) -> tuple[Tensor, int]:
        batch = state["sums"].shape[0]
        return torch.full((batch,), self.count), self.count

    def horizon(self) -> int:
        return 1

    def phi(self, x: Tensor, asks: bool) -> Tensor:
        """Features [..., m] of queries (`asks`) or keys [..., D]."""
        along = x @ self.features.T
        if self.settings.kernel == "relu":
            return torch.relu(along) + 1e-3
        less = along.amax(-1, keepdim=True) if asks else (x * x).sum(-1, keepdim=True) / 2
        features: Tensor = ((along - less).exp() + 1e-4) / self.count**0.5
        return features

    def forward(self, x: Tensor, state: LayerState, context: Context) -> Mixed:
        n = x.shape[1]
        query, key, value = self.project(context.norm(x), n)  # [B, H, n, D]
        with torch.autocast(x.device.type, enabled=False):  # half precision cannot hold the exponentials
            kind = self.features.dtype
            scale = self.sizes.head_dim**-0.25
            query, key = self.turned(query.to(kind) * scale, key.to(kind) * scale, state["time"])
            value = torch.cat([value.to(kind), value.new_ones(*value.shape[:3], 1, dtype=kind)], dim=-1)
            kept = (state["draw"] == self.draw).view(-1, 1, 1, 1)
            sums = state["sums"].to(kind) * kept
            phi_of_zero = 1e-3 if self.settings.kernel == "relu" else (1 + 1e-4) / self.count**0.5  # each feature of it
            sequence = self.sequences(state["time"] - 1, 1 + n)  # the first is that of the sums
            last, sequence, mixed = sequence[:, :1], sequence[:, 1:], []
            for begin in range(0, n, CHUNK):
                part = slice(begin, begin + CHUNK)
                asks, tells = self.phi(query[:, :, part], asks=True), self.phi(key[:, :, part], asks=False)
                told, own = value[:, :, part], sequence[:, part]
                alike = own[:, None, :, None] == own[:, None, None, :]
                before = asks @ sums * (own == last)[:, None, :, None]
                both = before + ((asks @ tells.mT).tril(-1) * alike) @ told  # [B, H, chunk, D + 1]
                mixed.append(both[..., :-1] / (both[..., -1:] + phi_of_zero * asks.sum(-1, keepdim=True)))
                goes_on, last = (own[:, -1:] == last)[:, None, :, None], own[:, -1:]
                sums = sums * goes_on + (tells * (own == last)[:, None, :, None]).mT @ told
            y = torch.cat(mixed, dim=2)
        after = {
            "sums": sums.detach(),
            "time": state["time"] + n,
            "draw": torch.zeros_like(state["draw"]) + self.draw,
        }
        redraws = x.new_full((), float(self.draw))
        return Mixed(self.project.merge(y.to(x.dtype)), after, statistics={"redraws": redraws})

    def turned(self, query: Tensor, key: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys [B, H, n, D], the first of them at a row's `time` [B, 1], turned by their time."""
        if self.settings.positions == "none":
            return query, key
        half, n = query.shape[-1] // 2, query.shape[2]
        exact = torch.float32 if query.device.type == "mps" else torch.float64
        rate = 10000 ** (-torch.arange(half, device=query.device, dtype=exact) / half)
        angle = (time + torch.arange(n, device=query.device))[:, None, :, None] * rate  # [B, 1, n, D / 2]
        cos, sin = angle.cos().to(query.dtype), angle.sin().to(query.dtype)

        def turn(x: Tensor) -> Tensor:
            first, second = x[..., :half], x[..., half:]
            return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

        return turn(query), turn(key)

    @torch.no_grad()
    def after_step(self) -> None:
        before = self.draw
        self.steps += 1
        if self.draw != before:
            source = torch.Generator().manual_seed(int(self.seed) * 1_000_003 + self.draw)
            self.features.copy_(orthogonal(self.count, self.sizes.head_dim, source))


def orthogonal(count: int, width: int, source: torch.Generator | None) -> Tensor:
    """`count` vectors of a width, orthogonal `width` at a time, each as long as a Gaussian vector of its own.

    Args:
        source: of the random numbers, on the CPU; PyTorch's own if None.
    """
    squares = torch.randn(-(-count // width), width, width, generator=source, dtype=torch.float64)
    basis, triangle = torch.linalg.qr(squares)
    basis = basis * triangle.diagonal(dim1=-2, dim2=-1).sign()[:, None]  # else signs are not those of chance
    rows = basis.mT.flatten(0, 1)[:count]
    length = torch.randn(count, width, generator=source, dtype=torch.float64).norm(dim=1, keepdim=True)
    found: Tensor = rows * length
    return found.to(torch.get_default_dtype())
