"""How faithful a proxy is to its device: not one PSNR, but whether it moves as the device moves.

Global PSNR hardly sees noise reduction or sharpening, so fidelity is reported a parameter at a time as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from drivers.parameters import Parameter, ParameterSet, ParameterSpace
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


def movements(space: ParameterSpace, probes: Iterable[Probe]) -> list[Movement]:
    """One :class:`Movement` a parameter, in the order of the space; no more than one probe is kept at a time."""
    sums: dict[str, _Sums] = {}
    for probe in probes:
        sums.setdefault(probe.parameter, _Sums()).add(probe)
    return [sums[p.name].movement(p) for p in space.parameters if p.name in sums]


class _Sums:
    """What the probes of one parameter add up to."""

    def __init__(self) -> None:
        self.dot = self.device_energy = self.proxy_energy = 0.0
        self.values = 0
        self.psnr: list[float] = []
        self.ssim: list[float] = []

    def add(self, probe: Probe) -> None:
        """Take in one."""
        from skimage.metrics import structural_similarity

        device = _change(probe.device_before, probe.device_after)
        proxy = _change(probe.proxy_before, probe.proxy_after)
        self.dot += float(device @ proxy)
        self.device_energy += float(device @ device)
        self.proxy_energy += float(proxy @ proxy)
        self.values += len(device)
        for a, b in ((probe.device_before, probe.proxy_before), (probe.device_after, probe.proxy_after)):
            self.psnr.append(min(viewing_metrics.psnr(a, b), MAX_PSNR_DB))
            self.ssim.append(structural_similarity(a, b, channel_axis=2, data_range=255))

    def movement(self, parameter: Parameter) -> Movement:
        """What they say of the parameter."""
        norm = float(np.sqrt(self.device_energy * self.proxy_energy))
        return Movement(
            parameter=parameter.name,
            block=parameter.block,
            device_change=float(np.sqrt(self.device_energy / self.values)),
            cosine=self.dot / norm if norm else float("nan"),
            gain=self.dot / self.device_energy if self.device_energy else float("nan"),
            psnr=float(np.mean(self.psnr)),
            ssim=float(np.mean(self.ssim)),
        )


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
