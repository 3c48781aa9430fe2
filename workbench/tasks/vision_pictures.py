"""Figure 3 of the paper: what a detector sees in the outputs of several methods, a row a RAW, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from workbench.tasks.detectors import Prediction
from workbench.tasks.task import PictureRow
from workbench.tasks.vision import VisionTask

SHOWN_SCORE = 0.3
"""Objects found with this score or more are drawn."""
LARGEST_SIDE = 1024
"""Pixels of the longer side of a picture as it is drawn."""


def drawn(task: VisionTask, rows: Sequence[PictureRow], titles: Sequence[str]) -> str:
    """The objects, and what is found in each output.

    Args:
        task: finds.
        rows: RAWs of :meth:`VisionTask.raws` with an output for each title.
        titles: of the methods.
    """
    from workbench.draw.style import plain_style

    # Names of files and categories are text, whatever dollar signs they hold.
    with plain_style({"text.parse_math": False}):
        return _drawn(task, rows, titles)


def _drawn(task: VisionTask, rows: Sequence[PictureRow], titles: Sequence[str]) -> str:
    from matplotlib.figure import Figure

    from workbench.draw.figure_texts import plain_texts

    titles = ["objects", *titles]
    figure = Figure(figsize=(3 * len(titles), 2.4 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    names = {number: entry["name"] for number, entry in task.data.categories.items()}
    for row, of_raw in zip(axes, rows, strict=True):
        raw = of_raw.raw
        target = task.targets([raw])[raw.hash]
        truth = Prediction(target.boxes, target.boxes.new_ones(len(target.boxes)), target.category_ids, target.masks)
        reference = raw.reference()
        _show(row[0], of_raw.captures[0].rgb().pixels if reference is None else reference, truth, names)
        row[0].set_ylabel(f"{raw.name}\nISO {raw.iso:g}" if raw.iso else raw.name, fontsize=7)
        for axis, capture in zip(row[1:], of_raw.captures, strict=True):
            pixels = capture.rgb().pixels
            _show(axis, pixels, task.predict(pixels), names)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    stream = io.StringIO()
    plain_texts(figure)
    figure.savefig(stream, format="svg", dpi=110)
    return stream.getvalue()


def _show(axis: Any, pixels: np.ndarray, found: Prediction, names: dict[int, str]) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    palette = colormaps["tab10"]
    shown = np.array(pixels)
    kept = [i for i, score in enumerate(found.scores.tolist()) if score >= SHOWN_SCORE]
    if found.masks is not None:
        for i in kept:
            mask = found.masks[i].numpy()
            paint = 255 * np.array(palette(int(found.category_ids[i]) % 10)[:3])
            shown[mask] = (0.5 * shown[mask] + 0.5 * paint).astype(np.uint8)
    height, width = shown.shape[:2]
    if (factor := -(-max(height, width) // LARGEST_SIDE)) > 1:  # else the figure would hold every pixel of all pictures
        shown = cv2.resize(shown, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    axis.imshow(shown, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axis.set_xticks([])
    axis.set_yticks([])
    for i in kept:
        left, top, right, bottom = found.boxes[i].tolist()
        category = int(found.category_ids[i])
        colour = palette(category % 10)
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=colour, linewidth=1))
        axis.text(
            left, top, f"{names.get(category, category)} {float(found.scores[i]):.2f}", fontsize=5, color="white",
            backgroundcolor=colour, clip_on=True, verticalalignment="bottom", bbox={"pad": 0.5, "color": colour},
        )  # fmt: skip
