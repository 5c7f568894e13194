"""One world of object_collision, step by step in plain Python, as its description reads; meant to be obvious."""

from __future__ import annotations

from collections.abc import Iterator

from tasks import collision_draws


def velocity_draws(key: int, particle: int) -> Iterator[list[float]]:
    block = 0
    while True:
        yield from collision_draws.velocities(key, particle, block).tolist()
        block += 1


def world(
    key: int, steps: int, grid: int, colours: int, change: float = 0.05, recent: float = 0.4, speed: float = 0.5
) -> Iterator[tuple[list[int], int, int]]:
    """For each step its 8 tokens, the answer's class (0 if there is none) and its age in steps (-1)."""
    limit = grid - 1
    start = collision_draws.start(key)
    place = [[limit * float(u) for u in start.place[particle]] for particle in range(2)]
    velocity = [[speed * float(z) for z in start.velocity[particle]] for particle in range(2)]
    colour = [int(colours * u) for u in start.colour]
    draws = [velocity_draws(key, particle) for particle in range(2)]
    latest: tuple[int, int] | None = None
    record: dict[tuple[int, int], tuple[int, int]] = {}
    for step, numbers in enumerate(collision_draws.steps(key, 0, steps).tolist()):
        for particle in range(2):
            while not all(0 < x + v < limit for x, v in zip(place[particle], velocity[particle], strict=True)):
                velocity[particle] = [speed * z for z in next(draws[particle])]
            place[particle] = [x + v for x, v in zip(place[particle], velocity[particle], strict=True)]
            if numbers[particle] < change:
                colour[particle] = int(numbers[particle] / change * colours)
        cell = [[round(x) for x in place[particle]] for particle in range(2)]
        if cell[0] == cell[1]:
            latest = (colour[0], colour[1])
            x, y = cell[0]
            record[latest] = (step, 1 + (x >= grid // 2) + 2 * (y >= grid // 2))
        if numbers[2] < recent and latest is not None:
            asked = latest
        else:
            number = int(numbers[3] * colours**2)
            asked = (number // colours, number % colours)
        tokens = []
        for particle in range(2):
            x, y = cell[particle]
            tokens += [x, grid + y, 2 * grid + colour[particle]]
        tokens += [2 * grid + colours + asked[0], 2 * grid + colours + asked[1]]
        when, answer = record.get(asked, (step + 1, 0))
        yield tokens, answer, step - when
