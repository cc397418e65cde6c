"""The engine beside its rivals: the same random weights, prompts, seeds, sampler and sizes, in turns within one run.

    python -m benchmarks.engine [--rounds 3] [--only uniform,loras,mixed,poisson,comfy] [--out FILE.json] [--plot FILE]

Needs the extra `bench` (peft, for LoRAs in diffusers; matplotlib). Each figure is the median over rounds of the ratio
between two runs that followed each other, A B B A, so that a machine that changes its speed changes both. `comfy` needs
a ComfyUI at COMFYUI_URL; `--shape sdxl` takes the real architecture, for a GPU.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks import engine_duels, engine_models, engine_plot, engine_report, engine_traces, engine_utilisation
from benchmarks.engine_comfy import Comfy
from benchmarks.engine_contestants import Diffusers, OneAtATime, Ours
from benchmarks.engine_duels import Duel

SIDES = {"tiny": "64,128,256", "sdxl": "512,1024"}
CLIENTS = {"tiny": "1,4,8,16", "sdxl": "1,8"}
STEPS = {"tiny": 20, "sdxl": 30}
LONG_SIDE = 256
"""From here on each client asks once a run, not twice."""
COMFY_SIDES, COMFY_CLIENTS, COMFY_STEPS = (64, 128), (1, 8), 8
LORAS = 8
GOALS = {
    "uniform 64 c=8": 2.0,
    "uniform 128 c=8": 2.0,
    "uniform 256 c=8": 0.97,
    "loras c=8": 3.0,
    "mixed c=16, beside itself one at a time": 1.7,
    "comfyui 64 c=8": 3.0,
    "comfyui 128 c=8": 3.0,
}
"""Ratios to reach; those of the large sizes of `sdxl` depend on the GPU."""


def main() -> None:
    """Run what was asked for, print and write the figures."""
    options = _options()
    _quieten()
    with tempfile.TemporaryDirectory() as home:
        ours = Ours(Path(home), threads=options.threads)
        device = ours.runner.device
        peak = engine_utilisation.peak(device)
        machine = engine_report.machine(device.label, device.dtype)
        figures = {figure["name"]: figure for figure in _kept(options.out)}
        for duel in _duels(options, ours):
            figure = engine_utilisation.add(engine_duels.fight(duel, options.rounds), duel.asked[0], device, peak)
            figures[duel.name] = figure
            print(engine_report.line(figure, GOALS), flush=True)
            report = {**machine, "peak_flops": peak, "figures": list(figures.values())}
            if options.out:
                options.out.write_text(json.dumps(report, indent=2))
            if options.plot:
                engine_plot.draw(report, options.plot)


def _kept(path: Path | None) -> list[dict[str, Any]]:
    """The figures of earlier runs, for all of them take longer than many a machine stays quiet."""
    return json.loads(path.read_text())["figures"] if path and path.exists() else []


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SIDES), default="tiny", help="of the model; sdxl is for a GPU")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of A B B A")
    parser.add_argument("--only", default="uniform,loras,mixed,poisson", help="which workloads, by comma")
    parser.add_argument("--sides", help="sides in pixels of `uniform` and `comfy`, by comma")
    parser.add_argument("--clients", help="clients of `uniform` and `comfy`, by comma")
    parser.add_argument("--threads", type=int, default=0, help="on a CPU, for all; 0 lets each take its fastest")
    parser.add_argument("--models", type=Path, default=Path(tempfile.gettempdir()) / "tintype-bench-models")
    parser.add_argument("--merges", type=Path, help="CLIP's merges.txt, for `comfy`")
    parser.add_argument("--comfy-checkpoint", default="tintype-bench.safetensors", help="its name in ComfyUI")
    parser.add_argument(
        "--out", type=Path, help="file for all figures, as JSON; those it has stay, but for the same again"
    )
    parser.add_argument("--plot", type=Path, help="file for a plot of them, .svg or .png")
    return parser.parse_args()


def _duels(options: argparse.Namespace, ours: Ours) -> Iterator[Duel]:
    device, only = ours.runner.device, options.only.split(",")
    theirs = Diffusers(device.name, device.dtype, threads=options.threads)
    if "uniform" in only:
        yield from _uniform(options, ours, theirs)
    if "comfy" in only:
        yield from _comfy(options, ours)
    if options.shape == "tiny" and {"loras", "mixed", "poisson"} & set(only):
        yield from _adapted_and_mixed(options, only, ours, theirs)


def _uniform(options: argparse.Namespace, ours: Ours, theirs: Diffusers) -> Iterator[Duel]:
    write = engine_models.write_tiny if options.shape == "tiny" else engine_models.write_sdxl
    model = engine_traces.model(write(options.models / options.shape), family=engine_models.FAMILIES[options.shape])
    for side in map(int, (options.sides or SIDES[options.shape]).split(",")):
        for clients in map(int, (options.clients or CLIENTS[options.shape]).split(",")):
            count = max(clients * (1 if side >= LONG_SIDE else 2), 4)
            asked = engine_traces.uniform(model, count=count, side=side, steps=STEPS[options.shape])
            yield Duel(name=f"uniform {side} c={clients}", asked=asked, clients=clients, first=ours, second=theirs)


def _comfy(options: argparse.Namespace, ours: Ours) -> Iterator[Duel]:
    if options.merges is None:
        sys.exit("give --merges: CLIP's merges.txt, which ComfyUI has as comfy/sd1_tokenizer/merges.txt")
    folder = engine_models.write_for_comfy(options.models / "comfy", options.merges)
    if "COMFYUI_URL" not in os.environ:
        sys.exit(
            f"set COMFYUI_URL to a running ComfyUI that has {folder / 'single' / 'model.safetensors'} among its "
            f"checkpoints as {options.comfy_checkpoint}"
        )
    rival = Comfy(os.environ["COMFYUI_URL"], options.comfy_checkpoint)
    model = engine_traces.model(folder / "diffusers")
    for side in map(int, options.sides.split(",")) if options.sides else COMFY_SIDES:
        for clients in map(int, options.clients.split(",")) if options.clients else COMFY_CLIENTS:
            asked = engine_traces.uniform(model, count=max(clients, 4), side=side, steps=COMFY_STEPS)
            yield Duel(name=f"comfyui {side} c={clients}", asked=asked, clients=clients, first=ours, second=rival)


def _adapted_and_mixed(options: argparse.Namespace, only: list[str], ours: Ours, theirs: Diffusers) -> Iterator[Duel]:
    folders = [engine_models.write_tiny(options.models / name, seed=seed) for seed, name in ((1, "tiny"), (2, "two"))]
    models = [engine_traces.model(folder) for folder in folders]
    loras = [
        engine_traces.model(engine_models.write_lora(options.models / f"lora-{index}", seed=100 + index))
        for index in range(LORAS)
    ]
    if "loras" in only:
        asked = engine_traces.adapted(models[0], loras, count=2 * LORAS, side=64, steps=STEPS["tiny"])
        keeping = Diffusers(theirs.device, theirs.dtype, threads=options.threads, keeps_loras=True)
        yield Duel(name=f"loras c={LORAS}", asked=asked, clients=LORAS, first=ours, second=theirs)
        yield Duel(name=f"loras c={LORAS}, all kept loaded", asked=asked, clients=LORAS, first=ours, second=keeping)
    trace, alone = engine_traces.mixed(models, loras, count=64, seed=7), OneAtATime(ours)
    if "mixed" in only:
        name = "mixed c=16, beside itself one at a time"
        yield Duel(name=name, asked=trace, clients=16, first=ours, second=alone)
        yield Duel(name="mixed c=16", asked=trace, clients=16, first=ours, second=theirs)
    if "poisson" in only:
        ours.learn(trace, clients=16)
        capacity_per_s = engine_traces.run(alone, trace[:24], clients=4).per_s()
        for share in (0.8, 1.2):
            asked = engine_traces.as_poisson(trace, per_s=share * capacity_per_s, seed=11)
            name = f"poisson, {share} of what one at a time can do"
            yield Duel(name=name, asked=asked, clients=len(asked), first=ours, second=alone)


def _quieten() -> None:
    warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    logging.disable(logging.WARNING)
    torch.set_grad_enabled(mode=False)


if __name__ == "__main__":
    main()
