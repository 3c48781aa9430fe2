"""What a report is made of: the validation and the runs behind it, as they lie in a lab folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drivers.device import DeviceInfo
from drivers.parameters import ParameterSpace
from drivers.splits import Split
from workbench.errors import DatasetError, RunError
from workbench.judge.methods import MethodKind
from workbench.judge.results import DeviceUsed, ValidationResult, read_validation
from workbench.judge.statistics import Comparison, compare
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.run_record import RunDevice
from workbench.lab.runs import RunFolder, find_recorded, find_run, list_runs
from workbench.learn.held import held_by
from workbench.learn.results import ProxyFitResult, TrainResult
from workbench.rules.tuned import label_of
from workbench.tasks.registry import task_key
from workbench.tasks.task import Metric
from workbench.tune.results import tune_result


@dataclass(frozen=True)
class Source:
    """Where a figure comes from, as a reader needs it to make it again.

    Attributes:
        run, kind: the run's name and kind; ``seed`` its seed.
        digest: of the data set when the run started, 12 hexadecimal digits.
        device, firmware: what the run was made on (a training run: the device whose captures it learned from).
        command: the command line; ``version``: of the workbench; ``started``: UTC.
    """

    run: str
    kind: str
    seed: str
    digest: str
    device: str
    firmware: str
    command: str
    version: str
    started: str


def source_of(run: RunFolder, known: DeviceUsed | None = None) -> Source:
    """The source that a run's figures name; ``–`` where the run does not say.

    Args:
        run: the run.
        known: a device; a run that names only this device's identity is taken to be of it.
    """
    record, device = run.record, run.device
    if record.device is None and known and known.identity == run.config.get("identity"):
        device = RunDevice.model_validate({**known.to_json(), "serial": None})
    serial = f", unit {device.serial}" if device.serial else ""
    model = f"{device.model}{serial}" if device.model else run.config.get("identity")
    seed, started = record.seed, str(record.started or "–")
    return Source(
        run=run.name,
        kind=run.kind,
        seed="–" if seed is None else str(seed),
        digest=str(record.dataset_digest or "–")[:12],
        device=str(model or "–"),
        firmware=str(device.firmware or "–"),
        command=str(record.command or "–"),
        version=str(record.workbench_version or "–"),
        started=started[:16].replace("T", " "),
    )


@dataclass
class Material:
    """A validation with everything around it that could be found.

    Attributes:
        lab: the lab folder.
        validation: the ``validate`` run; ``results``: of it.
        proxy: the ``fit-proxy`` run, or None.
        predictors: the ``train`` runs that were validated, in the table's order.
        tunings: ``tune`` runs by the key of their method (``fixed``, ``industry``, ``tune:RUN``).
        more_tunings: the lab's ``tune`` runs on devices like this one that are not of the validation's kinds, the
            newest of each kind.
        fronts: ``tune`` runs for several metrics on devices like this one, the newest of each kind.
        ablation: the ``ablate`` run, or None.
        missing: what should have been there and was not, one line each.
        refused: keys of methods whose figures do not hold (:mod:`workbench.report.checks`).
    """

    lab: Path
    validation: RunFolder
    results: ValidationResult
    proxy: RunFolder | None = None
    predictors: list[RunFolder] = field(default_factory=list)
    tunings: dict[str, RunFolder] = field(default_factory=dict)
    more_tunings: list[RunFolder] = field(default_factory=list)
    fronts: list[RunFolder] = field(default_factory=list)
    ablation: RunFolder | None = None
    missing: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def source(self, run: RunFolder) -> Source:
        """The source of a run's figures."""
        return source_of(run, self.results.device)

    @property
    def space(self) -> ParameterSpace:
        """The device's."""
        return self.results.parameter_space

    @property
    def metric(self) -> Metric:
        """What methods are compared by RAW by RAW."""
        return self.results.of_raws

    @property
    def predicted(self) -> str | None:
        """Key of the method that the headline is about."""
        return self.results.headline.method if self.results.headline else None

    @property
    def held(self) -> list[str]:
        """Parameters that the headline's predictor held at their start values; none where its run does not tell."""
        run = self.predictor
        return [name for name in held_by(run) if name in self.space.names] if run else []

    @property
    def predictor(self) -> RunFolder | None:
        """The ``train`` run that the headline is about."""
        about = self.results.about
        return next((r for r in self.predictors if about is not None and r.name == about.run), None)

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the methods by key, in the table's order."""
        return {m.key: m.label for m in self.results.methods}

    @property
    def chosen(self) -> dict[str, str]:
        """Labels of the methods that chose parameters, which the ceiling did not."""
        return {m.key: m.label for m in self.results.methods if m.kind is not MethodKind.ceiling}

    def comparison(self, over: str, key: str | None = None) -> Comparison | None:
        """A method (by default the headline's) against another, RAW by RAW; None where one is absent or refused."""
        key = self.predicted if key is None else key
        if key is None or key == over or any(k not in self.chosen or k in self.refused for k in (key, over)):
            return None
        return compare(self.results.gains(key, over), self.results.scenes_of_raws, seed=self.results.seed)

    def gain(self, over: MethodKind, key: str | None = None) -> Comparison | None:
        """What a method (by default the headline's) gains over another in what methods are compared by."""
        key = self.predicted if key is None else key
        if key is None or {key, over} & self.refused or over not in self.labels:
            return None
        if self.results.main.per_raw:
            return self.comparison(over, key)
        return self.results.by_key[key].over.get(over, {}).get(self.results.main.key)

    def gains(self) -> np.ndarray | None:
        """What the headline's prediction gains over the best fixed set on each RAW: ``float64 [R]``, or None."""
        if self.predicted is None or "fixed" not in self.labels or {self.predicted, "fixed"} & self.refused:
            return None
        return self.results.gains(self.predicted, MethodKind.fixed)


def read_material(lab: Path, validation: str | None = None, ablation: str | None = None) -> Material:
    """Read a validation (by default the newest) and find the runs that it names, and the lab's studies.

    ``ablation`` is an ``ablate`` run, by default the newest of the validation's device.

    Raises:
        RunError: there is no finished ``validate`` run or no such ``ablate`` run, or the results cannot be read.
    """
    run = find_run(lab, "validate", validation)
    found = Material(Path(lab), run, read_validation(run))
    results = found.results
    for method in results.methods:
        if method.run is None:
            continue
        if method.kind is MethodKind.predicted:
            if train := _run(found, "train", method.run):
                found.predictors.append(train)
        elif method.kind.tuned and (tune := _run(found, "tune", method.run)):
            found.tunings[method.key] = tune
    if results.proxy:
        found.proxy = _run(found, "fit-proxy", results.proxy.run)
    else:
        device = DeviceInfo(results.device.model, results.device.firmware, "", "", found.space)
        runs = list_runs(lab, "fit-proxy")
        of_device = (r for r in runs if device.goes_by(r.config.get("identity")) and not r.aside)
        found.proxy = next((_as_read(found, run) for run in of_device), None)
    tuned = {label_of(run): run for run in reversed(list_runs(lab, "tune")) if _alike(found, run) and not run.aside}
    tuned = {label: _as_read(found, run) for label, run in tuned.items()}
    known = {label_of(run) for run in found.tunings.values()}
    found.more_tunings = [r for k, r in tuned.items() if k not in known and task_key(r) == results.task_key]
    if ablation:
        found.ablation = find_run(lab, "ablate", ablation)
    else:
        found.ablation = next((run for run in list_runs(lab, "ablate") if _alike(found, run)), None)
    found.fronts = [run for run in tuned.values() if run.results.get("pareto")]
    return found


def _alike(found: Material, run: RunFolder) -> bool:
    """Whether a run was made on a device with the validation's parameters."""
    return run.device.space_hash in found.space.hashes


def _run(found: Material, kind: str, name: str) -> RunFolder | None:
    try:
        run = find_recorded(found.lab, kind, name)
    except RunError as error:
        there = name in {folder.name for folder in (found.lab / "runs").iterdir()}
        why = f"cannot be read ({error})" if there else "is not in this lab any more"
        found.missing.append(f"The {kind} run {name} {why}; what came from it is left out.")
        return None
    return _as_read(found, run)


def _as_read(found: Material, run: RunFolder) -> RunFolder:
    """The run; without its results, and that noted as missing, where they are no results of its kind."""
    read = {"fit-proxy": ProxyFitResult.of, "train": TrainResult.of, "tune": tune_result}[run.kind]
    try:
        read(run)
    except RunError as error:
        line = f"The results of the {run.kind} run {run.name} are left out: {error}"
        if line not in found.missing:
            found.missing.append(line)
        return RunFolder(run.path, {**run.record.to_json(), "results": {}})
    return run


@dataclass(frozen=True)
class DatasetSummary:
    """What the data set holds: RAWs and scenes by split, captures by purpose and device, and the digest now."""

    digest: str
    splits: list[tuple[Split, int, int]]
    purposes: list[tuple[str, str, int]]


def summarise(dataset: Dataset) -> DatasetSummary:
    """Count a data set's RAWs and captures."""
    raws: list[RawRecord] = dataset.raws()
    splits = []
    for split in Split:
        own = [r for r in raws if r.split == split]
        splits.append((split, len(own), len({r.scene for r in own})))
    content = dataset.content()
    return DatasetSummary(content.digest, splits, content.counts)


def open_dataset(found: Material) -> Dataset | None:
    """The lab's data set, or None (noted as missing) where it cannot be opened."""
    try:
        return Dataset.open(found.lab)
    except DatasetError as error:
        found.missing.append(f"The data set cannot be opened, so its pictures are left out: {error}")
        return None
