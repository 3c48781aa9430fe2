"""The page of a ``validate-vision`` run: the table laid out as the paper's tables 1 and 2, and figure 3's pictures.

Beside ``results.json``: ``table.csv``, ``pictures.svg`` and ``report.html``, one self-contained file.
"""

from __future__ import annotations

import base64
import csv
import html
import io
from typing import Any

import numpy as np

from drivers.atomic_files import write_text
from drivers.foreign_text import shown_page
from drivers.splits import Split
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder
from workbench.tasks.detectors import Prediction
from workbench.tasks.vision import VisionTask
from workbench.tune.material import stratified

PICTURES = 4
SHOWN_SCORE = 0.3
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #111; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ccc; padding: .35rem .5rem; text-align: right; }
td { white-space: nowrap; } td:first-child { white-space: normal; min-width: 9rem; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; } img { max-width: 100%; } small { color: #444; }
@media print { body { margin: 0; max-width: none; } }
"""
COLUMNS = (("map50", "mAP50"), ("map75", "mAP75"), ("map", "mAP50:95"), ("loss", "log loss"))
GAINS = (("map50", "mAP50"), ("loss", "log loss"))


def table_rows(results: dict[str, Any]) -> list[dict[str, str]]:
    """The table's cells as text: one row a method, intervals in brackets."""
    rows = []
    for m in results["methods"]:
        gain = m["gain_over_fixed"]
        cells = {"method": m["label"]}
        cells |= {title: interval_text(m[key], ".3f") for key, title in COLUMNS}
        cells["mAP50 over best fixed"] = (
            f"{interval_text(gain['map50'], '+.3f')}: {gain['map50']['verdict']}" if gain else ""
        )
        cells["loss under best fixed"] = (
            f"{interval_text(gain['loss'], '+.3f')}: {gain['loss']['verdict']}" if gain else ""
        )
        cells["captures"] = "" if m["captures"] is None else str(m["captures"])
        rows.append(cells)
    return rows


def over_industry(results: dict[str, Any]) -> list[str]:
    """What prediction gains over industry, one line a predictor; none where industry was not there."""
    lines = []
    for m in results["methods"]:
        if m["key"].startswith("predicted:") and (gain := m["gain_over_industry"]):
            told = (f"{title} {interval_text(gain[key], '+.3f')}: {gain[key]['verdict']}" for key, title in GAINS)
            lines.append(f"{m['label']} over industry: {'; '.join(told)}")
    return lines


def interval_text(interval: dict[str, Any], form: str) -> str:
    """An interval as text: ``0.264 [0.233, 0.322]``; without brackets where it has none."""
    text = format(interval["estimate"], form)
    return text if interval["low"] is None else f"{text} [{interval['low']:{form}}, {interval['high']:{form}}]"


def _cell(text: str) -> str:
    """A cell's text with its interval on a line of its own, so that the table fits a page."""
    figure, bracket, interval = html.escape(text).partition(" [")
    return f"{figure}<br><small>[{interval}</small>" if bracket else figure


def write_page(run: RunFolder, dataset: Dataset, results: dict[str, Any], task: VisionTask) -> None:
    """Write the page of a finished run; what is there of it is written anew."""
    rows = table_rows(results)
    stream = io.StringIO()
    table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(run.path / "table.csv", stream.getvalue())
    pictures = draw_pictures(dataset, results, task)
    write_text(run.path / "pictures.svg", pictures)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "\n".join("<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row.values()) + "</tr>" for row in rows)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in [*over_industry(results), *results["notes"]])
    device = results["device"]
    made = (
        f"run {run.name}; data set {str(run.record['dataset_digest'])[:12]}; device {device['identity']}; "
        f"detector {results['detector']}; seed {results['seed']}; made by: {run.record['command']}"
    )
    image = base64.b64encode(pictures.encode()).decode()
    write_text(
        run.path / "report.html",
        shown_page(f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(results["task"])} on {html.escape(device["model"])}</title><style>{STYLE}</style></head><body>
<h1>{html.escape(results["task"].capitalize())} on {html.escape(device["model"])}</h1>
<p>{results["raws"]} test RAWs of {results["scenes"]} scenes with {results["objects"]} objects, outputs of the device,
judged by {html.escape(results["detector"])}. 95&nbsp;% intervals, bootstrapped by scene. Log loss: the mean of the
logarithm of the detector's loss; lower is better.</p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<ul>{notes}</ul>
<h2>What the detector sees</h2>
<p>Test RAWs spread over ISO, not chosen by result; objects found with a score of {SHOWN_SCORE} or more.</p>
<img alt="Detections for each method, one RAW a row" src="data:image/svg+xml;base64,{image}">
<p><small>{html.escape(made)}</small></p>
</body></html>
"""),
    )


def draw_pictures(dataset: Dataset, results: dict[str, Any], task: VisionTask) -> str:
    """Figure 3 as SVG: one row a RAW; the truth, and what is found in the outputs of default, expert and predicted."""
    import matplotlib as mpl

    mpl.use("svg")
    # Names of files and categories are text, whatever dollar signs they hold.
    with mpl.rc_context({"text.parse_math": False}):
        return _drawn(dataset, results, task)


def _drawn(dataset: Dataset, results: dict[str, Any], task: VisionTask) -> str:
    from matplotlib import pyplot as plt

    from workbench.draw.figure_texts import plain_texts

    by_hash = {r["hash"]: r for r in results["per_raw"]}
    raws = [r for r in dataset.raws(Split.TEST) if r.hash in by_hash]
    raws = stratified(raws, min(PICTURES, len(raws)), results["seed"])
    present = {m["key"]: m["label"] for m in results["methods"]}
    keys = [k for k in ("default", "expert", "fixed", results["headline"]) if k in present]
    titles = ["objects", *(present[k] for k in keys)]
    figure, axes = plt.subplots(
        len(raws), len(titles), figsize=(3 * len(titles), 2.4 * len(raws)), squeeze=False, layout="constrained"
    )
    names = {number: entry["name"] for number, entry in task.data.categories.items()}
    outputs = {(c.raw_hash, c.output_hash): c for c in dataset.captures(device_identity=results["device"]["identity"])}
    for row, raw in zip(axes, raws, strict=True):
        target = task.targets([raw])[raw.hash]
        first = outputs[raw.hash, by_hash[raw.hash]["methods"][keys[0]]["output_hash"]].rgb().pixels
        truth = Prediction(target.boxes, target.boxes.new_ones(len(target.boxes)), target.category_ids, target.masks)
        _show(row[0], _clean(raw, first), truth, names)
        row[0].set_ylabel(f"{raw.name}\nISO {raw.iso:g}" if raw.iso else raw.name, fontsize=7)
        for axis, key in zip(row[1:], keys, strict=True):
            pixels = outputs[raw.hash, by_hash[raw.hash]["methods"][key]["output_hash"]].rgb().pixels
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
