"""Controlled comparisons: every method at the same context and share of living memories, on untrained weights.

What training would decide (how much is remembered) is set here, so that cost can be read as a function of it. All
entries of one context take turns with each other, or, if asked, those of all contexts; their memory is measured
afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.clock import ratios
from bench.clock.contestant import Failure, Order
from bench.clock.phase import BASELINE
from bench.clock.rounds import Timed, ask_each, run
from bench.clock.settings import ClockSettings
from bench.devices import at_a_time
from bench.spec import CellSpec
from bench.store.statuses import Status
from models.backbone import BackboneSettings
from models.card import chosen_impl
from models.errors import SettingsError, Unsupported
from models.registry import METHODS
from tasks import enwik8
from tasks.train_settings import TrainSettings


@dataclass(frozen=True)
class Shape:
    """The model and the block that are compared.

    Args:
        scope: ``step`` (a whole training step of a model on enwik8-4M), ``layer`` (one layer's mixing rule, forward and
            backward) or ``token`` (a model reads one token of each row, as in decoding).
        batch: B rows; heads: H; head_dim: D, E = H D; block: T tokens; layers: N, 1 where the scope is a layer.
        precision: as Lightning names it; threads: CPU threads; accelerator: where.
    """

    scope: str = "step"
    batch: int = 4
    heads: int = 4
    head_dim: int = 64
    block: int = 256
    layers: int = 4
    precision: str = "32-true"
    threads: int = 1
    accelerator: str = "auto"


@dataclass(frozen=True)
class Entry:
    """One line of a comparison.

    Args:
        context: positions seen; alive: the share of their memories that is alive.
        remembers: what was asked for: a share of every context, ``10 %``, or one number in all, ``512 slots``.
    """

    method: str
    impl: str
    context: int
    alive: float
    remembers: str

    @property
    def name(self) -> str:
        """For people: ``expire_span, reference, 2048 positions, 10 % alive``."""
        return f"{self.method}, {self.impl}, {self.context} positions, {self.remembers} alive"


@dataclass(frozen=True)
class Compared:
    """What was measured of an entry.

    Args:
        time_ms_p50: of a step; with 20th and 80th percentile.
        wall_ms: wall time per step, input included; first_ms: the first step, with whatever is compiled in it.
        steps: that were timed; steady: whether step times had become steady before.
        rebuilt: whether it was built anew for each turn, because not all fit together.
        proof: what the implementation was checked against.
        time_ratio: to Transformer-XL at the same context, of the same impl if it was measured, else of the first;
            median over rounds, with its interval; none below 6 rounds.
        time_to_reference: to the same method's reference, at the same context and share alive, likewise; None for the
            reference itself, and where it was not measured beside it.
        time_to_first: to the same method and impl at the first context, which `remembers` as much, where contexts took
            turns, likewise.
        peak_bytes: peak memory over static.
        static_bytes: weights, gradients, optimiser.
        state_bytes: of one layer's memory per stream when timing begins; slots_alive, slots_allocated likewise.
        slots_alive_last, slots_allocated_last: at the end of the last turn.
        memory_steady: see `Timed.memory_steady`.
        status: ok, or why something is missing, with the reason.
    """

    method: str
    impl: str
    context: int
    alive: float
    remembers: str
    time_ms_p50: float | None
    time_ms_p20: float | None
    time_ms_p80: float | None
    wall_ms: float | None
    first_ms: float | None
    steps: int
    steady: bool | None
    rebuilt: bool | None
    proof: str | None
    time_ratio: float | None
    time_ratio_low: float | None
    time_ratio_high: float | None
    time_to_reference: float | None
    time_to_reference_low: float | None
    time_to_reference_high: float | None
    time_to_first: float | None
    time_to_first_low: float | None
    time_to_first_high: float | None
    peak_bytes: int | None
    static_bytes: int | None
    state_bytes: float | None
    slots_alive: float | None
    slots_allocated: float | None
    slots_alive_last: float | None
    slots_allocated_last: float | None
    memory_steady: bool | None
    status: str
    reason: str
    samples_ms: list[list[float] | None]


def entries(
    methods: Sequence[str],
    impls: Sequence[str],
    contexts: Sequence[int],
    alive: Sequence[float],
    block: int,
    device: str = "cpu",
) -> list[Entry]:
    """All combinations; a share over 1 is a number of slots, no more than the least context.

    ``auto`` is each method's impl for the device, and a method without an impl is left out of it.

    A method that keeps all that it can reach is measured once per context, at 100 % alive, whatever shares were asked
    for: they would be the same measurement under other names.

    Raises SettingsError where no method has an impl that was asked for.
    """
    found: list[Entry] = []
    for context in contexts:
        for method in methods:
            METHODS.check(method, "--methods")
            card = METHODS.card(method)
            known, auto = card["impls"], chosen_impl(card, device)[0]
            for impl in dict.fromkeys(auto if impl == "auto" else impl for impl in impls):
                if impl in known:
                    wanted = alive if can_forget(method, impl, context, block) else (1.0,)
                    shares: dict[float, str] = {}
                    for one in wanted:
                        shares.setdefault(
                            one / context if one > 1 else one, _slots(one) if one > 1 else f"{100 * one:g} %"
                        )
                    found += [Entry(method, impl, context, *share) for share in shares.items()]
    have = {entry.impl for entry in found}
    for impl in impls:
        if impl != "auto" and impl not in have:
            raise SettingsError("--impls", f"none of these methods has an impl {impl!r}", "See `python -m bench list`.")
    return found


def _slots(number: float) -> str:
    return f"{number:,.0f} slots"


def can_forget(method: str, impl: str, context: int, block: int) -> bool:
    """Whether a share below 1 of a method's memory can be alive: by its spans, which can be set, or by its settings.

    Asked of its settings as: can one of all positions be forgotten? A shorter share may still be refused for its size.
    """
    module = METHODS.load(method)
    sized: Callable[[int, float, int], Any] | None = getattr(module, "sized", None)
    if sized is None:
        return False
    try:
        whole = sized(context, 1.0, block)
        mixer = module.mixer_class(whole, impl) if hasattr(module, "mixer_class") else module.Method
        return bool(mixer.predicts_spans or sized(context, 1.0 - 1.0 / context, block) != whole)
    except Unsupported:
        return False


def spec_of(entry: Entry, shape: Shape, plugins: Sequence[Mapping[str, str]] = ()) -> CellSpec:
    """The cell that an entry stands for.

    Args:
        entry: what is asked for; shape: the model around it.
        plugins: what `add_plugins` gave; the entry's own, if it has one, becomes part of the cell.

    Raises:
        Unsupported: the method has no such size. SettingsError: the settings cannot work together.
    """
    module = METHODS.load(entry.method)
    sized: Callable[[int, float, int], Any] | None = getattr(module, "sized", None)
    if sized is None:
        raise Unsupported(f"{entry.method} has no function `sized`, so its size cannot be set")
    width = shape.heads * shape.head_dim
    layers = 1 if shape.scope == "layer" else shape.layers
    backbone = BackboneSettings(layers, width, 4 * width, shape.heads, shape.head_dim)
    settings = sized(entry.context, entry.alive, shape.block)
    if hasattr(module, "check"):
        module.check(settings, backbone, shape.block)
    train = TrainSettings(batch_size=shape.batch, block_length=shape.block)
    return CellSpec(
        task="enwik8",
        task_label="enwik8-4M",
        task_version=enwik8.CARD["version"],  # type: ignore[arg-type]
        task_settings=asdict(enwik8.Settings()),
        method=entry.method,
        variant="",
        method_settings=asdict(settings),
        impl=entry.impl,
        backbone=asdict(backbone),
        train=asdict(train),
        trainer={"accelerator": shape.accelerator},
        precision=shape.precision,
        seed=0,
        plugins=[dict(plugin) for plugin in plugins if (plugin["kind"], plugin["id"]) == ("method", entry.method)],
        threads=shape.threads,
    )


def compare(
    asked: Sequence[Entry],
    shape: Shape,
    settings: ClockSettings,
    plugins: Sequence[Mapping[str, str]] = (),
    tell: Callable[[str], None] = lambda line: None,
    time_limit_s: float | None = None,
    together: bool = False,
) -> list[Compared]:
    """Measures all entries, context by context; whoever calls holds the lock on the device.

    Args:
        asked: what; shape: the model around it; settings: how long.
        plugins: what `add_plugins` gave.
        tell: called with a line at each stage.
        time_limit_s: seconds that each preparation, turn and memory pass may take; None for no limit.
        together: whether contexts too take turns with each other, as ratios between them need.
    """
    if together:
        return _side_by_side(asked, shape, settings, plugins, tell, time_limit_s)
    found: list[Compared] = []
    for context in dict.fromkeys(entry.context for entry in asked):
        here = [entry for entry in asked if entry.context == context]
        found += _side_by_side(here, shape, settings, plugins, tell, time_limit_s)
    return found


def _side_by_side(
    asked: Sequence[Entry],
    shape: Shape,
    settings: ClockSettings,
    plugins: Sequence[Mapping[str, str]],
    tell: Callable[[str], None],
    time_limit_s: float | None,
) -> list[Compared]:
    orders: dict[str, Order] = {}
    refused: dict[str, Failure] = {}
    for entry in asked:
        try:
            spec = replace(spec_of(entry, shape, plugins), time_limit_s=time_limit_s).to_json()
        except Unsupported as error:
            refused[entry.name] = Failure(Status.UNSUPPORTED, str(error))
            continue
        orders[entry.name] = Order(spec, shape.scope, alive=entry.alive, warmup_steps=settings.warmup_steps)
    timed = run(orders, settings, lambda line: tell(f"time: {line}"))
    baselines = {
        (entry.context, entry.impl): timed[entry.name]
        for entry in reversed(asked)
        if entry.method == BASELINE and entry.name in timed
    }
    what = {"step": "train memory", "layer": "layer memory", "token": "token memory"}[shape.scope]
    passes = {
        entry.name: Order(orders[entry.name].spec, what, alive=entry.alive) for entry in asked if entry.name in orders
    }
    room = at_a_time(shape.accelerator, shape.threads)
    memory = ask_each(passes, room, lambda name: tell(f"memory: {name}"))
    found = []
    for entry in asked:
        if entry.name in refused:
            found.append(_compared(entry, None, refused[entry.name]))
            continue
        reference = None if entry.impl == "reference" else timed.get(replace(entry, impl="reference").name)
        there = [one for (context, _), one in baselines.items() if context == entry.context]
        baseline = baselines.get((entry.context, entry.impl), there[-1] if there else None)
        first = _at_first_context(entry, asked)
        alike = None if first is None or first is entry else timed.get(first.name)
        found.append(_compared(entry, timed[entry.name], memory[entry.name], baseline, reference, alike))
    return found


def _at_first_context(entry: Entry, asked: Sequence[Entry]) -> Entry | None:
    """The entry of the same method and impl at the first context that remembers the same share, or number of slots.

    There a number of slots may be all of them, and go by the name of 100 %.
    """
    for one in asked:
        alike = entry.remembers in (one.remembers, _slots(round(one.alive * one.context)))
        if alike and (one.method, one.impl, one.context) == (entry.method, entry.impl, asked[0].context):
            return one
    return None


def _compared(
    entry: Entry,
    timed: Timed | None,
    memory: Any,
    baseline: Timed | None = None,
    reference: Timed | None = None,
    first: Timed | None = None,
) -> Compared:
    timed = timed or Timed()
    turns, ready = timed.rounds, timed.ready
    samples = [ms for turn in turns if turn is not None for ms in turn.samples_ms]
    p20, p50, p80 = ratios.percentiles(samples) if samples else (None, None, None)
    walls = sum(turn.wall_ms for turn in turns if turn is not None)
    ratio = ratios.rows("time_to_transformer_xl", timed, baseline) if baseline and timed is not baseline else []
    to_reference = ratios.rows("time_to_reference", timed, reference) if reference else []
    to_first = ratios.rows("time_to_first", timed, first) if first else []
    held = ready.held if ready else {}
    failures = [timed.failure] if timed.failure is not None else []
    figures: dict[str, float] = {}
    if isinstance(memory, Failure):
        failures.append(memory)
    elif memory is not None:
        figures = memory
    return Compared(
        **asdict(entry),
        time_ms_p50=p50,
        time_ms_p20=p20,
        time_ms_p80=p80,
        wall_ms=walls / len(samples) if samples else None,
        first_ms=ready.first_ms if ready else None,
        steps=len(samples),
        steady=ready.steady if ready else None,
        rebuilt=timed.rebuilt if samples else None,
        proof=ready.proof if ready else None,
        time_ratio=ratio[0].value if ratio else None,
        time_ratio_low=ratio[0].context["low"] if ratio else None,
        time_ratio_high=ratio[0].context["high"] if ratio else None,
        time_to_reference=to_reference[0].value if to_reference else None,
        time_to_reference_low=to_reference[0].context["low"] if to_reference else None,
        time_to_reference_high=to_reference[0].context["high"] if to_reference else None,
        time_to_first=to_first[0].value if to_first else None,
        time_to_first_low=to_first[0].context["low"] if to_first else None,
        time_to_first_high=to_first[0].context["high"] if to_first else None,
        peak_bytes=int(figures["extra"]) if figures else None,
        static_bytes=int(figures["static"]) if figures else None,
        state_bytes=held.get("state_bytes"),
        slots_alive=held.get("slots_alive"),
        slots_allocated=held.get("slots_allocated"),
        slots_alive_last=timed.held_last.get("slots_alive"),
        slots_allocated_last=timed.held_last.get("slots_allocated"),
        memory_steady=timed.memory_steady,
        status=(failures[0].status if failures else Status.OK).value,
        reason="; ".join(dict.fromkeys(failure.reason for failure in failures)),
        samples_ms=[None if turn is None else [round(ms, 4) for ms in turn.samples_ms] for turn in turns],
    )
