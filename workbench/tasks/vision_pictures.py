"""Figure 3 of the paper: what a detector sees in the outputs of several methods, a row a RAW, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.lab.dataset import RawRecord
from workbench.tasks.detectors import Prediction
from workbench.tasks.task import PictureRow
from workbench.tasks.vision import VisionTask

SHOWN_SCORE = 0.3
"""Objects found with this score or more are drawn."""


def drawn(task: VisionTask, rows: Sequence[PictureRow], titles: Sequence[str]) -> str:
    """The objects, and what is found in each output.

    Args:
        task: finds.
        rows: RAWs of :meth:`VisionTask.raws` with an output for each title.
        titles: of the methods.
    """
    import matplotlib as mpl

    mpl.use("svg")
    # Names of files and categories are text, whatever dollar signs they hold.
    with mpl.rc_context({"text.parse_math": False}):
        return _drawn(task, rows, titles)


def _drawn(task: VisionTask, rows: Sequence[PictureRow], titles: Sequence[str]) -> str:
    from matplotlib import pyplot as plt

    from workbench.draw.figure_texts import plain_texts

    titles = ["objects", *titles]
    figure, axes = plt.subplots(
        len(rows), len(titles), figsize=(3 * len(titles), 2.4 * len(rows)), squeeze=False, layout="constrained"
    )
    names = {number: entry["name"] for number, entry in task.data.categories.items()}
    for row, of_raw in zip(axes, rows, strict=True):
        raw = of_raw.raw
        target = task.targets([raw])[raw.hash]
        outputs = [capture.rgb().pixels for capture in of_raw.captures]
        truth = Prediction(target.boxes, target.boxes.new_ones(len(target.boxes)), target.category_ids, target.masks)
        _show(row[0], _clean(raw, outputs[0]), truth, names)
        row[0].set_ylabel(f"{raw.name}\nISO {raw.iso:g}" if raw.iso else raw.name, fontsize=7)
        for axis, pixels in zip(row[1:], outputs, strict=True):
            _show(axis, pixels, task.predict(pixels), names)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    stream = io.StringIO()
    plain_texts(figure)
    figure.savefig(stream, format="svg", dpi=110)
    plt.close(figure)
    return stream.getvalue()


def _clean(raw: RawRecord, otherwise: np.ndarray) -> np.ndarray:
    reference = raw.reference()
    return otherwise if reference is None else reference


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
    axis.imshow(shown)
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
