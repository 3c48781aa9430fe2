"""Methods under a setting: what the setting sets is the same for all, whatever each was made under."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from workbench.console.progress import each
from workbench.judge.methods import Method
from workbench.lab.dataset import RawRecord
from workbench.lab.runs import RunFolder, recorded_run
from workbench.rules.setting import Setting, recorded_setting


def overlaid(methods: Sequence[Method], raws: Sequence[RawRecord], setting: Setting | None) -> list[Method]:
    """The methods with what the setting sets for each RAW; as they are without one."""
    if setting is None:
        return list(methods)
    # RAW by RAW: what a rule measures of its pixels is the same for all methods.
    rows = [
        [setting.of(m.sets[place], raw) for m in methods]
        for place, raw in enumerate(each(f"setting {setting.name}", raws))
    ]
    return [replace(m, sets=sets) for m, sets in zip(methods, zip(*rows, strict=True), strict=True)]


def same_setting(run: RunFolder, setting: Setting | None) -> bool:
    """Whether a run was made under that setting; with None, under none."""
    own = recorded_setting(run)
    return (own and own.hash) == (setting and setting.hash)


def other_settings(lab: Path, methods: Sequence[Method], setting: Setting | None) -> list[str]:
    """A note on the runs that were made under another setting than the methods are compared under; one line."""
    others = {}
    for run in dict.fromkeys(m.run for m in methods if m.run):
        folder = recorded_run(lab, run)
        if not (folder / "run.json").is_file():
            continue
        made = RunFolder.open(folder)
        if not same_setting(made, setting):
            own = recorded_setting(made)
            others[run] = own.name if own else "none"
    if not others:
        return []
    told = ", ".join(f"{run} ({name})" for run, name in others.items())
    asked = f"the setting {setting.name}" if setting else "no setting"
    return [f"made under another setting than this validation ({asked}): {told}"]
