"""The rule that a predictor is on top of, as its train run keeps it: a copy, so that the run stands alone.

``rule.json`` of a train run, beside its weights::

    {"format": 1,
     "run": "industry-1",          # the tune run that it is a copy of; "start": a set, under a setting
     "rule": "industry",           # its kind, see workbench.rules.tuned.Rule
     "of": {…},                    # the rule itself, as the tune run wrote it
     "follow": {"tone": 0.5, …}}   # how far the prediction is followed, a factor a block; 1 where it is not named
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from drivers.foreign_text import shown
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.regular_files import read_json
from workbench.errors import RunError
from workbench.lab.run_record import RECORD_BYTES
from workbench.lab.runs import RunFolder, find_run, list_runs, plain, write_json
from workbench.rules.setting import Setting
from workbench.rules.tuned import RULES, FixedSet, Rule, TunedRule, load_rule, rule_from, rule_of, under

FILE = "rule.json"
_NEXT = "put the file back, or run `workbench train` again"


@dataclass(frozen=True)
class BaseRule:
    """A rule to predict on top of.

    Attributes:
        run: name of the ``tune`` run; ``kind``: of the rule; ``of``: the rule.
        captures, device_s, compute_s: what the tuning cost, None where its record does not say.
        scenes: that the tuning saw.
    """

    run: str
    kind: str
    of: TunedRule
    captures: int | None = None
    device_s: float | None = None
    compute_s: float | None = None
    scenes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the rule."""
        return hashlib.sha256(json.dumps(plain(self.of.to_dict()), sort_keys=True).encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """What a train run's ``config`` says of it, as ``on_top_of``."""
        spent = {"captures": self.captures, "device_s": self.device_s, "compute_s": self.compute_s}
        return {"run": self.run, "rule": self.kind, "sha256": self.digest, **spent, "scenes": list(self.scenes)}

    def save(self, folder: Path, follow: Mapping[str, float]) -> None:
        """Write ``rule.json`` into a train run's folder; ``follow``: the factors by block."""
        told = {"format": 1, "run": self.run, "rule": self.kind, "of": self.of.to_dict(), "follow": follow}
        write_json(folder / FILE, told)


START = "start"
"""In place of a run's name: the set that training starts from, under a setting."""


def base_under(base: BaseRule | None, start: ParameterSet, setting: Setting | None) -> BaseRule | None:
    """The rule under a setting; without a rule the start under it, and without a setting the rule as it is."""
    if setting is None:
        return base
    if base is None:
        return BaseRule(START, Rule.fixed, under(FixedSet(start), setting))
    return replace(base, of=under(base.of, setting))


def find_base(lab: Path, name: str, space: ParameterSpace, task: str) -> BaseRule:
    """The rule of a ``tune`` run.

    Args:
        lab: the lab folder.
        name: of the run, or of a rule for the newest run of that rule on this device for this task.
        space: the device's parameters.
        task: the task's key.

    Raises:
        RunError: no such run, or it is of another device, or its rule cannot be read.
    """
    run = _newest(lab, name, space, task) if name in RULES and not (Path(lab) / "runs" / name).is_dir() else None
    run = run or find_run(lab, "tune", name)
    return BaseRule(
        run.name,
        rule_of(run),
        load_rule(run, space),
        run.results.get("captures"),
        run.results.get("device_s"),
        run.results.get("compute_s", run.results.get("seconds")),
        tuple(sorted({*(run.config.get("scenes") or ()), *(run.config.get("held_out_scenes") or ())})),
    )


def _newest(lab: Path, rule: str, space: ParameterSpace, task: str) -> RunFolder:
    from workbench.tasks.registry import task_key

    for run in list_runs(lab, "tune"):
        if rule_of(run) == rule and task_key(run) == task and not run.aside and run.device.space_hash in space.hashes:
            return run
    raise RunError(
        f"{lab}: no tune run of the rule {rule} for {task} on this device ({space.name}, {len(space)} parameters); "
        f"run `workbench tune --rule {rule}` first, or name a run"
    )


def kept_base(run: RunFolder) -> tuple[BaseRule, dict[str, float]] | None:
    """The rule that a ``train`` run is on top of, with the factors by block; None where it is on top of none.

    Raises:
        RunError: the run's copy is gone, damaged, or not the one that was trained with.
    """
    known = run.config.get("on_top_of")
    if known is None:
        return None
    file = run.path / FILE
    try:
        data = read_json(file, RECORD_BYTES)
        if data["format"] != 1:
            raise RunError(f"{file}: rule of format {data['format']}; this workbench reads format 1")
        name, kind = str(data["run"]), str(data["rule"])
        follow = {str(block): float(factor) for block, factor in data["follow"].items()}
        spent = {key: known.get(key) for key in ("captures", "device_s", "compute_s")}
        of, digest, scenes = data["of"], known["sha256"], tuple(map(str, known.get("scenes") or ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = shown(getattr(error, "strerror", None) or error)
        raise RunError(f"{file}: cannot be read as the rule of {run.name} ({reason:.200}); {_NEXT}") from error
    base = BaseRule(name, kind, rule_from(kind, of, file), **spent, scenes=scenes)
    if base.digest != digest:
        raise RunError(f"{file}: is not the rule that {run.name} was trained on top of; {_NEXT}")
    if odd := [f"{block} {factor:g}" for block, factor in follow.items() if not 0 <= factor <= 1]:
        raise RunError(f"{file}: factors go from 0 to 1, not {odd[0]}; {_NEXT}")
    if unknown := sorted(set(follow) - set(base.of.space.blocks)):
        raise RunError(f"{file}: has a factor for {shown(unknown[0])}, which is no block of the device; {_NEXT}")
    chosen = (run.results.get("follow") or {}).get("blocks") or ()
    recorded = {one.get("block"): one.get("factor") for one in chosen if isinstance(one, dict)}
    if changed := [block for block, factor in recorded.items() if follow.get(str(block), 1.0) != factor]:
        raise RunError(f"{file}: follows {shown(changed[0])} otherwise than {run.name} found; {_NEXT}")
    return base, follow


def follow_in_words(follow: Mapping[str, float]) -> str:
    """The factors for people: ``tone 1, gain 0.5``, and what is not followed at all."""
    followed = [f"{block} {factor:g}" for block, factor in follow.items() if factor]
    left = [block for block, factor in follow.items() if not factor]
    parts = ([f"followed: {', '.join(followed)}"] if followed else []) + ([f"not: {', '.join(left)}"] if left else [])
    return "; ".join(parts)
