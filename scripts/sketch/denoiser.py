"""The denoiser: a small multimodal diffusion transformer, trained with its text encoder by flow matching.

At noise level s (0 clean, 1 noise) it sees (1 - s) * latents + s * noise and predicts noise - latents.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

from . import attention, autoencoder, hardware, latents, tokens, wording
from .meaning import Scene
from .orthogonal import Muon

CHECKPOINT = "denoiser.pt"
WIDTH, LAYERS, HEADS = 192, 6, 3
# Share of sentences that are emptied, so that guidance has an unconditional prediction to start from.
DROPPED = 0.1
# Until this share of the time there is only the native size and the first shift; after it, this share of batches has
# other sizes.
NATIVE_UNTIL, OTHER_SHARE = 0.8, 0.3
LAST_AVERAGE = 0.9985
# Noise levels are shifted towards noise: flat pictures show through until about 0.8, and only above that does the
# network need the sentence to tell what to draw. Without a shift one sample in twelve taught it anything about words.
# It starts high, for what to draw, and ends low, for how crisply.
SHIFT, LAST_SHIFT = 6.0, 3.0
# Share of the scenes in a shard that are passed over, first and last: figures are harder.
PASSED_SCENES, LAST_PASSED_SCENES = 0.75, 0.5


class Network(nn.Module):
    """The transformer and the text encoder, trained as one."""

    def __init__(self, vocabulary_size: int, channels: int = autoencoder.LATENT_CHANNELS) -> None:
        super().__init__()
        self.text_encoder = tokens.build_text_encoder(vocabulary_size)
        self.transformer = SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=channels,
            out_channels=channels,
            num_layers=LAYERS,
            attention_head_dim=WIDTH // HEADS,
            num_attention_heads=HEADS,
            joint_attention_dim=tokens.WIDTH,
            caption_projection_dim=WIDTH,
            pooled_projection_dim=tokens.WIDTH,
            pos_embed_max_size=16,
            qk_norm="rms_norm",
        )

    def forward(self, noisy: Tensor, level: Tensor, ids: Tensor) -> Tensor:
        """Give the predicted velocity; noisy N x C x H x W, level N in 0 to 1, ids N x tokens.LENGTH."""
        text = self.text_encoder(input_ids=ids)
        return self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=text.last_hidden_state,
            pooled_projections=text.pooler_output,
            timestep=level * 1000,
        ).sample


@dataclass(kw_only=True)
class Shelf:
    """The shards at hand, read again now and then because another process may still be drawing."""

    folder: Path
    native: list[dict[str, Any]]
    other: list[dict[str, Any]]
    seen: set[str]

    def refresh(self) -> None:
        """Load shards that are new."""
        for path in sorted(self.folder.glob("*.pt")):
            if path.name not in self.seen:
                shard = hardware.load(path)
                if shard is None:
                    continue
                (self.native if tuple(shard["size"]) == latents.NATIVE else self.other).append(shard)
                self.seen.add(path.name)


def train(run: hardware.Run, *, rate: float = 5e-3) -> None:
    """Train for the run's minutes, or go on where the last part stopped; checkpoints every four minutes."""
    torch.manual_seed(0)
    shelf = Shelf(folder=latents.folder_of(run.folder), native=[], other=[], seen=set())
    shelf.refresh()
    if not shelf.native:
        raise FileNotFoundError(f"{shelf.folder}: draw the latents first")
    tokenizer = tokens.build_tokenizer()
    network = Network(len(tokenizer), shelf.native[0]["latents"].shape[1]).to(run.device)
    average = Network(len(tokenizer), shelf.native[0]["latents"].shape[1]).to(run.device)
    average.load_state_dict(network.state_dict())
    optimisers = _optimisers(network, rate)
    step, before = 0, 0.0
    if state := hardware.load(run.folder / CHECKPOINT):
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        for (optimiser, _), kept in zip(optimisers, state["optimisers"] or [], strict=bool(state["optimisers"])):
            optimiser.load_state_dict(kept)
        step, before = state["step"], state["minutes"]
    rng = random.Random(step)
    torch.manual_seed(step)
    running, saved = 1.0, 0.0
    stop = hardware.listen()
    while (share := run.spent_share(before)) < 1 and not stop.is_set():
        fade = min(1.0, (step + 1) / 100) * max(0.01, min(1.0, 2 * (1 - share)))
        hardware.set_rates(optimisers, fade)
        shift = SHIFT if share < NATIVE_UNTIL else LAST_SHIFT
        with attention.plain_on(run.device):
            loss = _loss(network, *_batch(run, shelf, tokenizer, rng, share), shift)
            hardware.descend(network, optimisers, loss)
        step += 1
        _blend(average, network, min(LAST_AVERAGE, (1 + step) / (10 + step)))
        running += 0.02 * (loss.item() - running)
        if step % 100 == 0:
            print(f"denoiser step {step} at {before + run.spent_minutes():.1f} min: {running:.4f}", flush=True)
            shelf.refresh()
        if run.spent_minutes() - saved > 4:
            saved = run.spent_minutes()
            _save(run.folder, network, average, optimisers, step, before + saved)
    _save(run.folder, network, average, optimisers, step, before + run.spent_minutes())


def start(folder: Path, network: Network, minutes: float) -> None:
    """Write the checkpoint of a run that goes on from trained networks, as if they had taken it `minutes`."""
    weights = network.state_dict()
    state = {"network": weights, "average": weights, "optimisers": None, "step": 0, "minutes": minutes}
    hardware.save(state, folder / CHECKPOINT)


def load(folder: Path) -> Network:
    """Give the averaged networks of a run, on the CPU, in evaluation mode."""
    state = hardware.load(folder / CHECKPOINT)
    if state is None:
        raise FileNotFoundError(f"{folder / CHECKPOINT}: train the denoiser first")
    channels = state["average"]["transformer.pos_embed.proj.weight"].shape[1]
    network = Network(len(tokens.build_tokenizer()), channels)
    network.load_state_dict(state["average"])
    return network.eval()


def _optimisers(network: Network, rate: float) -> hardware.Optimisers:
    """Give Muon for the matrices of the transformer's blocks and AdamW for the rest, with their rates."""
    inside = [
        w
        for name, w in network.transformer.named_parameters()
        if name.startswith("transformer_blocks") and w.ndim == 2 and ".norm" not in name
    ]
    chosen = {id(w) for w in inside}
    rest = [w for w in network.parameters() if id(w) not in chosen]
    muon = Muon(inside, lr=rate, precision=torch.bfloat16)
    return [
        (muon, rate),
        (torch.optim.AdamW(rest, 1e-3, betas=(0.9, 0.99), weight_decay=0.0, fused=True), 1e-3),
    ]


def _batch(run: hardware.Run, shelf: Shelf, tokenizer: Any, rng: random.Random, share: float) -> tuple[Tensor, Tensor]:
    """Give clean latents and token ids of pictures of one size, fewer of them the larger they are."""
    passed = PASSED_SCENES if share < NATIVE_UNTIL else LAST_PASSED_SCENES
    other = share > NATIVE_UNTIL and bool(shelf.other) and rng.random() < OTHER_SHARE
    shard = rng.choice(shelf.other if other else shelf.native)
    count = 512 if run.is_gpu else 64
    area = shard["latents"].shape[2] * shard["latents"].shape[3]
    count = max(8, min(count, count * 256 // area))
    chosen: list[int] = []
    while len(chosen) < count:
        index = rng.randrange(len(shard["meanings"]))
        if not isinstance(shard["meanings"][index], Scene) or rng.random() >= passed:
            chosen.append(index)
    sentences = ["" if rng.random() < DROPPED else wording.word(shard["meanings"][index], rng) for index in chosen]
    ids = tokens.encode(tokenizer, sentences)
    return shard["latents"][chosen].float().to(run.device), ids.to(run.device)


def _loss(network: Network, clean: Tensor, ids: Tensor, shift: float) -> Tensor:
    """Give the mean squared error of the velocity; levels are spread logit-normally over the batch, then shifted."""
    count = clean.shape[0]
    even = (torch.arange(count, device=clean.device) + torch.rand(count, device=clean.device)) / count
    level = torch.sigmoid(torch.special.ndtri(even.clamp(1e-4, 1 - 1e-4)))
    level = shift * level / (1 + (shift - 1) * level)
    noise = torch.randn_like(clean)
    s = level.view(-1, 1, 1, 1)
    with torch.autocast(clean.device.type, torch.bfloat16):
        velocity = network((1 - s) * clean + s * noise, level, ids)
    return (velocity.float() - (noise - clean)).square().mean()


@torch.no_grad()
def _blend(average: Network, network: Network, keep: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)


def _save(
    folder: Path,
    network: Network,
    average: Network,
    optimisers: hardware.Optimisers,
    step: int,
    minutes: float,
) -> None:
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser, _ in optimisers],
        "step": step,
        "minutes": minutes,
    }
    hardware.save(state, folder / CHECKPOINT)
