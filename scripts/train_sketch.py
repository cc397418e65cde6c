"""Train the built-in model from pictures that its own grammar draws.

    python scripts/train_sketch.py autoencoder --run DIR --minutes 18
    python scripts/train_sketch.py latents --run DIR --shards 120
    python scripts/train_sketch.py denoiser --run DIR --minutes 85
    python scripts/train_sketch.py decoder --run DIR --minutes 20
    python scripts/train_sketch.py export --run DIR --model tintype/catalog/builtin/sketch

`restore` begins a run from a shipped model (--model) as if its denoiser had trained for --minutes; the denoiser then
goes on from there. `decoder` trains the autoencoder's decoder further, on latents as the denoiser leaves them, without
changing what latents mean. `latents` may go on while the denoiser trains. The minutes above are for one core of a CPU.
Every stage resumes from its checkpoint in DIR. `--device auto` takes a CUDA GPU where there is one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.sketch import hardware

STAGES = ("autoencoder", "decoder", "latents", "denoiser", "export", "restore")


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints and latents")
    parser.add_argument("--minutes", type=float, default=15.0, help="how long the stage trains, resumed parts included")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="compute threads on a CPU")
    parser.add_argument("--shards", type=int, default=20, help="how many files of latents to draw")
    parser.add_argument("--model", type=Path, help="the model folder that `export` writes and `restore` reads")
    options = parser.parse_args()
    device = hardware.choose(options.device, options.threads)
    run = hardware.Run(folder=options.run, device=device, minutes=options.minutes)
    if options.stage == "autoencoder":
        from scripts.sketch import autoencoder

        autoencoder.train(run)
    elif options.stage == "decoder":
        from scripts.sketch import decoder

        decoder.train(run)
    elif options.stage == "latents":
        from scripts.sketch import latents

        latents.draw_shards(run, options.shards)
    elif options.stage == "denoiser":
        from scripts.sketch import denoiser

        denoiser.train(run)
    else:
        from scripts.sketch import export

        if options.model is None:
            parser.error(f"{options.stage} needs --model")
        if options.stage == "restore":
            export.restore(options.model, run.folder, options.minutes)
        else:
            export.export(run.folder, options.model)


if __name__ == "__main__":
    main()
