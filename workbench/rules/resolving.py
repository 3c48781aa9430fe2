"""A setting for a device: what it names must be there, and the constants that it leaves open are fitted.

They are fitted to the references of training RAWs, without a device: the gain that a RAW needs brings the mean of its
green plane to that of its reference, in linear light.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drivers.errors import ParameterError
from drivers.foreign_text import shown
from drivers.parameter import GAINS
from drivers.parameters import ParameterSpace
from drivers.splits import Split
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.stratified import stratified
from workbench.rules.roles import of_role
from workbench.rules.setting import BUILT_IN, Balance, Exposure, MeanLevel, Setting, features, levels, load_setting

_FITTED_ON = 256
_SHOWN_ON = 32
_DIGITS = 4


class Resolved(NamedTuple):
    """A setting with all its constants, or None; and what a reader must know of it, one line each."""

    setting: Setting | None
    notes: tuple[str, ...] = ()


def resolve(asked: str | Path | Setting | None, space: ParameterSpace, dataset: Dataset) -> Resolved:
    """The setting for a device.

    Args:
        asked: ``3a``, a TOML file, a setting as a run recorded it, or None.
        space: the device's parameters.
        dataset: where the training RAWs are.

    Raises:
        ParameterError: the file cannot be read, or names what the device has not.
        RunError: a constant is left open, and no training RAW has a reference.
    """
    if asked is None:
        return Resolved(None)
    notes: list[str] = []
    if isinstance(asked, Setting):
        setting = asked
    elif str(asked) == BUILT_IN:
        setting, notes = built_in(space)
    else:
        setting = load_setting(Path(asked))
    _check(setting, space)
    raws = dataset.raws(Split.TRAIN)
    as_shot = any(isinstance(r, Balance) and r.rule == "as-shot" for r in setting.by_rule.values())
    if as_shot and (unknown := sum(r.as_shot_wb is None for r in raws)):
        notes.append(f"{unknown} of {len(raws)} training RAWs tell no as-shot white balance: they keep the set's gains")
    closed = _closed(setting, raws)
    if not isinstance(asked, Setting):
        notes += _clipped(closed, space, stratified(raws, _SHOWN_ON, 0))
    return Resolved(closed, tuple(f"setting {setting.name}: {note}" for note in notes))


def built_in(space: ParameterSpace) -> tuple[Setting, list[str]]:
    """The setting ``3a`` for a device, and a note for each part that it has no parameter for.

    Raises:
        ParameterError: it has none of them.
    """
    device, notes = shown(space.name), []
    by_rule = {p.name: "as-shot" for p in space.parameters if p.role in GAINS}
    if len(by_rule) < 2:
        notes.append(f"{device} lacks a parameter of the role red_gain or blue_gain: white balance stays as it is")
    gains = of_role(space, "digital_gain")
    by_rule |= {p.name: "exposure" for p in gains[:1]}  # two would be set twice
    if not gains:
        notes.append(
            f"{device} has no parameter of the role digital_gain: exposure stays as it is, a setting of your own can "
            "name one"
        )
    held = {p.name: p.from_code(p.to_code(p.default)) for p in of_role(space, "black_level")}
    if not held:
        notes.append(f"{device} has no parameter of the role black_level: none is held")
    if not by_rule and not held:
        raise ParameterError(
            f"setting {BUILT_IN}: {device} has no parameter of the roles {', '.join(GAINS)}, digital_gain and "
            "black_level; write a setting of your own, a TOML file with [by_rule] and [held]"
        )
    return Setting.model_validate({"name": BUILT_IN, "by_rule": by_rule, "held": held}), notes


def _check(setting: Setting, space: ParameterSpace) -> None:
    """See that the device has what the setting names, in the kind and range that it needs."""
    where = f"setting {setting.name}"
    try:
        # Its own errors say what is near an unknown name.
        space.parse({**dict.fromkeys(n for n in setting.by_rule if n not in space.names), **setting.held}, partial=True)
    except ParameterError as error:
        raise ParameterError(f"{where}: {error}") from error
    for name, rule in setting.by_rule.items():
        if isinstance(rule, Balance) and space[name].role not in GAINS:
            raise ParameterError(
                f"{where}: {name} is not of the role red_gain or blue_gain, which rule {rule.rule} sets; give it the "
                "role in the device's parameter space"
            )
        if space[name].kind in ("choice", "bool"):
            raise ParameterError(f"{where}: {name} is a {space[name].kind}, which no rule sets; hold it at a value")
    for name in setting.names:
        if apart := space.relations.constrained_with(name) - setting.names:
            raise ParameterError(f"{where}: sets {name}, which is constrained with {min(apart)}; hold that too")
    if not setting.left(space.names):
        raise ParameterError(f"{where}: sets every parameter of {shown(space.name)}; leave some to be found")


def _clipped(setting: Setting, space: ParameterSpace, raws: Sequence[RawRecord]) -> list[str]:
    """A note for each parameter that a rule puts beyond its range for more than half of the RAWs."""
    notes = []
    for name, rule in setting.by_rule.items():
        parameter = space[name]
        low, high = (parameter.from_code(code) for code in (parameter.low_code, parameter.high_code))
        values = [value for raw in raws if (value := rule.value(raw, parameter)) is not None]
        beyond = [value for value in values if not float(low) <= value <= float(high)]
        if len(beyond) > len(raws) / 2:
            notes.append(
                f"rule {rule.rule} puts {name} beyond its range of {low:g} to {high:g} for {len(beyond)} of "
                f"{len(raws)} training RAWs, such as {beyond[0]:.3g}: it stays at the range's end there"
            )
    return notes


def _closed(setting: Setting, raws: Sequence[RawRecord]) -> Setting:
    """The setting with every constant that it leaves open."""
    if not any(rule.open for rule in setting.by_rule.values()):
        return setting
    known = []
    for raw in each(f"fit setting {setting.name}", stratified([r for r in raws if r.has_reference], _FITTED_ON, 0)):
        if (gain := _needed(raw)) is not None:
            known.append((features(raw), gain))
    if not known:
        raise RunError(
            f"setting {setting.name}: no training RAW has a reference to fit the exposure to; give the rule's "
            "constants in a TOML file"
        )
    fitted: dict[str, Any] = _fit(np.array([f for f, _ in known]), np.array([g for _, g in known]))
    by_rule = {name: fitted[rule.rule] if rule.open else rule for name, rule in setting.by_rule.items()}
    return setting.model_copy(update={"by_rule": by_rule})


def _fit(inputs: np.ndarray, gains: np.ndarray) -> dict[str, MeanLevel | Exposure]:
    """The rules of the smallest squared error in stops, from features ``[R, 3]`` and gains ``[R]``, both log2."""
    middle, level = inputs.mean(axis=0), gains.mean()
    centred = inputs - middle
    # As if one more RAW asked for no slope: where RAWs are few or alike, the gain is nearly constant.
    slopes = np.linalg.solve(centred.T @ centred + np.eye(3), centred.T @ (gains - level)).round(_DIGITS)
    mean, highlights, iso = (float(slope) for slope in slopes)
    return {
        "mean": MeanLevel(rule="mean", target=_rounded(2.0 ** (gains + inputs[:, 0]).mean())),
        "exposure": Exposure(
            rule="exposure", gain=_rounded(2.0 ** (level - middle @ slopes)), mean=mean, highlights=highlights, iso=iso
        ),
    }


def _needed(raw: RawRecord) -> float | None:
    """log2 of the gain that a RAW needs to be as bright as its reference; None where that is black."""
    reference = raw.reference()
    assert reference is not None
    encoded = np.arange(256) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    mean = float(linear[reference[..., 1]].mean())
    return float(np.log2(mean / levels(raw)[0])) if mean > 1e-3 else None


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
