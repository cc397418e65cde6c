"""A plot of the figures of `benchmarks.engine`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLOURS = {"tintype": "#1f5f8b"}
OTHERS = "#b9b4ac"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Bars of each figure's pictures a second: the engine's and, below it, its rival's, the faster one being full."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.fonttype"] = "none"  # text stays text
    figures = report["figures"]
    canvas, axes = plt.subplots(figsize=(9, 0.62 * len(figures) + 0.8), layout="constrained")
    for index, figure in enumerate(figures):
        fastest = max(seen["images_per_s"] for seen in figure["contestants"].values())
        for offset, (name, seen) in enumerate(figure["contestants"].items()):
            share, height = seen["images_per_s"] / fastest, index - 0.19 + 0.38 * offset
            axes.barh(height, share, 0.36, color=COLOURS.get(name, OTHERS))
            axes.text(share + 0.01, height, f"{name}  {seen['images_per_s']:.2f}/s", va="center", size=8)
        axes.text(1.42, index, f"{figure['ratio']:.2f}×", va="center", ha="right", size=11, weight="bold")
    axes.set_yticks(range(len(figures)), [figure["name"] for figure in figures], size=9)
    axes.tick_params(length=0)
    axes.set_xlim(0, 1.43)
    axes.set_xticks([])
    axes.invert_yaxis()
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"Pictures a second on {report['device']}, {report['dtype']}", size=10, loc="left")
    canvas.savefig(path)
    plt.close(canvas)
