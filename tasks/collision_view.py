"""Worlds of object_collision for a reader: a few steps drawn as text, and a table of what many worlds are like."""

from __future__ import annotations

from collections.abc import Iterator

from tasks import collision_statistics
from tasks.collision_draws import world_key
from tasks.collision_world import NEVER, Rules, advance, begin

_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CORNERS = {0: "never met", 1: "upper left", 2: "upper right", 3: "lower left", 4: "lower right"}


def drawn_steps(rules: Rules, seed: int, count: int = 6, before: int = 500) -> Iterator[str]:
    """Steps of one world as text: the box, with particle 0 as a capital and particle 1 as a small letter of its colour.

    Args:
        rules: of the world; at most 26 colours.
        seed: which world.
        count: how many steps.
        before: how many steps the world has made already.
    """
    keys = [world_key(seed, "show", 0)]
    state = begin(rules, keys)
    _, state = advance(rules, keys, state, before)
    stretch, _ = advance(rules, keys, state, count)
    for index in range(count):
        tokens = [int(token) for token in stretch.tokens[0, index]]
        colours = [token - 2 * rules.grid for token in (tokens[2], tokens[5])]
        asked = [token - 2 * rules.grid - rules.colours for token in tokens[6:]]
        age = int(stretch.age[0, index])
        when = "" if age == NEVER else f", {age} steps ago"
        pair = f"{_NAMES[asked[0]]}{_NAMES[asked[1]].lower()}"
        yield f"step {before + index}   tokens {' '.join(map(str, tokens))}"
        yield f"  where did {pair} meet last?  {_CORNERS[int(stretch.answer[0, index])]}{when}"
        here = {
            (tokens[0], tokens[1] - rules.grid): _NAMES[colours[0]],
            (tokens[3], tokens[4] - rules.grid): _NAMES[colours[1]].lower(),
        }
        if len(here) == 1:
            here = {place: "*" for place in here}
        for y in range(rules.grid):
            yield "  " + " ".join(here.get((x, y), ".") for x in range(rules.grid))
        yield ""


def show(rules: Rules, seed: int) -> None:
    """Prints some steps; a star is both particles in one cell."""
    for line in drawn_steps(rules, seed):
        print(line)


def print_statistics(rules: Rules, seed: int) -> None:
    """Prints a table of what 256 worlds are like over 120,000 steps, and how fast blocks are read."""
    found = collision_statistics.measure(rules, seed)
    rows = [("collisions", f"{found.collision_rate:.5f} of steps")]
    rows += [
        (f"questions with an answer, steps {low:,}-{high:,}", f"{100 * share:.2f} %")
        for (low, high), share in found.labelled.items()
    ]
    rows.append(("classes 1-4", " ".join(f"{100 * share:.2f}" for share in found.classes) + " %"))
    rows.append(("age of the collision asked for, median", f"{found.age_quantile(0.5):,} steps"))
    rows.append(("                                three quarters within", f"{found.age_quantile(0.75):,} steps"))
    rows += [
        (f"error of a guesser who knows the last {thousands}k tokens", f"{found.guesser_error(1000 * thousands):.1f} %")
        for thousands in (1, 4, 16, 32, 64)
    ]
    measured = collision_statistics.speed(rules)
    rows.append(("tokens per second, 64 rows, one core", f"{measured.tokens_per_second:,.0f}"))
    rows.append(("burn-in of 64 rows, processor time", f"{measured.burn_in_seconds:.1f} s"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
