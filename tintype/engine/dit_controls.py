"""Pictures that steer a diffusion transformer: ControlNets over the latents of a control's picture.

What they say is added after the transformer's blocks. In a batch only the lines that want a network go through it, and
nothing is added to the others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tintype.engine import devices, pictures, preprocessing
from tintype.engine.control_networks import ControlNetworks
from tintype.engine.devices import Device
from tintype.engine.family import Line, Steering
from tintype.providers.contract import GenerationRequest

Added = Mapping[str, Mapping[int, Tensor]]
"""What is added: by the name of the transformer's argument, after which block, [lines, tokens, width]."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a family is steered: the class of its networks, and what one of them says.

    `look` is given the network, lines, their controls' latents, the number of each control's type where a network knows
    several, and strengths [lines, 1, 1]. `modes` are these numbers. `sees_words_once` says that the line without words
    is given what the network says to the line with them.
    """

    class_name: str
    look: Callable[[Any, Sequence[Line], Tensor, Tensor, Tensor], Added]
    encode: Callable[[Tensor, torch.Generator], Tensor]
    modes: Mapping[str, int] = field(default_factory=dict[str, int])
    sees_words_once: bool = True
    adopt: Callable[[Any], Any] | None = None


class Controls:
    """The ControlNets of one model, loaded when they are first asked for."""

    def __init__(self, way: Way, device: Device) -> None:
        self._way = way
        self._device = device
        self._networks = ControlNetworks((way.class_name,), device, adopt=way.adopt)

    def prepare(
        self, request: GenerationRequest, generator: torch.Generator, *, width: int, height: int
    ) -> tuple[Steering, ...]:
        """The controls of a request in the size of the picture, as latents.

        Raises:
            ModelBrokenError: a network cannot be loaded.
            ControlNotReadyError: a control is a photograph, and no companion makes its drawing.
        """
        found: list[Steering] = []
        for control in request.controls:
            shown = preprocessing.prepare(control, (height, width), request.companions)
            pixels = pictures.to_tensor(shown, self._device.name)
            self._networks.take_in(control.model)
            mode = torch.tensor([[self._way.modes.get(control.type, 0)]], device=self._device.name)
            found.append(
                Steering(
                    network=control.model.id,
                    picture=pixels,
                    strength=control.strength,
                    start=control.start,
                    end=control.end,
                    features=(self._way.encode(pixels, generator), mode),
                )
            )
        return tuple(found)

    def added(self, lines: Sequence[Line]) -> Added:
        """What the transformer is to add; nothing where nothing steers."""
        total: dict[str, dict[int, Tensor]] = {}
        for name in dict.fromkeys(each.network for line in lines for each in line.steering):
            wanting = [(row, each) for row, line in enumerate(lines) for each in line.steering if each.network == name]
            for argument, blocks in self._say(name, lines, wanting).items():
                sums = total.setdefault(argument, {})
                for block, said in blocks.items():
                    sums[block] = sums[block] + said if block in sums else said
        return total

    def _say(self, name: str, lines: Sequence[Line], wanting: Sequence[tuple[int, Steering]]) -> Added:
        asked = {self._pair(lines[row], each, row): (row, each) for row, each in wanting}
        said = self._way.look(
            self._networks.get(name),
            [lines[row] for row, _ in asked.values()],
            torch.cat([each.features[0] for _, each in asked.values()]),
            torch.cat([each.features[1] for _, each in asked.values()]),
            devices.numbers([each.strength for _, each in asked.values()], self._device.name)[:, None, None],
        )
        order = list(asked)
        origins = [order.index(self._pair(lines[row], each, row)) for row, each in wanting]
        rows = devices.numbers([row for row, _ in wanting], self._device.name, dtype=torch.long)
        places = devices.numbers(origins, self._device.name, dtype=torch.long)
        placed: dict[int, Tensor] = {}

        def scatter(found: Tensor) -> Tensor:
            """Each to its lines; blocks that are told the same share it."""
            if id(found) not in placed:
                nothing = found.new_zeros(len(lines), *found.shape[1:])
                placed[id(found)] = nothing.index_add(0, rows, found[places])
            return placed[id(found)]

        return {
            argument: {block: scatter(found) for block, found in blocks.items()} for argument, blocks in said.items()
        }

    def _pair(self, line: Line, each: Steering, row: int) -> tuple[int, int]:
        """The same for the lines that a network is asked about once."""
        return (id(line.sample) if self._way.sees_words_once else row, id(each))


def spread(samples: Sequence[Tensor] | None, blocks: int) -> dict[int, Tensor]:
    """What a network with fewer blocks says, for every block of a transformer: each counts for a run of them."""
    if not samples:
        return {}
    run = math.ceil(blocks / len(samples))
    return {block: samples[block // run] for block in range(blocks)}


def listed(added: Added) -> dict[str, list[Tensor]]:
    """What is added after every block, in order, as the transformer's arguments."""
    return {argument: list(blocks.values()) for argument, blocks in added.items() if blocks}
