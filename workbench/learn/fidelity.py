"""How faithful a proxy is to its device: not one PSNR, but whether it moves as the device moves.

Global PSNR hardly sees noise reduction or sharpening, so fidelity is reported a parameter at a time as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivers.parameters import ParameterSet, ParameterSpace
from workbench.learn.results import Movement
from workbench.tasks import viewing_metrics

# Of two equal outputs: an error of 0.001 squared levels, below what rounding to 8 bits gives.
MAX_PSNR_DB = 10 * np.log10(255.0**2 / 1e-3)


@dataclass(frozen=True)
class Probe:
    """One parameter moved on one RAW, everything else held: what the device and the proxy gave before and after.

    All images are ``uint8 [H, W, 3]``.
    """

    parameter: str
    device_before: np.ndarray
    device_after: np.ndarray
    proxy_before: np.ndarray
    proxy_after: np.ndarray


def probe_sets(
    space: ParameterSpace, base: ParameterSet, low: float = 0.1, high: float = 0.9
) -> list[tuple[str, ParameterSet, ParameterSet]]:
    """For every parameter that is searched the set with it low and the set with it high, all else as in ``base``.

    The choice on which a parameter depends is put where the parameter exists.
    """
    pairs = []
    for p in space.parameters:
        if p.searched:
            there = {}
            if (when := p.when) is not None and not when.holds(base.values):
                there = {when.parameter: space[when.parameter].to_code(when.values[0])}
            before, after = (base.with_codes({**there, p.name: p.from_unit(end)}) for end in (low, high))
            pairs.append((p.name, before, after))
    return pairs


def movements(space: ParameterSpace, probes: Sequence[Probe]) -> list[Movement]:
    """One :class:`Movement` a parameter, in the order of the space."""
    from skimage.metrics import structural_similarity

    table = []
    for p in space.parameters:
        own = [probe for probe in probes if probe.parameter == p.name]
        if not own:
            continue
        device = np.concatenate([_change(q.device_before, q.device_after) for q in own])
        proxy = np.concatenate([_change(q.proxy_before, q.proxy_after) for q in own])
        dot, energy = float(device @ proxy), float(device @ device)
        norm = float(np.sqrt(energy * float(proxy @ proxy)))
        pairs = [(q.device_before, q.proxy_before) for q in own] + [(q.device_after, q.proxy_after) for q in own]
        table.append(
            Movement(
                parameter=p.name,
                block=p.block,
                device_change=float(np.sqrt(energy / len(device))),
                cosine=dot / norm if norm else float("nan"),
                gain=dot / energy if energy else float("nan"),
                psnr=float(np.mean([min(viewing_metrics.psnr(a, b), MAX_PSNR_DB) for a, b in pairs])),
                ssim=float(np.mean([structural_similarity(a, b, channel_axis=2, data_range=255) for a, b in pairs])),
            )
        )
    return table


def rank_correlation(device_quality: np.ndarray, proxy_quality: np.ndarray) -> float:
    """Mean Spearman rank correlation of image quality over parameter sets.

    Args:
        device_quality: ``[RAWs, sets]``, the quality (PSNR to the reference) of the device's output.
        proxy_quality: the same of the proxy's output.
    """
    from scipy.stats import spearmanr

    rows = [spearmanr(a, b).statistic for a, b in zip(device_quality, proxy_quality, strict=True) if len(set(a)) > 1]
    return float(np.nanmean(rows)) if rows else float("nan")


def _change(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (after.astype(np.float64) - before.astype(np.float64)).ravel()
