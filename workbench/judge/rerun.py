"""Repeats a run from its record into a new run, and says whether the figures agree.

What was a capture then is one now: a repeated run reads the captures that it needs from the data set, and asks a device
only where one is given and a capture is missing. A tuning is searched anew, from an empty study. Where reruns agree
exactly, the record says everything that shaped the result; where the workbench, the data set, or the number of threads
is another one, figures may differ, and by how much is told.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from drivers.cfa import KINDS as CFA_KINDS
from drivers.device import Capture, Device, DeviceInfo
from drivers.errors import DeviceError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.raw_input import RawInput
from drivers.regular_files import read_json, read_regular
from drivers.weights import FILE_NAME, LARGEST_FILE
from workbench.errors import RunError
from workbench.judge.ablation.results import AblationResult
from workbench.judge.recorded_sets import expert_of, set_of
from workbench.judge.results import read_validation
from workbench.lab.dataset import Dataset
from workbench.lab.run_record import RECORD_BYTES
from workbench.lab.runs import RunFolder, find_recorded, find_run, recorded_run
from workbench.learn.base_rule import BaseRule, kept_base
from workbench.rules.setting import recorded_setting
from workbench.tasks.registry import check_recorded, task_of

KINDS = ("fit-proxy", "train", "tune", "validate", "ablate")
# Not figures: times, boots of the device, texts around the figures, the names of a study's trainings.
VOLATILE = frozenset(
    (
        *("seconds", "compute_s", "device_s", "captures_asked_now", "boot_id", "serial", "torch", "notes", "file"),
        *("file_sha256", "weights_sha256"),
        *("device", "runs", "faults", "failed", "failed_share", "failures_by_reason", "failed_trials"),
        *("raws_left_out", "left_out", "reason", "resamples", "budgets"),
    )
)
# What is drawn at random: not compared where an older workbench drew another number of resamples.
_DRAWN = (".low", ".high", ".verdict")


@dataclass(frozen=True)
class Difference:
    """A figure that is not the same: where in the results, what it was, what it is; None where it is missing."""

    figure: str
    before: Any
    after: Any

    @property
    def size(self) -> float:
        """How much it differs: absolute of numbers, infinite of anything else."""
        if isinstance(self.before, int | float) and isinstance(self.after, int | float):
            return abs(self.after - self.before)
        return math.inf


@dataclass(frozen=True)
class Outcome:
    """What came of a rerun.

    Attributes:
        before, after: the runs.
        figures: how many figures were compared.
        differences: those that are not exactly the same, the largest difference first.
    """

    before: RunFolder
    after: RunFolder
    figures: int
    differences: list[Difference]

    def agrees(self, tolerance: float = 0.0) -> bool:
        """Whether no figure differs by more than the tolerance."""
        return all(d.size <= tolerance for d in self.differences)


class RecordedDevice(Device):
    """A device as the data set remembers it: it can say who it is, its captures must be there already."""

    def __init__(self, info: DeviceInfo, url: str) -> None:
        self.url = url
        self._info = info

    def info(self) -> DeviceInfo:
        """Who the device was."""
        return self._info

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        """No captures come from here.

        Raises:
            DeviceError: always.
        """
        raise DeviceError(
            f"{raw.source or raw.hash[:12]}: the data set has no capture of {self._info.identity} with the parameters "
            f"{parameters.hash[:12]}, which the rerun needs; give the device with --device"
        )

    def close(self) -> None:
        """Nothing is held."""


class Progress(Protocol):
    """Told the part of the run that is repeated, what is counted, how much is done, how much there is, and a note."""

    def __call__(self, part: str, unit: str, done: int, total: int, note: str = "", /) -> None:
        """Called now and then."""


def rerun(
    lab: Path,
    name: str,
    *,
    device: Device | None = None,
    new_name: str | None = None,
    progress: Progress = lambda *told: None,
) -> Outcome:
    """Repeat a finished run and compare the results.

    Args:
        lab: the lab folder.
        name: the run.
        device: asked for captures that the data set does not have; it must be the run's device.
        new_name: of the new run; by default the old name with ``-rerun``.
        progress: see :class:`Progress`.

    Raises:
        RunError: no such run, one that cannot be repeated, or what it was made from is not there any more.
        DeviceError: a capture is missing and there is no device, or the device failed.
    """
    old = RunFolder.open(Path(lab) / "runs" / name)
    _check(old)
    before = results_of(old)
    if next(_figures(before), None) is None:
        raise RunError(f"run {old.name}: its results hold no figure to compare with; put its files back")
    if new_name and (Path(lab) / "runs" / new_name).exists():
        raise RunError(f"run {new_name!r} is already there; choose another name")
    try:
        new = _repeat(lab, old, new_name or _free_name(lab, old.name), device, progress)
    except KeyError as error:
        raise RunError(
            f"run {old.name}: its record lacks {error}, so it cannot be repeated; its command was: {old.record.command}"
        ) from error
    new.update(rerun_of=old.name)
    return Outcome(old, new, *compare_results(before, results_of(new)))


def _repeat(lab: Path, old: RunFolder, new_name: str, device: Device | None, progress: Progress) -> RunFolder:
    if old.kind == "train":
        return _train(lab, old, new_name, device, progress)
    with Dataset.open(lab) as dataset:
        asked = device or _recorded(dataset, old)
        _check_identity(old, asked.info())
        if old.kind == "tune":
            return _tune(lab, dataset, asked, old, new_name, progress)
        if old.kind == "ablate":
            return _ablate(lab, dataset, asked, old, new_name, progress)
        if old.kind == "validate":
            return _validate(lab, dataset, asked, old, new_name, progress)
        return _fit_proxy(lab, asked if old.results.get("fidelity") else None, old, new_name, progress)


def compare_results(before: Any, after: Any) -> tuple[int, list[Difference]]:
    """The number of figures, and those that differ, the largest difference first.

    What only the new results have (a newer workbench may say more) is no difference.
    """
    drawn_alike = _resamples(before) == _resamples(after)
    old, new = (
        {k: v for k, v in _figures(results) if v is not None and (drawn_alike or not k.endswith(_DRAWN))}
        for results in (before, after)
    )
    differences = [Difference(key, value, new.get(key)) for key, value in old.items() if new.get(key) != value]
    return len(old), sorted(differences, key=lambda d: (-d.size, d.figure))


def _resamples(results: Any) -> Any:
    return results.get("resamples") if isinstance(results, dict) else None


def results_of(run: RunFolder) -> dict[str, Any]:
    """All results of a run as plain data, of an older format as of this one.

    Raises:
        RunError: the file is damaged.
    """
    if run.kind == "validate":
        return read_validation(run).to_json()
    if run.kind == "ablate":
        return AblationResult.read(run.path / "results.json").to_json()
    file = run.path / "results.json"
    if not file.is_file():
        return run.results
    try:
        results = read_json(file, RECORD_BYTES)
    except (OSError, ValueError) as error:
        raise RunError(f"{file}: cannot be read ({error}); put the file back, or repeat its command") from error
    if not isinstance(results, dict):
        raise RunError(f"{file}: holds no results; put the file back, or repeat its command")
    return results


def _figures(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in VOLATILE:
                yield from _figures(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _figures(inner, f"{path}[{i}]")
    else:
        yield path, value


def _check(run: RunFolder) -> None:
    if run.kind not in KINDS:
        raise RunError(
            f"run {run.name}: a {run.kind} run is not repeated from its record; of these kinds it can be: "
            f"{', '.join(KINDS)}. Its command was: {run.record.command}"
        )
    if not run.finished:
        raise RunError(f"run {run.name}: never finished, so it has no figures; finish it: {run.record.command}")
    check_recorded(run)
    # Names that a stranger may have written: none leads out of the lab, to be read or copied from there.
    named = [run.config.get(key) for key in ("proxy", "fixed", "industry", "auto", "around")]
    for name in [*named, *(run.config.get("predictors") or ()), *(run.config.get("tunes") or ())]:
        if name not in (None, False, True, "(none)"):  # a tuning says with "industry" whether it made a table
            recorded_run(run.path.parent.parent, name)


def _free_name(lab: Path, name: str) -> str:
    stem = f"{name}-rerun"
    taken = {p.name for p in (Path(lab) / "runs").iterdir()}
    return next(n for i in range(1, len(taken) + 2) if (n := stem if i == 1 else f"{stem}-{i}") not in taken)


def _identity(run: RunFolder) -> str:
    return str(run.device.identity or run.config.get("identity"))


def _recorded(dataset: Dataset, run: RunFolder) -> RecordedDevice:
    identity = _identity(run)
    known = next((d for d in dataset.devices() if d.identity == dataset.known_as(identity)), None)
    if known is None:
        raise RunError(f"run {run.name}: the data set holds no captures of its device {identity}; give --device")
    serial, boot_id = run.device.serial or "", run.device.boot_id or ""
    taken = RawInput(cfa=tuple(CFA_KINDS))  # which RAWs it takes is not recorded; what the run needs, it took
    info = DeviceInfo(known.model, known.firmware, serial, boot_id, dataset.space(identity), input=taken)
    return RecordedDevice(info, str(run.config.get("device", "recorded:")))


def _check_identity(run: RunFolder, info: DeviceInfo) -> None:
    if not info.goes_by(_identity(run)):
        raise RunError(f"run {run.name}: was made with {_identity(run)}, the device is {info.identity}")


def _own(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The values that are fields of a dataclass; those that an older record lacks keep their default."""
    return {f.name: values[f.name] for f in fields(kind) if f.name in values}


def _fit_proxy(lab: Path, device: Device | None, old: RunFolder, name: str, progress: Progress) -> RunFolder:
    from proxy.training import ProxyRecipe
    from workbench.learn.proxy_fitting import fit_proxy

    recipe = ProxyRecipe(**_own(ProxyRecipe, old.config["recipe"]))
    # Records of older versions do not have these: their report followed no loss.
    around = old.config.get("around")
    return fit_proxy(
        lab,
        recipe,
        device=device,
        identity=_identity(old),
        name=name,
        around=find_recorded(lab, "tune", around) if around else None,
        loss_raws=int(old.config.get("loss_raws") or 0),
        on_step=lambda step: progress("fitting the proxy", "step", step.step, step.steps),
    )


def _train(lab: Path, old: RunFolder, name: str, device: Device | None, progress: Progress) -> RunFolder:
    from predictor.training import Recipe
    from workbench.learn.predictor_training import train
    from workbench.learn.recipe_names import FOLLOW_CAPTURES

    if "refine" in old.config:
        raise RunError(f"run {old.name}: was refined; its command once more with another --name repeats it")
    task, start, chosen, kept = task_of(old), None, "follow" in old.results, kept_base(old)
    with Dataset.open(lab) as dataset:
        if kept is None and (digest := old.config.get("start")):
            start = set_of(dataset, dataset.space(_identity(old)), digest)
        asked = (device or _recorded(dataset, old)) if chosen else None
    if asked is not None:
        _check_identity(old, asked.info())
    return train(
        lab,
        Recipe(**_own(Recipe, old.config["recipe"])),
        proxy_run=old.config["proxy"],
        task=task,
        start=start,
        on_top_of=kept[0] if kept else None,
        setting=recorded_setting(old),
        device=asked,
        follow_captures=int(old.config.get("follow_captures") or FOLLOW_CAPTURES),
        name=name,
        on_step=lambda step: progress("training", "step", step.step, step.steps),
        on_capture=lambda done, total: progress("choosing how far to leave the rule", "capture", done, total),
    )


def _copy_proxy(run: Path, to: Path) -> None:
    """The files of a proxy that a search reads; a run's folder may hold anything else, and links to anywhere."""
    to.mkdir(parents=True)
    for name, limit in (("run.json", RECORD_BYTES), (FILE_NAME, LARGEST_FILE)):
        try:
            (to / name).write_bytes(read_regular(run / name, limit))
        except OSError as error:
            raise RunError(f"{run / name}: cannot be read: {error.strerror}; put the file back") from error


def _tune(lab: Path, dataset: Dataset, device: Device, old: RunFolder, name: str, progress: Progress) -> RunFolder:
    from workbench.rules.tuned import rule_of
    from workbench.tune.fixed import tune_run
    from workbench.tune.tuner import TuneSettings

    own = _own(TuneSettings, old.config)
    settings = TuneSettings(**{**own, "more_metrics": tuple(own.get("more_metrics", ()))})
    expert, proxy = expert_of(dataset, device.info().space, old), old.config.get("proxy")
    runs = Path(lab) / "runs"
    # Beside the lab's own studies: there the search would find itself finished.
    with tempfile.TemporaryDirectory(prefix=".rerun-", dir=lab, ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        if proxy:
            find_run(lab, "fit-proxy", proxy)
            _copy_proxy(recorded_run(lab, proxy), scratch / "runs" / proxy)
        made = tune_run(
            scratch,
            dataset,
            device,
            settings,
            rule=rule_of(old),
            expert=expert,
            task=task_of(old),
            proxy=proxy,
            setting=recorded_setting(old),
            name=name,
            progress=lambda done, total, best: progress("tuning", "capture", min(done, total), total),
        )
        made.path.rename(runs / name)
    return RunFolder.open(runs / name)


def _ablate(lab: Path, dataset: Dataset, device: Device, old: RunFolder, name: str, progress: Progress) -> RunFolder:
    from predictor.training import Recipe
    from workbench.judge.ablation.study import ablate_run
    from workbench.judge.ablation.training import train_variants
    from workbench.judge.ablation.variants import AblationSettings

    config, base = old.config, _base_of(lab, old.config["trains"])
    settings = AblationSettings(
        recipe=Recipe(**_own(Recipe, config["recipe"])),
        seeds=tuple(config["seeds"]),
        only=tuple(config["variants"]),
        proxy=config["proxy"],
        prefix=name,
        scatter=tuple(config["scatter"]) if config.get("scatter") else None,
        raw=config.get("raw"),
        test_raws=config["test_raws"],
        start=None if base else set_of(dataset, device.info().space, config.get("start")),
        on_top_of=base,
        setting=recorded_setting(old),
    )
    task = task_of(old)

    def training(done: int, total: int, note: str) -> None:
        progress("training", "step", done, total, note)

    def measuring(done: int, total: int, note: str) -> None:
        progress(note, "step", done, total, note)

    trained = train_variants(lab, settings, training, task)
    return ablate_run(lab, dataset, device, settings, trained, task, name=name, progress=measuring)[0]


def _base_of(lab: Path, trains: Sequence[str]) -> BaseRule | None:
    """The rule below a study's trainings, from the first of them: the tune run itself may be gone."""
    return (kept_base(find_recorded(lab, "train", trains[0])) or (None,))[0]


def _validate(lab: Path, dataset: Dataset, device: Device, old: RunFolder, name: str, progress: Progress) -> RunFolder:
    from workbench.judge.methods import NONE, ValidationSettings
    from workbench.judge.validation import validate_run

    config, found = old.config, read_validation(old)
    settings = ValidationSettings(
        predictors=tuple(config["predictors"]) or (NONE,),
        fixed=config["fixed"] or NONE,
        industry=config["industry"] or NONE,
        auto=config.get("auto") or NONE,
        proxy=config.get("proxy"),
        expert=Path(config["expert"]) if config.get("expert") else None,
        test_raws=found.raws + found.raws_left_out,
        oracle_captures=config.get("oracle_captures", 0),
        oracle_metric=config.get("oracle_metric"),
        seed=found.seed,
        tunes=tuple(config.get("tunes", ())),
        remark=config.get("remark", ""),
        setting=recorded_setting(old),
        by_block=bool(config.get("by_block")),
    )

    def show(phase: str, done: int, total: int, unit: str = "capture", /) -> None:
        progress(phase, unit, done, total, phase)

    return validate_run(lab, dataset, device, settings, task_of(old), name=name, progress=show)[0]
