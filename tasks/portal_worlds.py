"""Portals: find out by trial which of two doors of a room leads on, and remember it.

Rooms in a chain, each of s x s floor cells inside walls, with two doors of colours 0 and 1 in two cells drawn anew for
every room and episode. In each room one of the colours leads on and the other back to the first room; which is drawn
per room and episode, and then fixed. Entering a door puts the agent at the centre of the next or of the first room. It
sees the 3 x 3 cells around it, wall, floor or a door of a colour, and the room's number. An episode ends after the last
room, after a second mistake in one room, or at the horizon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from tasks.portal_ways import ways
from tasks.world_draws import uniform, whole
from tasks.worlds import MOVES, Worlds

WALL, FLOOR, DOOR = 0, 1, 2


class PortalWorlds(Worlds):
    """A batch of chains of rooms.

    Args:
        rooms: how many; size: s, odd, at least 3.
        doors: where doors are: ``wall`` (in the walls, not in corners) or ``floor`` (on the floor, not at the centre).
        horizon: steps of an episode.
        count, first, device: see `Worlds`.
    """

    actions = 4
    observation_shape = (10,)
    state = ("door", "onward", "room", "place", "mistakes", "passed")

    def __init__(
        self,
        rooms: int,
        size: int,
        doors: Literal["wall", "floor"],
        horizon: int,
        count: int,
        first: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(count, first, device)
        self.rooms, self.size, self.doors, self.horizon = rooms, size, doors, horizon
        self.symbols = (4,) * 9 + (rooms,)
        self.side = size + 2  # with walls
        cell = torch.arange(self.side**2, device=self.device)
        row, column = cell // self.side, cell % self.side
        last = self.side - 1
        wall_row, wall_column = (row == 0) | (row == last), (column == 0) | (column == last)
        self.floor = ~(wall_row | wall_column)
        self.centre = (self.side**2 - 1) // 2
        allowed = (wall_row ^ wall_column) if doors == "wall" else self.floor.clone()
        allowed[self.centre] = False
        self.allowed = allowed.nonzero()[:, 0]  # cells that may be a door

    def begin(self, key: Tensor) -> None:
        rooms, places = self.rooms, len(self.allowed)
        one = whole(key, 0, rooms, places)
        other = (one + 1 + whole(key, rooms, rooms, places - 1)) % places
        self.door = self.allowed[torch.stack([one, other], dim=2)]  # [B, rooms, 2] cells, by colour
        self.onward = (uniform(key, 2 * rooms, rooms) < 0.5).long()  # [B, rooms] the colour that leads on
        self.room = torch.zeros(self.count, dtype=torch.long, device=self.device)
        self.place = torch.full_like(self.room, self.centre)
        self.mistakes = torch.zeros(self.count, rooms, dtype=torch.long, device=self.device)
        self.coin = torch.zeros_like(self.room)
        self.passed = torch.zeros_like(self.room)  # rooms passed, which is what an episode is worth
        # Of each room [B, rooms], -1 where there was none: the step of the mistake, how many steps later the agent was
        # back, and whether its second try was right. Nothing that happens depends on them.
        self.mistaken_at = torch.full_like(self.mistakes, -1)
        self.since, self.second_try = self.mistaken_at.clone(), self.mistaken_at.clone()

    def act(self, action: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        offset = torch.tensor([row * self.side + column for row, column in MOVES], device=self.device)
        doors = self._here(self.door)  # [B, 2]
        target = self.place + offset[action]
        through = (target[:, None] == doors) & alive[:, None]
        moved = alive & (self.floor[target] | through.any(1))
        place = torch.where(moved, target, self.place)
        entered = through.any(1)
        index = torch.arange(self.count, device=self.device)
        mistaken_at, since = self._here(self.mistaken_at), self._here(self.since)
        back = alive & (mistaken_at >= 0) & (since < 0)
        self.since[index, self.room] = torch.where(back, self.time - mistaken_at, since)
        right = entered & (through[:, 1].long() == self._here(self.onward))
        wrong = entered & ~right
        first = right & (self.room == self.passed)
        self.passed = self.passed + first.long()
        again = entered & (mistaken_at >= 0) & (self._here(self.second_try) < 0)
        self.second_try[index, self.room] = torch.where(again, right.long(), self._here(self.second_try))
        self.mistaken_at[index, self.room] = torch.where(wrong & (mistaken_at < 0), self.time, mistaken_at)
        self.mistakes = self.mistakes.scatter_add(1, self.room[:, None], wrong.long()[:, None])
        ends = (right & (self.room == self.rooms - 1)) | (wrong & (self._here(self.mistakes) >= 2))
        room = torch.where(right, (self.room + 1).clamp(max=self.rooms - 1), torch.where(wrong, 0, self.room))
        self.room = torch.where(ends, self.room, room)
        self.place = torch.where(entered, self.centre, place)
        return first.float(), ends

    def _here(self, by_room: Tensor) -> Tensor:
        """What [B, rooms, ...] says of the room that each world is in."""
        return by_room[torch.arange(self.count, device=self.device), self.room]

    def observe(self) -> Tensor:
        around = torch.tensor(
            [row * self.side + column for row in (-1, 0, 1) for column in (-1, 0, 1)], device=self.device
        )
        cell = self.place[:, None] + around  # [B, 9]
        seen = torch.where(self.floor[cell], FLOOR, WALL)
        doors = self._here(self.door)
        for colour in range(2):
            seen = torch.where(cell == doors[:, colour : colour + 1], DOOR + colour, seen)
        return torch.cat([seen, self.room[:, None]], dim=1)

    def oracle(self, state: Mapping[str, Tensor]) -> Tensor:
        index = torch.arange(self.count, device=self.device)
        room = state["room"]
        return self._towards(state["door"][index, room], state["place"], state["onward"][index, room])

    def reactive(self, draws: torch.Generator) -> Tensor:
        """A coin at the centre of each room decides which door, and is kept until it is reached.

        What a policy without memory can have, or more: one of its own could lose sight of the door on the way.
        """
        coin = torch.randint(2, (self.count,), generator=draws).to(self.device)
        self.coin = torch.where(self.place == self.centre, coin, self.coin)
        return self._towards(self._here(self.door), self.place, self.coin)

    def _towards(self, doors: Tensor, place: Tensor, colour: Tensor) -> Tensor:
        """Actions [B] on a shortest way to the door of a colour [B] that does not enter the other one.

        Args:
            doors: [B, 2] cells of the room's doors, by colour; place: [B] the agent's cell.
        """
        index = torch.arange(self.count, device=self.device)
        numbers = torch.searchsorted(self.allowed, doors)
        table = ways(self.side, tuple(self.allowed.tolist())).to(self.device)
        return table[numbers[index, colour], numbers[index, 1 - colour], place]

    def drawn(self) -> str:
        """The first world's room as text: ``#`` wall, ``.`` floor, 0 and 1 doors, ``@`` the agent; and where it is."""
        cells = ["." if floor else "#" for floor in self.floor.tolist()]
        for colour, cell in enumerate(self._here(self.door)[0].tolist()):
            cells[cell] = str(colour)
        cells[int(self.place[0])] = "@"
        lines = ["".join(cells[row * self.side : (row + 1) * self.side]) for row in range(self.side)]
        lines[0] += f"   room {int(self.room[0]) + 1} of {self.rooms}, {int(self.passed[0])} passed"
        return "\n".join(lines)
