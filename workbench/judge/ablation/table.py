"""The figures of a study: the table, table 3's order, the depths of figure 5c, figure 5b's points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from drivers.device import DeviceInfo
from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from predictor.files import LoadedPredictor
from predictor.model import gflop
from workbench.judge.ablation.training import Trained
from workbench.judge.ablation.variants import AblationSettings, about
from workbench.judge.statistics import compare, mean_interval
from workbench.judge.strengths import TASKS, strongest
from workbench.lab.dataset import RawRecord
from workbench.lab.runs import describe_device
from workbench.learn.held import held_in_words, union

MIN_SEEDS = 3
Scores = dict[tuple[str, int], dict[str, np.ndarray]]
"""PSNR and SSIM ``[R]`` of the R test RAWs, by variant and seed."""


def difference(one: np.ndarray, other: np.ndarray, scenes: Sequence[str]) -> dict[str, Any]:
    """The paired difference of two variants as COMPARISON.

    Args:
        one: figures ``[S, R]`` of S seeds and R RAWs; ``other``: what is taken from them.
        scenes: of the R RAWs.

    The interval is over scenes, of the mean over seeds. The verdict is ``not shown`` where the seeds are fewer than
    :data:`MIN_SEEDS` or differ in sign: scenes cannot tell how another training would have gone.
    """
    by_seed = (one - other).mean(axis=1)
    told = compare((one - other).mean(axis=0), scenes).to_dict()
    if len(by_seed) < MIN_SEEDS or not (np.all(by_seed > 0) or np.all(by_seed < 0)):
        told["verdict"] = "not shown"
    return {**told, "by_seed": by_seed.tolist()}


def results_of(
    info: DeviceInfo,
    settings: AblationSettings,
    trained: Trained,
    loaded: dict[tuple[str, int], LoadedPredictor],
    raws: Sequence[RawRecord],
    scores: Scores,
) -> dict[str, Any]:
    """The results of a study, see :mod:`workbench.judge.ablation`, still without scatter, attention and figures.

    Args:
        info: the device that decided.
        settings: of the study.
        trained: the runs; ``loaded``: their networks.
        raws: the R test RAWs.
        scores: of every variant and seed.
    """
    scenes = [r.scene for r in raws]
    keys = [v.key for v in settings.variants]
    stacked = {
        key: {m: np.stack([scores[key, seed][m] for seed in settings.seeds]) for m in ("psnr", "ssim")} for key in keys
    }
    reference = settings.reference.key
    rows = []
    for variant in settings.variants:
        own = stacked[variant.key]
        runs = [trained[variant.trained, seed] for seed in settings.seeds]
        network = loaded[variant.trained, settings.seeds[0]].network
        compared = variant.key != reference and reference in stacked
        rows.append(
            {
                "key": variant.key,
                "label": variant.label,
                "about": about(variant, settings),
                "attention": variant.attention,
                "encoders": variant.encoders,
                "metadata": variant.metadata,
                "fixed": variant.fixed,
                "runs": [run.name for run in runs],
                **{m: float(own[m].mean()) for m in own},
                **{f"{m}_interval": mean_interval(own[m].mean(axis=0), scenes).to_dict() for m in own},
                **{f"{m}_by_seed": own[m].mean(axis=1).tolist() for m in own},
                **{
                    f"{m}_over_reference": difference(own[m], stacked[reference][m], scenes) if compared else None
                    for m in own
                },
                "held_out_loss": [run.results.get("held_out_loss") for run in runs],
                "weights": sum(w.numel() for w in network.parameters()),
                "gflop_2048x1536": gflop(network.config, 1536, 2048),
            }
        )
    # Table 3: fixed < without attention < single and self < multi.
    full = settings.reference
    none, single, by_self = (replace(full, attention=a) for a in ("none", "single", "self"))
    pairs = [(replace(full, fixed=True), none), (none, single), (none, by_self), (single, full), (by_self, full)]
    notes = []
    if len(settings.seeds) < MIN_SEEDS:
        notes.append(
            f"{len(settings.seeds)} seed{'s' * (len(settings.seeds) > 1)}: too few to tell a variant from luck"
        )
    held = union(info.space, trained.values())
    if held:
        notes.append(held_in_words(info.space, held))
    if reference not in stacked:
        notes.append(f"{reference} was left out: nothing to compare with")
    return {
        "format": 1,
        "device": describe_device(info),
        "raws": len(raws),
        "scenes": len(set(scenes)),
        "seeds": list(settings.seeds),
        "steps": settings.recipe.steps,
        "proxy": next(iter(trained.values())).config.get("proxy"),
        "held": held,
        "reference": reference,
        "table": rows,
        "order": [
            {
                "lower": lower.key,
                "higher": higher.key,
                "gain": difference(stacked[higher.key]["psnr"], stacked[lower.key]["psnr"], scenes),
            }
            for lower, higher in pairs
            if lower.key in stacked and higher.key in stacked
        ],
        "encoders": sorted(
            (
                {k: row[k] for k in ("encoders", "key", "psnr", "psnr_interval", "psnr_by_seed")}
                for row in rows
                if "figure 5c" in row["about"]
            ),
            key=lambda row: row["encoders"],
        ),
        "scatter": None,
        "attention": None,
        "figures": [],
        "per_raw": [
            {
                "name": raw.name,
                "hash": raw.hash,
                "scene": raw.scene,
                "iso": raw.iso,
                "variants": {key: {m: stacked[key][m][:, i].tolist() for m in ("psnr", "ssim")} for key in keys},
            }
            for i, raw in enumerate(raws)
        ],
        "notes": notes,
    }


def scatter_of(
    space: ParameterSpace,
    settings: AblationSettings,
    raws: Sequence[RawRecord],
    sets: dict[tuple[str, int], list[ParameterSet]],
    held: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Figure 5b's data: what the paper's network (or else the first made) predicts for each RAW in two parameters.

    ``held`` are the parameters that training held.
    """
    moving = [v for v in settings.variants if not v.fixed]
    if not moving:
        return None
    variant = settings.reference if settings.reference in moving else moving[0]
    predicted = sets[variant.key, settings.seeds[0]]
    if settings.scatter:
        chosen: list[Parameter] = [space[name] for name in settings.scatter]
    else:
        spreads = np.std([p.unit for p in predicted], axis=0)
        found = [strongest(space, spreads, task, held) for task in TASKS]
        chosen = [p for p in found if p is not None]
        if len(chosen) < 2:
            return None
    places = [space.names.index(p.name) for p in chosen]
    iso = np.array([raw.iso or np.nan for raw in raws])
    codes = np.array([p.codes for p in predicted])[:, places]
    return {
        "key": variant.key,
        "seed": settings.seeds[0],
        "parameters": [{"name": p.name, "block": p.block, "unit": p.unit, "held": p.name in held} for p in chosen],
        "rank_correlation_with_iso": [_rank_correlation(iso, column) for column in codes.T],
        "points": [
            {
                "raw": raw.name,
                "iso": raw.iso,
                "values": [p.from_code(int(c)) for p, c in zip(chosen, row, strict=True)],
            }
            for raw, row in zip(raws, codes, strict=True)
        ],
    }


def _rank_correlation(iso: np.ndarray, values: np.ndarray) -> float | None:
    """Spearman's, None where one of both does not move."""
    from scipy.stats import spearmanr

    known = np.isfinite(iso)
    if len(set(iso[known])) < 2 or len(set(values[known])) < 2:
        return None
    return float(spearmanr(iso[known], values[known])[0])
