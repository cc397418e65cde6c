"""Pictures that steer a UNet: ControlNets, which look at every step, and T2I-Adapters, which look once.

Both add to what the UNet has in its blocks. In a batch, only the lines that want a network go through it; what comes
out is added to their places and zeros to all others, which changes nothing there.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tintype.engine import devices, preprocessing
from tintype.engine.control_networks import ControlNetworks
from tintype.engine.devices import Device
from tintype.engine.family import Line, RequestUnsuitableError, Steering, Words
from tintype.providers.contract import Control, GenerationRequest

UNION = "ControlNetUnionModel"
NETWORKS = ("ControlNetModel", UNION, "T2IAdapter")
MODES = {"pose": 0, "depth": 1, "scribble": 2, "canny": 3, "tile": 6}
"""What a union of many ControlNets calls the types of its pictures (github.com/xinsir6/ControlNetPlus)."""


class Controls:
    """The steering networks of one model, loaded when they are first asked for."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._networks = ControlNetworks(NETWORKS, device)

    @torch.inference_mode()
    def prepare(self, request: GenerationRequest, width: int, height: int) -> tuple[Steering, ...]:
        """The controls of a request in the size of the picture.

        Raises:
            ModelBrokenError: a network cannot be loaded.
            ControlNotReadyError: a control is a photograph, and no companion makes its drawing.
            RequestUnsuitableError: a union of many does not know this type of control.
        """
        found: list[Steering] = []
        for control in request.controls:
            shown = preprocessing.prepare(control, (height, width), request.companions)
            drawing = torch.from_numpy(shown).to(self._device.name)
            network = self._networks.take_in(control.model)
            picture = drawing.permute(2, 0, 1)[None].float() / 255
            found.append(
                Steering(
                    network=control.model.id,
                    picture=picture,
                    strength=control.strength,
                    start=control.start,
                    end=control.end,
                    features=self._look_once(network, picture),
                    mode=_mode(network, control),
                )
            )
        return tuple(found)

    def residuals(self, lines: Sequence[Line], sample: Tensor, timesteps: Tensor, words: Words) -> dict[str, Any]:
        """What the UNet is to add, as its arguments, none where nothing steers.

        `sample` and each of `words` have one row for each line.
        """
        down: list[Tensor] | None = None
        features: list[Tensor] | None = None
        for name in dict.fromkeys(each.network for line in lines for each in line.steering):
            wanting = [(row, each) for row, line in enumerate(lines) for each in line.steering if each.network == name]
            rows = devices.numbers([row for row, _ in wanting], self._device.name, dtype=torch.int64)
            strengths = devices.numbers([each.strength for _, each in wanting], self._device.name, dtype=sample.dtype)
            add = partial(_scatter, rows=rows, strengths=strengths[:, None, None, None], lines=len(lines))
            if wanting[0][1].features:
                each_level = zip(*(each.features for _, each in wanting), strict=True)
                features = add(features, [torch.cat(level) for level in each_level])
            else:
                down = add(down, self._look(name, rows, [each for _, each in wanting], sample, timesteps, words))
        return _arguments(down, features)

    def _look(
        self,
        name: str,
        rows: Tensor,
        wanting: Sequence[Steering],
        sample: Tensor,
        timesteps: Tensor,
        words: Words,
    ) -> list[Tensor]:
        network = self._networks.get(name)
        conditions = {key: words[key][rows] for key in ("text_embeds", "time_ids") if key in words}
        pictures = torch.cat([each.picture for each in wanting]).to(sample.dtype)
        shown: dict[str, Any] = {"controlnet_cond": pictures}
        if network.config["_class_name"] == UNION:
            modes = devices.numbers([each.mode for each in wanting], self._device.name, dtype=torch.int64)
            known = functional.one_hot(modes, network.config["num_control_type"]).to(sample.dtype)
            shown = {"controlnet_cond": [pictures], "control_type": known, "control_type_idx": [modes]}
        down, middle = network(
            sample[rows],
            timesteps[rows],
            encoder_hidden_states=words["encoder_hidden_states"][rows],
            added_cond_kwargs=conditions or None,
            return_dict=False,
            **shown,
        )
        return [*down, middle]

    def _look_once(self, network: Any, picture: Tensor) -> tuple[Tensor, ...]:
        if network.config["_class_name"] != "T2IAdapter":
            return ()
        channels: int = network.config["in_channels"]
        return tuple(network(picture[:, :channels].to(self._device.dtype)))


def _mode(network: Any, control: Control) -> int:
    if network.config["_class_name"] != UNION:
        return 0
    mode = MODES[control.type]
    if mode >= network.config["num_control_type"]:
        raise RequestUnsuitableError(
            f"{control.model.id} knows no {control.type} controls; leave it out or choose another ControlNet"
        )
    return mode


def _scatter(
    sums: list[Tensor] | None, found: Sequence[Tensor], *, rows: Tensor, strengths: Tensor, lines: int
) -> list[Tensor]:
    """`found`, each times its strength, added to the rows it belongs to."""
    sums = sums or [level.new_zeros(lines, *level.shape[1:]) for level in found]
    return [total.index_add(0, rows, level * strengths) for total, level in zip(sums, found, strict=True)]


def _arguments(down: list[Tensor] | None, features: list[Tensor] | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if down is not None:
        arguments["down_block_additional_residuals"] = tuple(down[:-1])
        arguments["mid_block_additional_residual"] = down[-1]
    if features is not None:
        arguments["down_intrablock_additional_residuals"] = features
    return arguments
