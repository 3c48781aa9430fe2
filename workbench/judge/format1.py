"""The first format of validations: read from old records, and spoken to scripts that were written for it.

It had no kinds of methods beside their keys, a layout of its own for human viewing (``psnr``, ``psnr_interval``,
``psnr_gain_over_fixed``) and one for detectors (``map50``, ``gain_over_fixed``).
"""

from __future__ import annotations

from typing import Any

from workbench.judge.methods import MethodKind
from workbench.judge.results import ValidationResult
from workbench.tasks.task import Metric
from workbench.tasks.viewing_metrics import METRICS
from workbench.tasks.vision import METRICS as VISION

VIEWING = tuple(m for m in METRICS if m.key in ("psnr", "ssim"))
"""The metrics that human viewing had."""

# Of mAP; the intervals of a detector's loss had as many as those of human viewing.
_MAP_RESAMPLES = 500
_BUDGET = "not the same budget"
_METHOD = ("run", "label", "captures", "metadata", "device_s", "compute_s", "rule", "search", "failed")
_SHARED = ("device", "space", "raws", "scenes", "seed", "raws_left_out", "left_out", "faults", "collection_captures")


def upgraded(old: dict[str, Any]) -> dict[str, Any]:
    """A validation of format 1 as one of format 2.

    Raises:
        KeyError, TypeError: something is missing or of another kind.
    """
    viewing = "detector" not in old
    metrics = VIEWING if viewing else VISION
    methods = [_method(m, metrics, viewing) for m in old["methods"] if not _declines(m["key"])]
    notes = [str(note) for note in old["notes"]]
    head = old["headline"]
    key = head["predictor"] if viewing and head else head
    proxy, oracle = old.get("proxy"), old.get("oracle")
    return {
        **{name: old[name] for name in _SHARED if name in old},
        "format": 2,
        "task": "viewing" if viewing else old["task"],
        "task_key": "viewing" if viewing else old["task"],
        "detector": old.get("detector"),
        "metrics": [vars(m) for m in metrics],
        "resamples": 10_000 if viewing else _MAP_RESAMPLES,
        "facts": {} if viewing else {"objects": old["objects"]},
        "methods": methods,
        "headline": {"method": key, "gap_closed": (head if viewing else {}).get("gap_closed")} if key else None,
        "oracle": oracle,
        "proxy": {**proxy, "promised_minus_given": _interval(proxy["promised_minus_given"])} if proxy else None,
        "per_raw": [_raw(row, metrics) for row in old.get("per_raw", ())],
        "notes": [note for note in notes if _BUDGET not in note],
        "budgets": [note for note in notes if _BUDGET in note],
    }


def without_declining(data: dict[str, Any]) -> dict[str, Any]:
    """A validation without the methods that took the best fixed set for RAWs unlike those of training.

    Earlier versions compared them. They helped nowhere, and there are none any more.

    Raises:
        KeyError, TypeError: something is missing or of another kind.
    """
    kept = {name: value for name, value in data.items() if name != "declining"}
    kept["methods"] = [m for m in data["methods"] if not _declines(m["key"])]
    kept["per_raw"] = [
        {**row, "methods": {key: of for key, of in row["methods"].items() if not _declines(key)}}
        for row in data.get("per_raw", ())
    ]
    return kept


def _declines(key: str) -> bool:
    return key.startswith("declining:")


def _method(old: dict[str, Any], metrics: tuple[Metric, ...], viewing: bool) -> dict[str, Any]:
    kind = MethodKind(old["key"].partition(":")[0])
    new = {name: old[name] for name in _METHOD if name in old} | {"kind": kind, "key": old["key"]}
    if viewing:
        if not isinstance(old["ssim"], int | float):
            raise TypeError(f"ssim is {old['ssim']!r:.40}")
        # Of SSIM there was no interval.
        ssim = {**old["psnr_interval"], "estimate": old["ssim"], "low": None, "high": None}
        new["figures"] = {"psnr": old["psnr_interval"], "ssim": ssim}
        gain = old["psnr_gain_over_fixed"]
        new["over"] = {MethodKind.fixed: {"psnr": gain}} if gain else {}
        new["fewer_captures_than_collection"] = old.get("fewer_captures_than_collection", False)
    else:
        new["figures"] = {m.key: old[m.key] for m in metrics}
        over = {kind: old.get(f"gain_over_{kind}") for kind in (MethodKind.fixed, MethodKind.industry)}
        new["over"] = {kind: gain for kind, gain in over.items() if gain}
    return new


def _interval(old: dict[str, Any]) -> dict[str, Any]:
    return {name: old[name] for name in ("estimate", "low", "high", "clusters", "samples")}


def _raw(old: dict[str, Any], metrics: tuple[Metric, ...]) -> dict[str, Any]:
    names = [m.key for m in metrics if m.per_raw]
    methods = {
        key: {
            "figures": {name: scores[name] for name in names},
            "codes": scores["codes"],
            "output_hash": scores["output_hash"],
        }
        for key, scores in old["methods"].items()
    }
    own: dict[str, Any] = {
        name: old[name] for name in ("name", "hash", "scene", "iso", "exposure_s", "as_shot_wb") if name in old
    }
    return {**own, "methods": methods}


def spoken(results: ValidationResult) -> dict[str, Any]:
    """A validation for ``--json``: as it is recorded, and each figure under the name that format 1 had for it too."""
    said = results.to_json()
    viewing = results.detector is None
    for row in said["methods"]:
        over = row["over"]
        for key, interval in row["figures"].items():
            row |= {key: interval["estimate"], f"{key}_interval": interval} if viewing else {key: interval}
        if viewing:
            row[f"{results.main.key}_gain_over_fixed"] = over.get(MethodKind.fixed, {}).get(results.main.key)
        else:
            row |= {f"gain_over_{kind}": over.get(kind) for kind in (MethodKind.fixed, MethodKind.industry)}
    for raw in said["per_raw"]:
        for scores in raw["methods"].values():
            scores |= scores["figures"]
    said |= said["facts"]
    if about := results.about:
        fixed = about.over.get(MethodKind.fixed, {}).get(results.of_raws.key)
        said["headline"] |= {
            "predictor": about.key,
            **{
                f"gain_over_{kind}": gains[results.main.key].to_json()
                for kind, gains in about.over.items()
                if results.main.key in gains
            },
            "worse_than_fixed_share": fixed.worse_share if fixed else None,
            "fifth_percentile_gain": fixed.fifth_percentile if fixed else None,
        }
    return said
