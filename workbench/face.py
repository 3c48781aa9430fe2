"""A lab from Python: what the commands do, as methods of :class:`Lab`, with typed results.

The commands call the same functions. Devices are named as on the command line: by URL, or by a name of the lab's
``lab.toml``; several make a pool of equal boards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from drivers.parameters import ParameterSet
from drivers.splits import Split
from predictor.training import Recipe
from proxy.training import ProxyRecipe
from workbench.collect.around_rule import PER_RAW, AroundRule
from workbench.collect.campaign import CollectResult
from workbench.collect.collector import collect
from workbench.collect.designs import Design
from workbench.judge.methods import ORACLE_CAPTURES, ValidationSettings
from workbench.judge.plan_results import Plan
from workbench.judge.planning import plan
from workbench.judge.results import ValidationResult, read_validation
from workbench.judge.validation import validate_run
from workbench.lab.captures import Captures
from workbench.lab.dataset import Dataset
from workbench.lab.devices import open_devices
from workbench.lab.results import Result
from workbench.lab.runs import RunFolder, find_run, list_runs
from workbench.learn import learning
from workbench.learn.recipe_names import FOLLOW_CAPTURES
from workbench.learn.refine_run import STEPS
from workbench.learn.refining import RefineSettings
from workbench.learn.results import ProxyFitResult, TrainResult
from workbench.loop.results import LoopResult
from workbench.loop.running import run_loop
from workbench.loop.smoothing import SETTLE
from workbench.report import write_report
from workbench.rules.centres import find_centres
from workbench.rules.tuned import Rule
from workbench.tasks.task import Task
from workbench.tasks.viewing import ViewingTask
from workbench.tune.methods import MethodName
from workbench.tune.results import TuneResult
from workbench.tune.tuning import tune

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Run(Generic[R]):
    """A finished run of a lab.

    Attributes:
        name: its name; ``kind``: ``fit-proxy``, ``train``, ``tune`` or ``validate``; ``path``: its folder.
        results: what it recorded.
    """

    name: str
    kind: str
    path: Path
    results: R


class Lab:
    """A lab folder: its data set, its devices by name, and its runs.

    Args:
        path: the folder; made by the first :meth:`collect` where there is none.
    """

    def __init__(self, path: str | Path = "lab") -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Lab({str(self.path)!r})"

    def collect(
        self,
        device: str | Sequence[str],
        captures: int | None,
        *,
        raws: str | Path | None = None,
        design: Design = Design.SOBOL,
        around: Sequence[Path | ParameterSet] = (),
        spread: float | None = None,
        rule: str | Run[TuneResult] | None = None,
        per_raw: int = PER_RAW,
        scene: str = "live",
        split: Split = Split.TRAIN,
        seed: int = 0,
    ) -> CollectResult:
        """Collect captures (``workbench collect``); see :func:`workbench.collect.collector.collect`.

        With the design ``around-rule``, ``rule`` is the ``tune`` run and ``per_raw`` how many captures each RAW gets.

        Raises:
            CampaignError, RawFolderError, DeviceError, DatasetError, ParameterError, RunError: as it says.
            TooManyFailuresError: more than half of the captures came to nothing.
        """
        result = collect(
            self.path,
            device,
            captures,
            raws=None if raws is None else Path(raws),
            scene=scene,
            split=split,
            design=design,
            seed=seed,
            around=around,
            spread=spread,
            around_rule=AroundRule(find_centres(self.path, _name(rule)), per_raw) if rule else None,
        )
        result.check()
        return result

    def fit_proxy(
        self,
        *,
        device: str | Sequence[str] | None = None,
        recipe: ProxyRecipe | None = None,
        identity: str | None = None,
        name: str | None = None,
    ) -> Run[ProxyFitResult]:
        """Fit the proxy to the captures (``workbench fit-proxy``, equation 3).

        Args:
            device: asked for the fidelity report, by which training holds the parameters that the proxy does not
                follow; None: no report, nothing is held.
            recipe: steps, sizes and seed.
            identity: of the device whose captures are learnt, where the data set has several.
            name: the run's name.

        Raises:
            RunError: there are too few captures, or the name is taken.
            DeviceError: the device failed; the proxy is kept.
        """
        run, results = learning.fit_proxy(self.path, recipe, device=device, identity=identity, name=name)
        return _typed(run, results)

    def train(
        self,
        *,
        proxy: str | Run[ProxyFitResult] | None = None,
        task: Task | None = None,
        recipe: Recipe | None = None,
        start: ParameterSet | None = None,
        on_top_of: str | Run[TuneResult] | None = None,
        setting: str | Path | None = None,
        device: str | Sequence[str] | None = None,
        follow_captures: int = FOLLOW_CAPTURES,
        name: str | None = None,
    ) -> Run[TrainResult]:
        """Train a predictor through the frozen proxy (``workbench train``, equation 4).

        Args:
            proxy: a ``fit-proxy`` run; by default the newest.
            task: what the images are for, see :func:`workbench.tasks.registry.open_task`; by default human viewing.
            recipe: optimiser, steps, sizes, inputs and seed; by default the fast one,
                :func:`~predictor.training.paper_recipe` gives the paper's.
            start: what the untrained network predicts; by default the device's default parameters.
            on_top_of: a ``tune`` run, or a rule's name for the newest run of it: the network learns a difference to
                what it gives for each RAW.
            setting: who sets parameters that are not predicted: ``3a`` or a TOML file.
            device: where given, how far the rule is left is chosen on it, on RAWs of the validation split.
            follow_captures: that the choice may look at.
            name: the run's name.

        Raises:
            RunError: no proxy, no training RAW that the task can judge, or a rule or a device that does not fit.
            DeviceError: the device failed; call again to go on.
        """
        run, results = learning.train(
            self.path,
            recipe,
            proxy=_name(proxy),
            task=task,
            start=start,
            on_top_of=_name(on_top_of),
            setting=setting,
            device=device,
            follow_captures=follow_captures,
            name=name,
        )
        return _typed(run, results)

    def refine(
        self,
        source: str | Run[TrainResult] | Run[TuneResult],
        device: str | Sequence[str],
        *,
        settings: RefineSettings | None = None,
        task: Task | None = None,
        setting: str | Path | None = None,
        steps: int = STEPS,
        metadata: bool = True,
        follow_captures: int = FOLLOW_CAPTURES,
        name: str | None = None,
    ) -> Run[TrainResult]:
        """Improve a rule, or a predictor on top of one, with captures around its answers (``workbench refine``).

        Args:
            source: a ``train`` run that is on top of a rule, a ``tune`` run, or a rule's name for the newest run of it.
            device: what decides.
            settings: captures, rounds, metrics and seed.
            task: what the images are for; by default human viewing.
            setting: who sets parameters that do not move: ``3a`` or a TOML file; by default the setting of the source.
            steps: of training the network; ``metadata``: whether ISO, exposure and white balance are its inputs.
            follow_captures: that choosing how far to leave the rule may look at.
            name: the run's name.

        Raises:
            RunError: no such run, it does not fit the device or the splits, or no round gained over the rule.
            DeviceError: the device failed; call again to go on.
        """
        run, results = learning.refine(
            self.path,
            source.name if isinstance(source, Run) else source,
            device,
            settings or RefineSettings(),
            task=task,
            setting=setting,
            steps=steps,
            metadata=metadata,
            follow_captures=follow_captures,
            name=name,
        )
        return _typed(run, results)

    def tune(
        self,
        device: str | Sequence[str],
        captures: int,
        *,
        method: MethodName = MethodName.cmaes,
        rule: Rule = Rule.fixed,
        raws_per_trial: int = 16,
        metrics: Sequence[str] = (),
        task: Task | None = None,
        expert: str | Path | None = None,
        proxy: str | Run[ProxyFitResult] | None = None,
        setting: str | Path | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> Run[TuneResult]:
        """Tune on the device, on training RAWs (``workbench tune``); see :func:`workbench.tune.tuning.tune`.

        Raises:
            RunError: settings that cannot be used, no training RAW that the task can judge, or the name is taken.
            DeviceError: the device failed; call again to go on.
        """
        run, results = tune(
            self.path,
            device,
            method=method,
            captures=captures,
            raws_per_trial=raws_per_trial,
            rule=rule,
            expert=None if expert is None else Path(expert),
            task=task,
            metrics=metrics,
            proxy=_name(proxy),
            setting=setting,
            seed=seed,
            name=name,
        )
        return _typed(run, results)

    def validate(
        self,
        device: str | Sequence[str],
        *,
        task: Task | None = None,
        settings: ValidationSettings | None = None,
        name: str | None = None,
    ) -> ValidationResult:
        """Compare all methods on the test RAWs on the device (``workbench validate``).

        Args:
            device: what decides.
            task: what the images are for; by default human viewing.
            settings: what to compare; by default the newest runs, and the per-image oracle where the task judges single
                images.
            name: the run's name.

        Raises:
            RunError: there is no test RAW that the task can judge, or a run does not fit the device or the splits.
            DeviceError: the device failed; call again to go on.
        """
        task = task or ViewingTask()
        if settings is None:
            oracle = ORACLE_CAPTURES if task.metrics[0].per_raw else 0
            settings = ValidationSettings(oracle_captures=oracle)
        with Dataset.open(self.path) as dataset, open_devices(_named(device), self.path) as opened:
            return validate_run(self.path, dataset, opened, settings, task, name=name)[1]

    def run(
        self,
        device: str,
        *,
        raws: str | Path | None = None,
        predictor: str | Run[TrainResult] | None = None,
        frames: int | None = None,
        seconds: float | None = None,
        settle: int = SETTLE,
        save: str | Path | None = None,
        keep: bool = False,
        scene: str = "live",
    ) -> LoopResult:
        """Predict, push and capture frames in a loop (``workbench run``); see :func:`workbench.loop.running.run_loop`.

        Raises:
            WorkbenchError: as it says, and what ended the loop early.
        """
        result = run_loop(
            self.path,
            device,
            predictor=_name(predictor),
            raws=None if raws is None else Path(raws),
            frames=frames,
            seconds=seconds,
            settle=settle,
            save=None if save is None else Path(save),
            keep=keep,
            scene=scene,
        )
        result.check()
        return result

    def plan(
        self,
        device: str | Sequence[str] | None = None,
        *,
        frame_s: float | None = None,
        identity: str | None = None,
    ) -> Plan:
        """What an hour, a night and a week of captures buy (``workbench plan``).

        Args:
            device: whose frame time is measured over a few captures, which are kept; or else
            frame_s: seconds a capture, and
            identity: of the device, where the data set holds several.

        Raises:
            RunError: neither or both of ``device`` and ``frame_s`` are given, or the data set does not tell which
                device is meant.
            DeviceError: the device is live, failed, or refused every frame.
        """
        return plan(self.path, device=device, frame_s=frame_s, identity=identity)

    def report(self, *, validation: str | None = None, out: str | Path | None = None) -> Path:
        """Write the report of a validation, by default the newest (``workbench report``); gives the HTML file.

        Raises:
            RunError: there is no validation, or the report cannot be written.
        """
        return write_report(self.path, validation=validation, out=None if out is None else Path(out))

    def captures(
        self, *, device_identity: str | None = None, purpose: str | None = None, split: Split | None = None
    ) -> Captures:
        """The captures of the data set, as records and as a table; each condition that is given must hold.

        Raises:
            DatasetError: the data set cannot be read.
        """
        with Dataset.open(self.path, create=False) as dataset:
            return Captures.of(dataset, device_identity=device_identity, purpose=purpose, split=split)

    def validation(self, name: str | None = None) -> ValidationResult:
        """What a validation found, by default the newest.

        Raises:
            RunError: there is none, or its file is damaged.
        """
        return read_validation(find_run(self.path, "validate", name))

    def runs(self, kind: str | None = None) -> list[str]:
        """Names of the finished runs, newest first; ``kind``: of these alone."""
        return [run.name for run in list_runs(self.path, kind)]


def _named(device: str | Sequence[str]) -> Sequence[str]:
    return [device] if isinstance(device, str) else device


def _name(run: str | Run[R] | None) -> str | None:
    return run.name if isinstance(run, Run) else run


def _typed(run: RunFolder, results: R) -> Run[R]:
    return Run(run.name, run.kind, run.path, results)
