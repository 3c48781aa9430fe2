"""Checks of a study of ablations against its own RAWs, the runs behind it and the device's captures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from drivers.errors import FrameError
from drivers.splits import Split
from workbench.console.interrupt import check
from workbench.errors import DatasetError, RunError
from workbench.judge.ablation.table import difference
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_recorded
from workbench.report.checks import TOLERANCE_DB, Mark
from workbench.report.material import Material
from workbench.tasks import viewing

# RAWs whose claimed figures are looked for among the device's captures.
LOOKED_AT = 3


def check_ablation(
    found: Material,
    run: RunFolder,
    results: dict[str, Any],
    dataset: Dataset | None,
    captures: Sequence[CaptureRecord],
) -> list[Mark]:
    """All marks of a study; without a data set only what its own records tell, and that nothing was verified."""
    marks = [*_sums(run, results), *_leaks(found, run, results)]
    if dataset is None:
        return [*marks, Mark(f"{run.name}: could not be verified against the device's captures.")]
    return [*marks, *_captures(run, results, dataset, captures)]


def _stacked(results: dict[str, Any], key: str, metric: str) -> np.ndarray:
    """A variant's scores ``[S, R]`` of S seeds and R RAWs."""
    return np.array([raw["variants"][key][metric] for raw in results["per_raw"]], dtype=float).T


def _sums(run: RunFolder, results: dict[str, Any]) -> Iterator[Mark]:
    """Figures of the table, of its order and of figure 5c that are not those of the RAWs beneath them."""
    scenes = [raw["scene"] for raw in results["per_raw"]]
    rows = {row["key"]: row for row in results["table"]}
    wrong = []
    for key, row in rows.items():
        for metric in ("psnr", "ssim"):
            own = _stacked(results, key, metric)
            said = [row[metric], *row[f"{metric}_by_seed"]]
            alike = _close(said, [own.mean(), *own.mean(axis=1)])
            if over := row[f"{metric}_over_reference"]:
                alike &= _same(over, difference(own, _stacked(results, results["reference"], metric), scenes))
            wrong += [] if alike else [row["label"]]
    for pair in results["order"]:
        gain = difference(_stacked(results, pair["higher"], "psnr"), _stacked(results, pair["lower"], "psnr"), scenes)
        wrong += [] if _same(pair["gain"], gain) else [f"{pair['lower']} to {pair['higher']}"]
    for row in results["encoders"]:
        same = all(row[k] == rows[row["key"]][k] for k in ("encoders", "psnr", "psnr_by_seed", "psnr_interval"))
        wrong += [] if same else [f"{row['encoders']} encoders"]
    if wrong:
        text = f"{run.name}: figures are not those of its RAWs ({', '.join(dict.fromkeys(wrong))})."
        yield Mark(text, (), True)


def _same(said: dict[str, Any], computed: dict[str, Any]) -> bool:
    """Whether a difference's figures and verdict are those computed anew."""
    keys = ("estimate", "low", "high")
    if said["verdict"] != computed["verdict"] or [said[k] is None for k in keys] != [computed[k] is None for k in keys]:
        return False
    told, anew = ([[d[k] or 0.0 for k in keys], d["by_seed"]] for d in (said, computed))
    return _close(told[0], anew[0]) and _close(told[1], anew[1])


def _close(said: Any, computed: Any) -> bool:
    one, other = np.asarray(said, dtype=float), np.asarray(computed, dtype=float)
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=0, atol=1e-6))


def _leaks(found: Material, run: RunFolder, results: dict[str, Any]) -> Iterator[Mark]:
    """Networks that were trained with a scene that they are judged on, or are not there any more."""
    test = {raw["scene"] for raw in results["per_raw"]}
    lost = []
    for name in dict.fromkeys(name for row in results["table"] for name in row["runs"]):
        try:
            trained = find_recorded(found.lab, "train", name)
        except RunError:
            lost.append(name)
            continue
        seen = {*(trained.config.get("scenes") or ()), *(trained.config.get("held_out_scenes") or ())} & test
        if seen:
            text = f"{run.name}: {name} was trained with {len(seen)} of the test scenes ({min(seen)})."
            yield Mark(text, (), True)
    if lost:
        yield Mark(f"{run.name}: {len(lost)} of its train runs are not in this lab any more ({lost[0]}).")


def _captures(
    run: RunFolder, results: dict[str, Any], dataset: Dataset, captures: Sequence[CaptureRecord]
) -> Iterator[Mark]:
    """RAWs that are no test RAWs, and scores that no capture of the device has."""
    raws = {r.hash: r for r in dataset.raws(Split.TEST)}
    rows = results["per_raw"]
    if strangers := [row["name"] for row in rows if row["hash"] not in raws]:
        text = f"{run.name}: {len(strangers)} of {len(rows)} RAWs are no test RAWs of the data set ({strangers[0]})."
        yield Mark(text, (), True)
        return
    identity = results["device"]["identity"]
    until = str(run.record["finished"])[:23]
    made: dict[str, list[CaptureRecord]] = {}
    for capture in captures:
        if capture.device_identity == identity and capture.created[:23] <= until:
            made.setdefault(capture.raw_hash, []).append(capture)
    for place in np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).round().astype(int)):
        row = rows[place]
        said = np.array([v for scores in row["variants"].values() for v in scores["psnr"]])
        if not _found(said, made.get(row["hash"], []), raws[row["hash"]], run.kind):
            text = f"{run.name}: {row['name']}: no capture of {identity} has the PSNR that a variant is said to have."
            yield Mark(text, (), True)
            return


def _found(said: np.ndarray, captures: list[CaptureRecord], raw: RawRecord, purpose: str) -> bool:
    """Whether each score is that of a capture; what cannot be read is left to the pictures to complain about."""
    missing = np.ones(len(said), bool)
    try:
        reference = raw.reference()
        if reference is None:
            return False
        # The study's own captures first: mostly nothing else is needed.
        for capture in sorted(captures, key=lambda c: c.purpose != purpose):
            if not missing.any():
                break
            missing &= np.abs(said - viewing.psnr(capture.rgb().pixels, reference)) >= TOLERANCE_DB
            check()
    except (DatasetError, FrameError):
        return True
    return not missing.any()
