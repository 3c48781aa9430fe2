"""Illuminants of real families: where the light's white point lies and how bright such light usually is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Family = Literal["tungsten", "daylight", "dusk", "led", "fluorescent"]


@dataclass(frozen=True)
class IlluminantFamily:
    """How the lights of one family vary.

    Attributes:
        share: how often the family is drawn, relative to the others.
        cct: lowest and highest correlated colour temperature, kelvin; drawn evenly in mired.
        duv: mean and standard deviation of the distance from the locus in CIE 1960 uv; positive is greenish.
        lux: lowest and highest illuminance on the scene; drawn evenly in stops.
        locus: the curve on which the family lies before ``duv`` moves it.
        spikes: how far the spectrum is from a smooth one, 0 (smooth) to 1 (spiky); the camera's colour matrix is less
            right the higher it is.
        leaning: stops by which the share grows for every stop that the picture is brighter than usual.
    """

    share: float
    cct: tuple[float, float]
    duv: tuple[float, float]
    lux: tuple[float, float]
    locus: Literal["planckian", "daylight"]
    spikes: float
    leaning: float = 0.0


FAMILIES: dict[Family, IlluminantFamily] = {
    "daylight": IlluminantFamily(0.32, (4500, 7500), (0.001, 0.002), (2000, 50000), "daylight", 0.0, 0.3),
    "dusk": IlluminantFamily(0.10, (3000, 7500), (0.002, 0.003), (4, 20), "planckian", 0.2, -0.7),
    "tungsten": IlluminantFamily(0.20, (2500, 3400), (0.000, 0.0015), (20, 500), "planckian", 0.0),
    "led": IlluminantFamily(0.22, (2700, 5500), (0.000, 0.004), (20, 800), "planckian", 0.5),
    "fluorescent": IlluminantFamily(0.16, (2900, 5000), (0.007, 0.004), (50, 800), "planckian", 1.0),
}


@dataclass(frozen=True)
class Illuminant:
    """One light.

    Attributes:
        family: which family it is of.
        cct: correlated colour temperature, kelvin.
        duv: distance from the locus, CIE 1960 uv; positive is greenish.
        xy: CIE 1931 chromaticity of its white.
        lux: illuminance on the scene.
        spikes: 0 (smooth spectrum) to 1 (spiky).
    """

    family: Family
    cct: float
    duv: float
    xy: tuple[float, float]
    lux: float
    spikes: float = 0.0

    @property
    def mired(self) -> float:
        """Reciprocal colour temperature, 10⁶/K: about equal steps look equally different."""
        return 1e6 / self.cct

    @property
    def xyz(self) -> np.ndarray:
        """White point ``float64 [3]`` with Y = 1."""
        x, y = self.xy
        return np.array([x / y, 1.0, (1 - x - y) / y])


def planckian_uv(cct: float) -> tuple[float, float]:
    """CIE 1960 (u, v) of a black body of ``cct`` kelvin, 1000..15000 (Krystek's rational fit)."""
    t = cct
    u = (0.860117757 + 1.54118254e-4 * t + 1.28641212e-7 * t * t) / (1 + 8.42420235e-4 * t + 7.08145163e-7 * t * t)
    v = (0.317398726 + 4.22806245e-5 * t + 4.20481691e-8 * t * t) / (1 - 2.89741816e-5 * t + 1.61456053e-7 * t * t)
    return u, v


def daylight_uv(cct: float) -> tuple[float, float]:
    """CIE 1960 (u, v) of the CIE daylight locus, 4000..25000 kelvin."""
    i = 1.0 / cct
    if cct <= 7000:
        x = -4.6070e9 * i**3 + 2.9678e6 * i**2 + 0.09911e3 * i + 0.244063
    else:
        x = -2.0064e9 * i**3 + 1.9018e6 * i**2 + 0.24748e3 * i + 0.237040
    y = -3 * x * x + 2.870 * x - 0.275
    d = -2 * x + 12 * y + 3
    return 4 * x / d, 6 * y / d


def chromaticity(cct: float, duv: float, locus: str = "planckian") -> tuple[float, float]:
    """CIE 1931 (x, y) at ``cct`` kelvin on a locus, moved by ``duv`` at a right angle to it (positive: greenish)."""
    curve = daylight_uv if locus == "daylight" else planckian_uv
    u, v = curve(cct)
    u1, v1 = curve(cct * 1.001)
    tangent = np.array([u1 - u, v1 - v])
    tangent /= np.hypot(*tangent)
    # Towards higher temperatures u and v fall, so this normal points to larger v: to green.
    u, v = u + duv * tangent[1], v - duv * tangent[0]
    d = 2 * u - 8 * v + 4
    return float(3 * u / d), float(2 * v / d)


def illuminant(family: Family, cct: float, duv: float = 0.0, lux: float = 500.0) -> Illuminant:
    """The light of a family at ``cct`` kelvin, ``duv`` off the locus, ``lux`` bright."""
    kind = FAMILIES[family]
    return Illuminant(family, cct, duv, chromaticity(cct, duv, kind.locus), lux, kind.spikes)


def draw_illuminant(rng: np.random.Generator, mean: float = 0.2) -> Illuminant:
    """A light of a random family, temperature, tint and brightness.

    Args:
        rng: draws the light.
        mean: mean linear sRGB value of the picture, 0..1: dusk is likelier for dark pictures, daylight for bright ones.
    """
    names = list(FAMILIES)
    stops = float(np.clip(np.log2(max(mean, 1e-3) / 0.2), -3, 2))
    shares = np.array([FAMILIES[n].share * 2 ** (FAMILIES[n].leaning * stops) for n in names])
    family = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    kind = FAMILIES[family]
    cct = 1e6 / rng.uniform(1e6 / kind.cct[1], 1e6 / kind.cct[0])
    duv = float(np.clip(rng.normal(*kind.duv), kind.duv[0] - 2 * kind.duv[1], kind.duv[0] + 2 * kind.duv[1]))
    lux = float(np.exp(rng.uniform(*np.log(kind.lux))))
    return illuminant(family, cct, duv, lux)
