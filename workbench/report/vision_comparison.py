"""Two validations of a vision task side by side: the detector's loss paired RAW by RAW, and the mAP of each run.

The difference is the first run's loss less the second's on the RAWs that both have: positive is better. mAP is of a
whole set of images, so it is given for each run with its own interval.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import numpy as np

from drivers.atomic_files import write_text
from drivers.foreign_text import shown_page
from drivers.regular_files import read_json
from workbench.errors import RunError
from workbench.judge.statistics import compare
from workbench.judge.vision_page import STYLE, interval_text
from workbench.lab.runs import RECORD_BYTES, RunFolder
from workbench.report.words import csv_text

COLUMNS = ("method", "first", "second", "log_loss_first", "log_loss_second", "gain", "low", "high", "verdict")


def write_vision_comparison(runs: list[RunFolder], out: Path) -> Path:
    """Write the page that compares two ``validate-vision`` runs, with its table as CSV beside it.

    Raises:
        RunError: the runs are of different tasks or detectors or have no RAW in common, a run's results are damaged, or
            the page cannot be written.
    """
    found = [_results(run) for run in runs]
    names = [run.name for run in runs]
    for what in ("task", "detector"):
        if found[0][what] != found[1][what]:
            raise RunError(
                f"{names[0]} and {names[1]}: {what} {found[0][what]} and {found[1][what]}; their losses cannot be "
                "compared"
            )
    rows = _rows(found)
    if not rows:
        raise RunError(f"{names[0]} and {names[1]}: have no test RAW in common, so there is nothing to compare")
    facts = _facts(runs, found)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, shown_page(_page(names, found, facts, rows)))
        write_text(out.with_suffix(".csv"), csv_text(COLUMNS, ([_csv_cell(row, c) for c in COLUMNS] for row in rows)))
    except OSError as error:
        raise RunError(
            f"{out}: the page cannot be written ({error.strerror or error}); choose another --out"
        ) from error
    return out


def _results(run: RunFolder) -> dict[str, Any]:
    file = run.path / "results.json"
    try:
        results = dict(read_json(file, RECORD_BYTES))
        for key in ("task", "detector", "headline", "methods", "raws", "scenes", "device"):
            results[key]
        for method in results["methods"]:
            for key in ("key", "label", "map50"):
                method[key]
        for row in results["per_raw"]:
            for key in ("hash", "scene", "methods"):
                row[key]
            for told in row["methods"].values():
                told["loss"]
        if not results["per_raw"]:
            raise ValueError("it holds no RAWs")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{file}: cannot be read as a validation of a detector ({error}); run `workbench validate` again"
        ) from error
    return results


def _rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The methods that both runs have; the predictions that the runs are about are a pair whatever their train runs."""
    by_hash = [{row["hash"]: row for row in f["per_raw"]} for f in found]
    common = [h for h in by_hash[0] if h in by_hash[1]]
    if not common:
        return []
    methods = [{m["key"]: m for m in f["methods"]} for f in found]
    keys = [(key, key) for key in methods[0] if key in methods[1] and key in found[0]["per_raw"][0]["methods"]]
    about = (found[0]["headline"], found[1]["headline"])
    if None not in about and about not in keys:
        keys.append(about)
    scenes = [by_hash[0][h]["scene"] for h in common]
    rows = []
    for first, second in keys:
        losses = [
            np.array([raws[h]["methods"][key]["loss"] for h in common])
            for raws, key in zip(by_hash, (first, second), strict=True)
        ]
        rows.append(
            {
                "method": methods[0][first]["label"],
                "first": first,
                "second": second,
                "log_loss_first": float(losses[0].mean()),
                "log_loss_second": float(losses[1].mean()),
                "interval": compare(losses[0] - losses[1], scenes).to_dict(),
                "map50": [m[key]["map50"] for m, key in zip(methods, (first, second), strict=True)],
            }
        )
    return rows


def _facts(runs: list[RunFolder], found: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """What the runs may have in common, and its text in each."""

    def both(what: str, *texts: Any) -> tuple[str, str, str]:
        first, second = (str(t) for t in texts)
        return what, first, second

    vision = [run.config.get("vision") or {} for run in runs]
    hashes = [{row["hash"] for row in f["per_raw"]} for f in found]
    in_common = len(hashes[0] & hashes[1])
    return [
        both("device", *(f["device"]["identity"] for f in found)),
        both("annotations (SHA-256)", *(str(v.get("annotations_sha256", "not recorded"))[:12] for v in vision)),
        both("data set", *(str(run.record["dataset_digest"])[:12] for run in runs)),
        both("test RAWs", *(f"{len(h)}, {in_common} in both" for h in hashes)),
        both("seed", *(f["seed"] for f in found)),
        both("made by", *(run.record["command"] for run in runs)),
    ]


def _csv_cell(row: dict[str, Any], column: str) -> Any:
    if column in ("gain", "low", "high", "verdict"):
        return row["interval"]["estimate" if column == "gain" else column]
    return row[column]


def _page(
    names: list[str], found: list[dict[str, Any]], facts: list[tuple[str, str, str]], rows: list[dict[str, Any]]
) -> str:
    task, detector = (html.escape(found[0][k]) for k in ("task", "detector"))
    first, second = (html.escape(name) for name in names)
    told = "".join(
        f"<tr><td>{html.escape(what)}</td><td>{html.escape(a)}</td>"
        f"<td>{html.escape(b) if a != b else 'the same'}</td></tr>"
        for what, a, b in facts
    )
    body = "".join(
        f"<tr><td>{html.escape(row['method'])}</td><td>{row['log_loss_first']:.3f}</td><td>{row['log_loss_second']:.3f}</td>"
        f"<td>{interval_text(row['interval'], '+.3f')}</td><td>{row['interval']['verdict']}</td>"
        + "".join(f"<td>{interval_text(i, '.3f')}</td>" for i in row["map50"])
        + "</tr>"
        for row in rows
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{first} and {second}</title><style>{STYLE}</style></head><body>
<h1>{task.capitalize()}: {first} and {second}</h1>
<p>Outputs of the device, judged by {detector}. Log loss: the mean of the logarithm of the detector's loss on the test
RAWs that both runs have; lower is better. The gain is paired, RAW by RAW, and positive where {second} is better;
95&nbsp;% intervals, bootstrapped by scene. mAP50 is of each run's own test RAWs and is not paired.</p>
<div class="wide"><table><thead><tr><th>method</th><th>log loss, {first}</th><th>log loss, {second}</th><th>gain</th>
<th>verdict</th><th>mAP50, {first}</th><th>mAP50, {second}</th></tr></thead><tbody>{body}</tbody></table></div>
<h2>What they have in common</h2>
<div class="wide"><table><thead><tr><th></th><th>{first}</th><th>{second}</th></tr></thead>
<tbody>{told}</tbody></table></div>
</body></html>
"""
