"""Attention maps of a predictor: which parameters' maps tell most, and a picture of them over the RAW (figure 6)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from drivers.frames import RawFrame


def most_concentrated(maps: np.ndarray, names: list[str], count: int = 5, held: Collection[str] = ()) -> list[str]:
    """The parameters whose maps are the least even (lowest entropy), in the order of the space; none that is held.

    Args:
        maps: ``float [N, h, w]``, each summing to 1.
        names: of the N parameters.
        count: how many.
        held: those that training held, whose maps say nothing.
    """
    entropy = -(maps * np.log(np.maximum(maps, 1e-12))).sum(axis=(1, 2))
    order = [i for i in np.argsort(entropy, kind="stable") if names[i] not in held]
    return [names[i] for i in sorted(order[:count])]


def draw_attention(
    raw: RawFrame, maps: np.ndarray, names: list[str], chosen: list[str], path: Path, title: str
) -> None:
    """The RAW and, over it, the attention maps of the chosen parameters (figure 6), as one PNG.

    Args:
        raw: the RAW; shown with a plain grey-world balance and gamma.
        maps: ``float [N, h, w]``, each summing to 1.
        names: of the N parameters; ``chosen``: those to draw.
        path: of the PNG; ``title``: above the picture.
    """
    import cv2
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from drivers.atomic_files import written
    from workbench.draw.figure_texts import plain_texts
    from workbench.draw.style import plain_style

    planes = raw.planes()
    step = max(1, max(planes.shape[1:]) // 640)
    image = np.clip(planes[:, ::step, ::step].transpose(1, 2, 0), 0, None)
    image *= image.mean() / np.maximum(image.mean(axis=(0, 1)), 1e-6)
    image = np.clip(image / max(float(np.percentile(image, 99)), 1e-6), 0, 1) ** (1 / 2.2)
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    height, width = image.shape[:2]
    columns = min(len(chosen) + 1, 3)
    rows = -(-(len(chosen) + 1) // columns)
    with plain_style():
        figure = Figure(figsize=(4.2 * columns, (4.2 * height / width + 0.5) * rows + 0.4), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axis in axes:
            axis.axis("off")
        axes[0].imshow(image)
        axes[0].set_title("RAW, grey-world")
        for axis, name in zip(axes[1:], chosen, strict=False):
            weights = maps[names.index(name)]
            # 1 is an even map: what stands out is where the network looked more than elsewhere.
            relative = cv2.resize(weights * weights.size, (width, height), interpolation=cv2.INTER_LINEAR)
            axis.imshow(grey)
            map_drawn = axis.imshow(relative, cmap="inferno", alpha=0.6, vmin=0, vmax=max(2.0, float(relative.max())))
            axis.set_title(name.replace("_", " "))
            figure.colorbar(map_drawn, ax=axis, shrink=0.8, label="times an even map")
        figure.suptitle(title, parse_math=False)
        plain_texts(figure)
        with written(path) as file:
            canvas.print_png(file)
