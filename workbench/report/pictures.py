"""The pictures of a report: crops of the device's own captures side by side, and attention maps over RAWs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from drivers.errors import FrameError, WorkbenchError
from drivers.frames import RgbFrame
from drivers.splits import Split
from drivers.weights import WeightsError
from workbench.console.interrupt import check
from workbench.console.progress import each
from workbench.draw import images
from workbench.errors import DatasetError
from workbench.judge.methods import MethodKind
from workbench.judge.results import RawResult
from workbench.lab.dataset import Dataset, RawRecord
from workbench.learn.held import held_by
from workbench.learn.predictors import open_predictor
from workbench.report.material import Material, Source
from workbench.report.words import with_unit

REFERENCE = "reference"
ATTENTION_MAPS = 4
# Whole outputs that the viewer compares, as they lie in the file; those of large frames are left out beyond it.
WHOLE_BYTES = 32 * 2**20
WHOLE_FIRST = ("predicted", "fixed", REFERENCE, "industry", "oracle")


@dataclass
class Crop:
    """A cell of the side-by-side crops: a picture (data URI) or the reason for none.

    ``key`` is that of the method where two cells can be compared in the viewer; ``full`` the whole output as a data
    URI, empty where ``uri`` is that, None where it is not in the file.
    """

    label: str
    note: str
    uri: str | None
    best: bool = False
    key: str = ""
    full: str | None = None


@dataclass(frozen=True)
class CropRow:
    """The crops of one RAW; ``why`` says why it was chosen, ``facts`` its metadata."""

    why: str
    name: str
    facts: str
    cells: list[Crop]


@dataclass(frozen=True)
class AttentionRow:
    """The attention maps of one RAW."""

    why: str
    name: str
    cells: list[Crop]


@dataclass(frozen=True)
class Attention:
    """Where a predictor looks: its maps, their size as text (``12×8``) and its run."""

    rows: list[AttentionRow]
    size: str
    source: Source


def chosen_raws(found: Material) -> list[tuple[str, int]]:
    """Test RAWs to show, by fixed rule and not by taste: reasons, and places in ``per_raw``."""
    gain = found.gains()
    if gain is not None:
        values, what = gain, "gain over best fixed"
        marks = [("best", 1.0), ("upper quartile", 0.75), ("median", 0.5), ("lower quartile", 0.25), ("worst", 0.0)]
    else:
        key = found.predicted or next(iter(found.labels))
        values, what = found.results.values(key), f"{found.metric.label} of {found.labels[key]}"
        marks = [("best", 1.0), ("median", 0.5), ("worst", 0.0)]
    order = np.argsort(values if gain is not None else found.metric.sign * values, kind="stable")
    chosen: dict[int, str] = {}
    for mark, place in marks:
        index = int(order[round(place * (len(order) - 1))])
        chosen.setdefault(
            index, f"{mark} {what} ({with_unit(float(values[index]), found.metric, signed=gain is not None)})"
        )
    return [(why, index) for index, why in chosen.items()]


def _shown_methods(found: Material) -> list[tuple[str, str]]:
    """Keys and short labels of the methods whose crops are shown."""
    shown = []
    short = {MethodKind.industry: "industry", MethodKind.auto: "auto", MethodKind.oracle: "oracle"}
    for m in found.results.methods:
        if m.kind not in (MethodKind.mean, MethodKind.ceiling):
            shown.append((m.key, short.get(m.kind, m.label)))
    return shown


def crop_rows(found: Material, dataset: Dataset) -> list[CropRow]:
    """The side-by-side crops; what the data set lacks is noted as missing in the material."""
    raws = {r.hash: r for r in dataset.raws(Split.TEST)}
    larger: list[tuple[Crop, Callable[[], str]]] = []
    rows = []
    for why, place in each("draw crops", chosen_raws(found)):
        row = found.results.per_raw[place]
        raw = raws.get(row.hash)
        if raw is None:
            found.missing.append(f"The RAW {row.name} is not in the data set; its pictures are left out.")
            continue
        rows.append(_crop_row(found, dataset, raw, why, row, larger))
    _add_whole(found, larger)
    return rows


def _add_whole(found: Material, larger: Sequence[tuple[Crop, Callable[[], str]]]) -> None:
    """Put whole outputs into the file, what is most worth comparing first, up to :data:`WHOLE_BYTES`."""
    first = [found.predicted if key == "predicted" else key for key in WHOLE_FIRST]
    room = WHOLE_BYTES
    ranked = sorted(larger, key=lambda item: first.index(item[0].key) if item[0].key in first else len(first))
    for cell, load in each("whole pictures", ranked, "picture"):
        whole, _ = _loaded(load)
        if whole is not None and len(whole) <= room:
            cell.full = whole
            room -= len(whole)


def _crop_row(
    found: Material,
    dataset: Dataset,
    raw: RawRecord,
    why: str,
    row: RawResult,
    larger: list[tuple[Crop, Callable[[], str]]],
) -> CropRow:
    """The crops of a RAW; cells that do not show the whole output are added to ``larger`` with what loads it."""
    identity = found.results.device.identity
    shown = _shown_methods(found)
    hashes = {key: found.space.from_codes(row.methods[key].codes).hash for key, _ in shown}
    captures = dataset.find(identity, [(raw.hash, h) for h in hashes.values()])
    reference, reason = _loaded(raw.reference)
    window = (
        images.detailed_window(reference) if reference is not None else images.Window(0, 0, *([images.CROP_SIDE] * 2))
    )
    cells = [Crop(REFERENCE, reason or "the RAW has none", None)]
    if reference is not None:
        cells = [Crop(REFERENCE, "", images.picture(window.of(reference)), key=REFERENCE)]
        if window.covers(reference):
            cells[0].full = ""
        else:
            larger.append((cells[0], partial(images.picture, reference, quality=95)))
    # The oracle knows the reference: "best" is about methods that do not.
    metric = found.metric
    values = [metric.sign * row.methods[k].figures[metric.key] for k, _ in shown if k != MethodKind.oracle]
    best = max(values, default=None)
    for key, label in shown:
        result = row.methods[key]
        value = result.figures[metric.key]
        capture = captures.get((raw.hash, hashes[key]))
        frame: RgbFrame | None = None
        if capture is None or capture.output_hash != result.output_hash:
            reason = "capture not in the data set"
        else:
            frame, reason = _loaded(capture.rgb)
        note = reason or with_unit(value, metric)
        cell = Crop(label, note, None, best=metric.sign * value == best and key != MethodKind.oracle, key=key)
        cells.append(cell)
        if frame is not None:
            # The device's own bytes where the whole frame is shown, else a crop of them.
            whole = window.covers(frame.pixels)
            cell.uri = _frame_uri(frame) if whole else images.picture(window.of(frame.pixels), quality=95)
            if whole:
                cell.full = ""
            else:
                assert capture is not None
                larger.append((cell, lambda c=capture: _frame_uri(c.rgb())))  # type: ignore[misc]
    facts = [f"scene {raw.scene}", f"{raw.width}×{raw.height}"]
    facts += [f"ISO {raw.iso:g}"] if raw.iso else []
    facts += [f"{raw.exposure_s * 1000:.3g} ms"] if raw.exposure_s else []
    if reference is not None and reference.shape[:2] != (window.height, window.width):
        facts.append(f"crop of {window.width}×{window.height} at ({window.left}, {window.top}), where most detail is")
    return CropRow(why, raw.name, ", ".join(facts), cells)


def _frame_uri(frame: RgbFrame) -> str:
    return images.data_uri(frame.encoded, frame.media_type)


def _loaded(load: Callable[[], Any]) -> tuple[Any, str | None]:
    """What ``load`` gives, or the reason why it cannot."""
    try:
        return load(), None
    except (DatasetError, FrameError) as error:
        return None, f"cannot be read: {error}"


def attention_of(found: Material, dataset: Dataset) -> Attention | str:
    """Where the headline's predictor looks in the RAWs of the crops, or why it cannot be shown."""
    raws = {r.hash: r for r in dataset.raws(Split.TEST)}
    rows = [(why, found.results.per_raw[place].hash) for why, place in chosen_raws(found)]
    chosen = [(why, raws[digest]) for why, digest in rows if digest in raws]
    run = found.predictor
    if run is None or not chosen:
        return "No predictor to look into."
    try:
        predictor = open_predictor(run)
        maps, previews = [], []
        for _, raw in each("draw attention maps", chosen):
            frame = raw.load()
            maps.append(predictor.attention(frame))
            previews.append(images.raw_preview(frame))
    except (WeightsError, WorkbenchError) as error:
        return f"The attention maps cannot be drawn: {error}"
    names = predictor.space.names
    # What is held looks nowhere. The same parameters for every RAW, so that the columns can be compared.
    held = held_by(run)
    order = [int(i) for i in np.argsort(_evenness(maps), kind="stable") if names[i] not in held]
    if not order:
        return "Every parameter is held at its start value, so there is no attention to show."
    shown = {names[i]: i for i in sorted(order[:ATTENTION_MAPS])}
    drawn = []
    for (why, raw), preview, own in zip(chosen, previews, maps, strict=True):
        drawn.append(AttentionRow(why, raw.name, [preview_cell(preview), *attention_cells(preview, own, shown)]))
        check()
    return Attention(drawn, f"{maps[0].shape[2]}×{maps[0].shape[1]}", found.source(run))


def preview_cell(preview: np.ndarray) -> Crop:
    """The RAW that maps lie over: ``uint8 [h, w, 3]`` of :func:`workbench.draw.images.raw_preview`."""
    return Crop("RAW, grey-world", "", images.picture(preview, quality=90))


def attention_cells(
    preview: np.ndarray, maps: np.ndarray, places: dict[str, int], bright: float | None = None
) -> list[Crop]:
    """Attention maps over a picture of their RAW, a cell a parameter.

    Args:
        preview: ``uint8 [h, w, 3]``.
        maps: ``float [N, h', w']``, each summing to 1.
        places: of the parameters to draw, by name.
        bright: see :func:`workbench.draw.images.attention_overlay`.
    """
    cells = []
    for name, i in places.items():
        overlay, most = images.attention_overlay(preview, maps[i], bright)
        cells.append(Crop(name.replace("_", " "), f"at most {most:.1f}× even", images.picture(overlay, quality=90)))
    return cells


def _evenness(maps: Sequence[np.ndarray]) -> np.ndarray:
    """How even each parameter's maps are, as entropy from 0 (one place) to 1 (even), mean over RAWs: ``[N]``."""
    entropies = []
    for m in maps:
        most = np.log(m[0].size) if m[0].size > 1 else 1.0
        entropies.append(-(m * np.log(np.maximum(m, 1e-12))).sum(axis=(1, 2)) / most)
    return np.asarray(np.mean(entropies, axis=0))
