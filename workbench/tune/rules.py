"""The rules that a tuning can make: how the parameters of a RAW follow from what was tuned."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.parameters import ParameterSet, ParameterSpace
from workbench.errors import RunError
from workbench.lab.dataset import RawRecord
from workbench.lab.runs import RunFolder
from workbench.tune.industry import IndustryTable
from workbench.tune.regression import Regression

# What each rule is called in a table of results.
RULES = {
    "fixed": "fixed set",
    "as-shot": "fixed set with as-shot WB",
    "industry": "industry (as-shot WB, ISO table)",
    "industry-grey-world": "industry (grey-world WB, ISO table)",
    "regression": "regression to per-image optima",
}


def rule_of(run: RunFolder) -> str:
    """The rule of a ``tune`` run; runs of older versions only say whether it is the industry's."""
    return str(run.config.get("rule") or ("industry" if run.config.get("industry") else "fixed"))


def label_of(run: RunFolder) -> str:
    """What a tune run is called in a table of results: rule, method and, where there are several, metrics."""
    metrics = [str(run.config.get("metric", "psnr")), *run.config.get("more_metrics", ())]
    searched = "" if metrics == ["psnr"] else f" for {' and '.join(metrics)}"
    return f"{RULES.get(rule_of(run), rule_of(run))}, {run.config.get('method')}{searched}"


def sets_of(run: RunFolder, space: ParameterSpace, raws: Sequence[RawRecord]) -> tuple[ParameterSet, ...]:
    """What a ``tune`` run chooses for each RAW.

    Raises:
        RunError: the run's file cannot be read or is not the one that the run wrote, or is of another parameter space.
    """
    device = run.record.get("device") or {}
    if device.get("space_hash") not in (None, space.hash):
        raise RunError(
            f"run {run.name}: was tuned on {device.get('model')}, whose parameters are not those of this device "
            f"({space.name}, {len(space)} parameters); choose a run made on this device"
        )
    if rule_of(run) == "fixed":
        file = run.path / "best.toml"
        best = space.load_toml(file)
        if run.results.get("parameters_hash") not in (None, best.hash):
            raise RunError(f"{file}: is not the set that the run found; put the file back, or tune again")
        return (best,) * len(raws)
    rule: IndustryTable | Regression
    if rule_of(run) == "regression":
        rule = Regression.load(run.path / "regression.json")
    else:
        rule = IndustryTable.load(run.path / "table.json")
    if rule.space.hash != space.hash:
        raise RunError(
            f"run {run.name}: its parameter space ({rule.space.name}, {len(rule.space)} parameters) is not that of the "
            f"device ({space.name}, {len(space)} parameters); choose a run made on this device"
        )
    return tuple(rule.parameters_for(raw) for raw in raws)
