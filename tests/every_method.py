"""All methods as parameters of a test, most of them only where the slow tests run too.

For tests of what lies around methods (training, acting, the clock), which differ by method little; what each method
computes is tested by default for all.
"""

from __future__ import annotations

from typing import Any

import pytest

from models.registry import METHODS

BY_DEFAULT = ("transformer_xl", "expire_span", "memory_transformer")
"""A window, memories that expire one by one in each row, and a choice after each block."""


def slow_unless(by_default: bool) -> list[pytest.MarkDecorator]:
    """The marks of a case."""
    return [] if by_default else [pytest.mark.slow]


def every_method(*by_default: str) -> list[Any]:
    """All methods; those that are not among `by_default` (or BY_DEFAULT) are slow tests."""
    return [
        pytest.param(name, marks=slow_unless(name in (by_default or BY_DEFAULT)), id=name) for name in METHODS.names()
    ]
