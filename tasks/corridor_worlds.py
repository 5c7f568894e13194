"""Corridors: see an object at one end, take the door of its colour at the other.

A corridor is one cell wide and l cells long. The wall cell above the first one is the object, of one of C colours; the
cells above and below the last one are doors, one of the object's colour and one of another, in random order. The agent
begins in the first cell. It sees the 3 x 3 cells around it: wall, floor, an object of a colour, a door of a colour.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tasks.world_draws import uniform, whole
from tasks.worlds import Worlds

UP, DOWN, LEFT, RIGHT = range(4)
WALL, FLOOR = 0, 1


class CorridorWorlds(Worlds):
    """A batch of corridors.

    Args:
        shortest, longest: l is uniform in shortest .. longest.
        colours: C, at least 2.
        count, first, device: see `Worlds`.
    """

    actions = 4
    observation_shape = (3, 3)
    state = ("length", "object", "door", "place", "success")

    def __init__(
        self,
        shortest: int,
        longest: int,
        colours: int,
        count: int,
        first: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(count, first, device)
        self.shortest, self.longest, self.colours = shortest, longest, colours
        self.horizon = 2 * longest + 20
        self.symbols = (2 + 2 * colours,) * 9

    def begin(self, key: Tensor) -> None:
        self.length = self.shortest + whole(key, 0, 1, self.longest - self.shortest + 1)[:, 0]
        self.object = whole(key, 1, 1, self.colours)[:, 0]
        other = (self.object + 1 + whole(key, 2, 1, self.colours - 1)[:, 0]) % self.colours
        upper = uniform(key, 3, 1)[:, 0] < 0.5
        # Colours of the doors above and below the last cell, [B, 2].
        self.door = torch.stack([torch.where(upper, self.object, other), torch.where(upper, other, self.object)], 1)
        self.place = torch.zeros_like(self.length)
        self.success = torch.zeros_like(self.ended)

    def act(self, action: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        last = self.place == self.length - 1
        ends = alive & last & (action <= DOWN)
        taken = self.door.gather(1, action.clamp(max=1)[:, None])[:, 0]
        right = ends & (taken == self.object)
        along = torch.where(action == RIGHT, 1, torch.where(action == LEFT, -1, 0)) * alive
        self.place = torch.minimum((self.place + along).clamp(min=0), self.length - 1)
        self.success = self.success | right
        return right.float(), ends

    def observe(self) -> Tensor:
        across = torch.arange(-1, 2, device=self.device)
        column = self.place[:, None] + across  # [B, 3]
        end = column == (self.length - 1)[:, None]
        inside = (column >= 0) & (column < self.length[:, None])
        above = torch.where(column == 0, 2 + self.object[:, None], WALL)
        above = torch.where(end, 2 + self.colours + self.door[:, :1], above)
        below = torch.where(end, 2 + self.colours + self.door[:, 1:], WALL)
        return torch.stack([above, torch.where(inside, FLOOR, WALL), below], dim=1)

    def oracle(self, state: Mapping[str, Tensor]) -> Tensor:
        way = torch.where(state["door"][:, 0] == state["object"], UP, DOWN)
        return torch.where(state["place"] == state["length"] - 1, way, RIGHT)

    def reactive(self, draws: torch.Generator) -> Tensor:
        """Along the corridor, and through either door as a coin falls: the doors do not say which is right."""
        coin = torch.randint(2, (self.count,), generator=draws).to(self.device)
        return torch.where(self.place == self.length - 1, torch.where(coin == 0, UP, DOWN), RIGHT)

    def drawn(self) -> str:
        """The first world as text: ``#`` wall, ``.`` floor, a letter an object, a capital a door, ``@`` the agent."""
        length, place = int(self.length[0]), int(self.place[0])
        upper, lower = ("ABCDEFGHIJ"[int(colour) % 10] for colour in self.door[0])
        above = ["#"] * (length + 2)
        above[1], above[length] = "abcdefghij"[int(self.object[0]) % 10], upper
        floor = ["#", *"." * length, "#"]
        floor[place + 1] = "@"
        below = ["#"] * (length + 2)
        below[length] = lower
        return "\n".join("".join(line) for line in (above, floor, below))
