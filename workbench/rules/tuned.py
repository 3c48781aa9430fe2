"""The rules that a tuning can make: how the parameters of a RAW follow from what was tuned.

Light to import, so that the command line can list them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from workbench.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.frames import RawFrame
    from drivers.parameter import Native
    from drivers.parameters import ParameterSet, ParameterSpace
    from workbench.lab.dataset import RawRecord
    from workbench.lab.runs import RunFolder
    from workbench.rules.balance import WhiteBalance
    from workbench.rules.setting import Setting


class Rule(StrEnum):
    """The rules' names, as commands and records spell them."""

    fixed = "fixed"
    as_shot = "as-shot"
    industry = "industry"
    industry_grey_world = "industry-grey-world"
    regression = "regression"
    auto = "auto"

    @property
    def one_set(self) -> bool:
        """Whether it is one set for all RAWs, but for the gains where white balance sets them."""
        return self in (Rule.fixed, Rule.as_shot)

    @property
    def white_balance(self) -> WhiteBalance | None:
        """What sets the gains of each RAW; None: they are searched like all else."""
        if self in (Rule.as_shot, Rule.industry, Rule.auto):
            return "as-shot"
        return "grey-world" if self is Rule.industry_grey_world else None

    @property
    def over_iso(self) -> bool:
        """Whether it is a table over ISO."""
        return self in (Rule.industry, Rule.industry_grey_world)


RULES: dict[str, str] = {
    Rule.fixed: "fixed set",
    Rule.as_shot: "fixed set with as-shot WB",
    Rule.industry: "industry (as-shot WB, ISO table)",
    Rule.industry_grey_world: "industry (grey-world WB, ISO table)",
    Rule.regression: "regression to per-image optima",
    Rule.auto: "auto (as-shot WB, linear in ISO and light)",
}
"""What each rule is called in a table of results."""


BEST = "best.toml"
"""The file of a fixed set in a run's folder."""


def rule_of(run: RunFolder) -> str:
    """The rule of a ``tune`` run; runs of older versions only say whether it is the industry's."""
    return str(run.config.get("rule") or (Rule.industry if run.config.get("industry") else Rule.fixed))


def label_of(run: RunFolder) -> str:
    """What a tune run is called in a table of results: rule, method and, where there are several, metrics."""
    metrics = [str(run.config.get("metric", "psnr")), *run.config.get("more_metrics", ())]
    searched = "" if metrics == ["psnr"] else f" for {' and '.join(metrics)}"
    return f"{RULES.get(rule_of(run), rule_of(run))}, {run.config.get('method')}{searched}"


class TunedRule(Protocol):
    """What a tuning lead to."""

    @property
    def space(self) -> ParameterSpace:
        """The device's parameters."""

    def parameters_for(self, raw: RawRecord | RawFrame) -> ParameterSet:
        """The parameters that a RAW gets."""

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain JSON data, of which :func:`rule_from` makes it again."""


@dataclass(frozen=True)
class FixedSet:
    """The same set for every RAW."""

    parameters: ParameterSet

    @property
    def space(self) -> ParameterSpace:
        """The device's parameters."""
        return self.parameters.space

    def parameters_for(self, raw: RawRecord | RawFrame) -> ParameterSet:
        """The set."""
        return self.parameters

    def to_dict(self) -> dict[str, Any]:
        """The set as plain JSON data, in native values."""
        return {"format": 1, "space": self.space.to_dict(), "parameters": self.parameters.values}


@dataclass(frozen=True)
class UnderSettings:
    """A rule, and what settings set for each RAW, the later over the earlier ones."""

    rule: TunedRule
    settings: tuple[Setting, ...]

    @property
    def space(self) -> ParameterSpace:
        """The device's parameters."""
        return self.rule.space

    def parameters_for(self, raw: RawRecord | RawFrame) -> ParameterSet:
        """The parameters that a RAW gets."""
        parameters = self.rule.parameters_for(raw)
        for setting in self.settings:
            parameters = setting.of(parameters, raw)
        return parameters

    @property
    def by_rule(self) -> dict[str, str]:
        """The parameters that go by rule for each RAW, with the rule in words."""
        found: dict[str, str] = {}
        for setting in self.settings:
            found = {name: how for name, how in found.items() if name not in setting.held}
            found |= {name: f"by rule {rule.rule}" for name, rule in setting.by_rule.items()}
        return found

    @property
    def held(self) -> dict[str, Native]:
        """The parameters that are held, with their native values."""
        found: dict[str, Native] = {}
        for setting in self.settings:
            found = {name: value for name, value in found.items() if name not in setting.by_rule}
            found |= setting.held
        return found

    def to_dict(self) -> dict[str, Any]:
        """The rule's plain JSON data, and the settings."""
        return {**self.rule.to_dict(), "settings": [setting.to_json() for setting in self.settings]}


def under(rule: TunedRule, setting: Setting | None) -> TunedRule:
    """The rule under a setting, over those that it is under already."""
    if setting is None:
        return rule
    if isinstance(rule, UnderSettings):
        others = tuple(s for s in rule.settings if s.hash != setting.hash)
        return UnderSettings(rule.rule, (*others, setting))
    return UnderSettings(rule, (setting,))


def rule_from(kind: str, data: Any, path: Path, space: ParameterSpace | None = None) -> TunedRule:
    """A rule of the kind of that name (see :class:`Rule`) from plain JSON data; ``path`` is named in errors.

    ``space``: of its parameters, where that is known; else it is read from the data.

    Raises:
        RunError: the kind is unknown, or the data is no such rule.
    """
    from drivers.errors import ParameterError
    from drivers.parameters import ParameterSpace
    from workbench.rules.industry import IndustryTable
    from workbench.rules.regression import Regression

    if kind not in RULES:
        raise RunError(f"{path}: rule {kind!r:.60} is not one of {', '.join(RULES)}")
    if isinstance(data, dict) and "settings" in data:
        from workbench.rules.setting import settings_from

        settings = settings_from(data["settings"], path)
        bare = {key: value for key, value in data.items() if key != "settings"}
        return UnderSettings(rule_from(kind, bare, path, space), settings)
    if kind in (Rule.regression, Rule.auto):
        return Regression.from_dict(data, path, space)
    if kind != Rule.fixed:
        return IndustryTable.from_dict(data, path, space)
    try:
        return FixedSet((space or ParameterSpace.from_dict(data["space"])).parse(data["parameters"]))
    except (KeyError, TypeError, ValueError, AttributeError, ParameterError) as error:
        raise RunError(f"{path}: cannot be read as a fixed set ({error!s:.200}); put the file back") from error


def load_rule(run: RunFolder, space: ParameterSpace) -> TunedRule:
    """The rule that a ``tune`` run lead to, under the setting that it was tuned under.

    Raises:
        RunError: the run's file cannot be read or is not the one that the run wrote, or is of another parameter space.
    """
    from workbench.rules.industry import TABLE, IndustryTable
    from workbench.rules.regression import REGRESSION, Regression
    from workbench.rules.setting import recorded_setting

    if run.device.space_hash not in (None, *space.hashes):
        raise RunError(
            f"run {run.name}: was tuned on {run.device.model}, whose parameters are not those of this device "
            f"({space.name}, {len(space)} parameters); choose a run made on this device"
        )
    if rule_of(run) == Rule.fixed:
        file = run.path / BEST
        best = space.load_toml(file)
        if run.results.get("parameters_hash") not in (None, best.hash):
            raise RunError(f"{file}: is not the set that the run found; put the file back, or tune again")
        return under(FixedSet(best), recorded_setting(run))
    rule: IndustryTable | Regression
    if rule_of(run) in (Rule.regression, Rule.auto):
        file = run.path / REGRESSION
        rule = Regression.load(file)
    else:
        file = run.path / TABLE
        rule = IndustryTable.load(file)
    # Runs of older versions do not have it.
    if run.results.get("file_sha256") not in (None, hashlib.sha256(file.read_bytes()).hexdigest()):
        raise RunError(f"{file}: is not the rule that the run found; put the file back, or tune again")
    if rule.space.hash != space.hash:
        raise RunError(
            f"run {run.name}: its parameter space ({rule.space.name}, {len(rule.space)} parameters) is not that of the "
            f"device ({space.name}, {len(space)} parameters); choose a run made on this device"
        )
    return under(rule.within(space), recorded_setting(run))


def sets_of(run: RunFolder, space: ParameterSpace, raws: Sequence[RawRecord]) -> tuple[ParameterSet, ...]:
    """What a ``tune`` run chooses for each RAW.

    Raises:
        RunError: see :func:`load_rule`.
    """
    from workbench.console.progress import each

    rule = load_rule(run, space)
    return tuple(rule.parameters_for(raw) for raw in each(f"what {run.name} gives", raws))
