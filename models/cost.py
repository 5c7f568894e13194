"""What a method's layer costs, as formulas that its CARD states: `list` prints them, cells count with them.

A CARD may have `cost`, floating-point operations per token read (a product and its sum count two), and `state`, numbers
carried per stream; of one layer, without what surrounds it and without auxiliary losses, as the impl `reference`
computes a full block. Products of matrices count, what is done element by element does not.
They are arithmetic on

    E, H, D, T, F, B  width, heads, head width, block length, feed-forward width, rows that are read together
    S                 slots of memory allocated, as measured (Adaptive-Span, which has a reserve, computes with fewer)
    other names       what `symbols` in the CARD says they are, in its order: arithmetic on fields of Settings

where `a if b == c else d`, `a or b`, min, max, round and log may stand, as in ``"4 * E * H * D * (L + T) / T"`` with
``{"L": "memory_length"}``.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from models.mixer import Sizes

_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"min": min, "max": max, "round": round, "log": math.log}

Names = Mapping[str, Any]


class NotAFormula(ValueError):
    """A text that is no arithmetic on known names."""


def value(formula: str, names: Names) -> Any:
    """What a formula comes to. Raises NotAFormula, which names the part that is none."""
    try:
        tree = ast.parse(formula, mode="eval").body
    except SyntaxError as error:
        raise NotAFormula(f"{formula!r} is no arithmetic") from error
    return _value(tree, names)


def sizes_of(sizes: Sizes, rows: int) -> Names:
    """The letters E, H, D, T, F, B of formulas, for layers of these sizes that read `rows` rows together."""
    return {
        "E": sizes.width,
        "H": sizes.heads,
        "D": sizes.head_dim,
        "T": sizes.block_length,
        "F": sizes.feedforward,
        "B": rows,
    }


def flops_per_token(card: Names, settings: Names, sizes: Names, slots: float) -> float | None:
    """Operations of one layer per token in the forward pass; None where the card states no `cost`.

    Args:
        card: the method's CARD.
        settings: the fields of its Settings.
        sizes: E, H, D, T, F, B, as `sizes_of` gives them.
        slots: S.
    """
    return _of("cost", card, settings, {**sizes, "S": slots})


def state_numbers(card: Names, settings: Names, sizes: Names, slots: float) -> float | None:
    """Numbers that one layer carries per stream between blocks; None where the card states no `state`."""
    return _of("state", card, settings, {**sizes, "S": slots})


def _of(what: str, card: Names, settings: Names, sizes: Names) -> float | None:
    if what not in card:
        return None
    fields = {**settings, **sizes}
    for name, meaning in card.get("symbols", {}).items():
        fields[name] = value(meaning, fields)
    return float(value(card[what], fields))


def _value(node: ast.expr, names: Names) -> Any:
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            one, other = _value(left, names), _value(right, names)
            try:
                return _OPERATORS[type(op)](one, other)
            except (TypeError, ZeroDivisionError) as error:
                raise NotAFormula(f"{ast.unparse(node)!r} cannot be computed: {error}") from error
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(one, names) for one in args))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body if _value(test, names) else orelse, names)
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return _value(left, names) == _value(right, names)
        case ast.BoolOp(op=ast.Or(), values=values):
            found = [_value(one, names) for one in values]
            return next((one for one in found if one), found[-1])
    raise NotAFormula(f"{ast.unparse(node)!r} is no arithmetic on {', '.join(sorted(names))}")
