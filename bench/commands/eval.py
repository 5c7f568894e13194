"""Evaluates one trained model on the validation or test split, as it is or with its spans replaced."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from bench.evaluation_choices import EDITS, SPLITS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a cell's checkpoints/best.ckpt")
    parser.add_argument("--split", choices=SPLITS, default="test", help="which part to score (default: %(default)s)")
    parser.add_argument("--max-span", type=float, metavar="L", help="cut predicted spans at L tokens")
    parser.add_argument(
        "--spans",
        choices=EDITS,
        default="learned",
        help=f"predicted spans: {'; '.join(f'{name}, {about}' for name, about in EDITS.items())}",
    )
    parser.add_argument("--untrained", action="store_true", help="the same model as it was initialised")


def run(args: argparse.Namespace) -> int:
    from bench.evaluation import evaluate
    from models.errors import Unsupported
    from tasks.task_module import Diverged

    try:
        result = evaluate(
            args.checkpoint,
            args.split,
            args.spans,
            args.max_span,
            args.untrained,
            waiting=lambda: print("waiting for the device: the clock measures on it", file=sys.stderr),
        )
    except (Diverged, Unsupported) as error:
        print(f"bench eval: {args.checkpoint}: {error}", file=sys.stderr)
        return 1
    main = result.scores[0]
    if not args.quiet:
        print(f"{result.spec.id}, {args.split} split, spans {args.spans}{', untrained' if args.untrained else ''}")
        for score in result.scores:
            print(f"  {score.metric:<24} {score.value:.4f} {score.unit} over {score.n:,}")
        for name, value in result.statistics.items():
            print(f"  {name:<24} {value:.1f}")
        for layer in result.spans:
            print(
                f"  spans of layer {layer.layer}: mean {layer.mean:.1f}, "
                f"10 % {layer.p10:.1f}, 50 % {layer.p50:.1f}, 90 % {layer.p90:.1f} tokens"
            )
    print(
        json.dumps(
            {
                "cell": result.spec.id,
                "split": args.split,
                "spans": args.spans,
                "max_span": args.max_span,
                "untrained": args.untrained,
                "metric": main.metric,
                "value": main.value,
                "unit": main.unit,
                "n": main.n,
                "scores": [dataclasses.asdict(score) for score in result.scores],
                "statistics": result.statistics,
                "layers": [dataclasses.asdict(layer) for layer in result.spans],
            }
        )
    )
    return 0
