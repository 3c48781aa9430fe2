"""The first format of studies, which was of human viewing alone: read from old records, and spoken to old scripts."""

from __future__ import annotations

from typing import Any

from workbench.judge.ablation.results import AblationResult
from workbench.judge.format1 import VIEWING

_KEYS = tuple(m.key for m in VIEWING)
_ROW = ("key", "label", "about", "attention", "encoders", "metadata", "fixed", "runs", "held_out_loss", "weights")
_SHARED = (
    *("device", "raws", "scenes", "seeds", "steps", "proxy", "reference", "order", "scatter", "attention", "figures"),
    *("per_raw", "raws_left_out", "left_out", "faults", "held", "notes"),
)


def upgraded(old: dict[str, Any]) -> dict[str, Any]:
    """A study of format 1 as one of format 2.

    Raises:
        KeyError, TypeError: something is missing or of another kind.
    """
    return {
        **{name: old[name] for name in _SHARED if name in old},
        "format": 2,
        "task": "viewing",
        "task_key": "viewing",
        "metrics": [vars(m) for m in VIEWING],
        "table": [
            {
                **{name: row[name] for name in (*_ROW, "gflop_2048x1536")},
                "figures": {k: {**row[f"{k}_interval"], "estimate": row[k]} for k in _KEYS},
                "by_seed": {k: row[f"{k}_by_seed"] for k in _KEYS},
                "over_reference": {k: over for k in _KEYS if (over := row[f"{k}_over_reference"])},
            }
            for row in old["table"]
        ],
    }


def spoken(results: AblationResult) -> dict[str, Any]:
    """A study for ``--json``: as it is recorded, and each figure under the name that format 1 had for it too."""
    said = results.to_json()
    for row in said["table"]:
        for key, interval in row["figures"].items():
            row |= {
                key: interval["estimate"],
                f"{key}_interval": interval,
                f"{key}_by_seed": row["by_seed"][key],
                f"{key}_over_reference": row["over_reference"].get(key),
            }
    return said
