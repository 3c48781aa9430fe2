"""The best fixed parameters of a device, and what industry does today, both tuned on the device on training RAWs.

A search judges every set on the same K training RAWs, spread over ISO and scenes. Such a subset can be over-fitted, so
the best sets are judged again on a larger one (up to 64 RAWs) within the same budget, and that score decides.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import Device
from drivers.parameters import ParameterSet
from workbench.bench import Bench
from workbench.dataset import Dataset, RawRecord
from workbench.errors import RunError
from workbench.runs import RunFolder, list_runs, new_run, plain, write_text
from workbench.tasks.vision import VisionTask
from workbench.tuning.industry import IndustryTable, knots_of, nearest_knot, with_as_shot
from workbench.tuning.material import Scorer, referenced_raws, stratified
from workbench.tuning.methods import METHODS
from workbench.tuning.search import Job, Progress, SearchResult, captured, open_study, search
from workbench.tuning.vision_scorer import VisionScorer

FINALISTS = 5
RANK_RAWS = 64
_RANK_SHARE = 0.2


@dataclass(frozen=True)
class TuneSettings:
    """What shapes a tuning.

    Attributes:
        method: one of :data:`workbench.tuning.methods.METHODS`.
        captures: budget.
        raws_per_trial: K.
        seed: of the RAWs chosen and of the search.
        metric: ``psnr`` or ``ssim``; of a vision task one of :data:`workbench.tuning.vision_scorer.VISION_METRICS`.
        task: for the study's name: ``viewing``, or the vision task's key.
    """

    method: str = "tpe"
    captures: int = 4000
    raws_per_trial: int = 16
    seed: int = 0
    metric: str = "psnr"
    task: str = "viewing"


class Tuner:
    """One tuning: the RAWs, the studies and the captures that it used."""

    def __init__(
        self,
        lab: Path,
        dataset: Dataset,
        device: Device,
        settings: TuneSettings,
        *,
        expert: ParameterSet | None = None,
        task: VisionTask | None = None,
        progress: Progress | None = None,
    ) -> None:
        if settings.method not in METHODS:
            raise RunError(f"method {settings.method!r} is not one of {', '.join(METHODS)}")
        if settings.raws_per_trial < 1 or settings.captures < 2 * settings.raws_per_trial:
            raise RunError(
                f"{settings.captures} captures are too few for trials of {settings.raws_per_trial} RAWs; "
                f"give at least {2 * max(settings.raws_per_trial, 1)}"
            )
        self.lab, self.dataset, self.device, self.settings = lab, dataset, device, settings
        self.info = device.info()
        self.progress = progress
        self.scorer: Scorer | VisionScorer
        if task is None:
            self.scorer = Scorer(settings.metric)
            self.train = referenced_raws(dataset, "train")
        else:
            self.train = task.annotated(dataset.raws("train"))
            self.scorer = VisionScorer(task, self.train, settings.metric)
        self.raws = stratified(self.train, settings.raws_per_trial, settings.seed)
        defaults = self.info.space.defaults
        self.starts = [defaults, *([expert] if expert is not None and expert.hash != defaults.hash else [])]
        self.expert = expert
        self.studies: list[str] = []
        self.keys: set[tuple[str, str]] = set()
        self.asked = 0
        self.history: list[tuple[int, float]] = []

    @property
    def captures(self) -> int:
        """Distinct captures looked at so far."""
        return len(self.keys)

    @property
    def centre_captures(self) -> int:
        """What the centre of a search costs, which is judged only at the end, on the RAWs of the trials too."""
        return len(self.raws) if self.settings.method == "cmaes" else 0

    def study_name(self, what: str, raws: Sequence[RawRecord]) -> str:
        """Name of a study: what is tuned, method, task, device, seed, and a digest of its RAWs."""
        digest = hashlib.sha256("".join(r.hash for r in raws).encode()).hexdigest()[:8]
        s = self.settings
        return f"{what} {s.method} {s.task} {s.metric} {self.info.identity} seed {s.seed} on {len(raws)} RAWs {digest}"

    def rank_raws(self, raws: Sequence[RawRecord], pool: Sequence[RawRecord], budget: int) -> list[RawRecord]:
        """``raws`` and more of the pool, as many as a fifth of the budget allows for the finalists.

        They may be fewer, down to half of that, where the rest of the budget is then a whole number of trials.
        """
        most = max(min(RANK_RAWS - len(raws), int(_RANK_SHARE * budget) // FINALISTS, len(pool) - len(raws)), 0)
        rest = budget - self.centre_captures
        fitting = (m for m in range(most, most // 2 - 1, -1) if (rest - FINALISTS * m) % len(raws) == 0)
        more = next(fitting, most)
        return [*raws, *(stratified(pool, more, self.settings.seed + 1, taken=raws) if more else ())]

    def _count(self, jobs: Sequence[Job]) -> None:
        self.keys.update((raw.hash, p.hash) for raw, p in jobs)

    def search(
        self,
        what: str,
        raws: Sequence[RawRecord],
        starts: Sequence[ParameterSet],
        free: Sequence[str],
        budget: int,
        *,
        as_shot: bool,
        refine: bool = False,
        offset: int = 0,
    ) -> SearchResult:
        """One study over the given RAWs; ``as_shot`` lets the RAW's white balance set the gains.

        ``refine`` searches near the starts, with CMA-ES (but at random where that is the method).
        """
        name = self.study_name(what, raws)
        study = open_study(
            self.lab / "studies.sqlite",
            name,
            {"task": self.settings.task, "metric": self.settings.metric, "device": self.info.identity},
        )
        self.studies.append(name)
        bench = Bench(self.dataset, self.device, purpose=f"tune:{name}")

        def jobs_for(p: ParameterSet) -> list[Job]:
            return [(raw, with_as_shot(p, raw) if as_shot else p) for raw in raws]

        def progress(done: int, _: int, best: float) -> None:
            if self.progress:
                self.progress(offset + done, self.settings.captures, best)

        try:
            result = search(
                bench,
                self.scorer,
                study=study,
                method=self.settings.method if not refine or self.settings.method == "random" else "cmaes",
                seed=self.settings.seed,
                starts=starts,
                free=free,
                jobs_for=jobs_for,
                budget=budget,
                sigma=0.05 if refine else 0.1,
                # Without an expert's set the search begins far from anything good.
                explore=not refine and self.expert is None,
                progress=progress,
            )
        finally:
            self.asked += bench.asked
        for _, p in result.trials:
            self._count(jobs_for(p))
        return result

    def rank(self, what: str, candidates: Sequence[Sequence[Job]]) -> list[float]:
        """Mean score of each candidate, given as its jobs."""
        bench = Bench(self.dataset, self.device, purpose=f"tune:{what}")
        jobs = [job for candidate in candidates for job in candidate]
        self._count(jobs)
        try:
            scores = iter([self.scorer(raw, capture) for raw, capture in captured(bench, jobs)])
        finally:
            self.asked += bench.asked
        return [self.scorer.combine([next(scores) for _ in candidate]) for candidate in candidates]

    def summary(self) -> dict[str, Any]:
        """What a run records of how the tuning was done."""
        return {
            "captures": self.captures,
            "captures_asked_now": self.asked,
            "studies": list(dict.fromkeys(self.studies)),
            "raws": [r.name for r in self.raws],
            "history": [list(h) for h in self.history],
        }


def _finalists(found: SearchResult) -> list[ParameterSet]:
    """The best sets, the centre of the search among them: noise flatters it less than the best trial."""
    sets = [p for _, p in found.best(FINALISTS)]
    if found.centre is not None and found.centre.hash not in {p.hash for p in sets}:
        sets = [*sets[: FINALISTS - 1], found.centre]
    return sets


def tune_fixed(tuner: Tuner) -> tuple[ParameterSet, dict[str, Any]]:
    """The best fixed set of a device and the run's results (see :mod:`workbench.validation` for their shape)."""
    begin = time.monotonic()
    s, space = tuner.settings, tuner.info.space
    ranked = tuner.rank_raws(tuner.raws, tuner.train, s.captures)
    trial = len(tuner.raws)
    budget = s.captures - FINALISTS * (len(ranked) - trial) - tuner.centre_captures
    budget = max(budget - budget % trial, 2 * trial)
    found = tuner.search("fixed", tuner.raws, tuner.starts, space.names, budget, as_shot=False)
    tuner.history = list(found.history)
    finalists = _finalists(found)
    scores = tuner.rank(tuner.studies[0], [[(raw, p) for raw in ranked] for p in finalists])
    order = np.argsort(-np.array(scores), kind="stable")
    best = finalists[int(order[0])]
    value_of = {p.hash: v for v, p in found.trials}
    results = {
        "score": scores[int(order[0])],
        "score_on_trial_raws": value_of.get(best.hash),
        "default_on_trial_raws": value_of[tuner.starts[0].hash],
        "expert_on_trial_raws": value_of.get(tuner.expert.hash) if tuner.expert else None,
        "trials": len(found.trials),
        "ranked_on": len(ranked),
        "finalists": [
            {"score": scores[int(i)], "score_on_trial_raws": value_of.get(finalists[int(i)].hash)} for i in order
        ],
        "parameters": best.values,
        "parameters_hash": best.hash,
        "file": "best.toml",
        "training_scenes": sorted({r.scene for r in ranked}),
        "seconds": time.monotonic() - begin,
        **tuner.summary(),
    }
    return best, results


def tune_industry(tuner: Tuner) -> tuple[IndustryTable, dict[str, Any]]:
    """The industry's table: as-shot white balance sets the gains, a table over ISO the rest.

    Half of the budget searches one set for all ISO (with the as-shot gains), the other half refines it around each knot
    on the training RAWs nearest to that knot (CMA-ES, small steps). At the end the refined table has to beat the single
    set on a larger set of RAWs, or the single set is kept at all knots.
    """
    begin = time.monotonic()
    s, space = tuner.settings, tuner.info.space
    free = [p.name for p in space.parameters if p.role is None]
    knots = knots_of(tuner.train)
    ranked = tuner.rank_raws(tuner.raws, tuner.train, s.captures)
    budget = s.captures - 2 * len(ranked)
    if budget < 4 * len(tuner.raws):
        raise RunError(
            f"{s.captures} captures are too few for the industry's table; give at least "
            f"{4 * len(tuner.raws) + 2 * len(ranked)}"
        )
    first = tuner.search("industry", tuner.raws, tuner.starts, free, budget // 2, as_shot=True)
    tuner.history = list(first.history)
    single = first.best()[0][1]
    starts = [single, *([first.centre] if first.centre is not None else [])]
    refined: list[ParameterSet] = []

    def refine(knot: int, share: int) -> ParameterSet:
        pool = [r for r in tuner.train if nearest_knot(knots, r.iso) == knot] or tuner.train
        raws = stratified(pool, s.raws_per_trial, s.seed + 2 + knot)
        what, spent = f"industry ISO {knots[knot]:g}", tuner.captures
        found = tuner.search(what, raws, starts, free, max(share, len(raws)), as_shot=True, refine=True, offset=spent)
        return found.best()[0][1]

    share = 0
    for knot in range(len(knots)):
        share = (budget - tuner.captures) // (len(knots) - knot)
        refined.append(refine(knot, share))
    # Captures shared by several parts leave some of the budget: for more RAWs to rank on, then for the last knot.
    for _ in range(3):
        tables = [IndustryTable(space, knots, (single,) * len(knots)), IndustryTable(space, knots, tuple(refined))]
        filled, left = _fill(tuner, tables, ranked)
        if left <= 0:
            break
        share += left
        refined[-1] = refine(len(knots) - 1, share)
    else:
        tables = [tables[0], IndustryTable(space, knots, tuple(refined))]
        filled, _ = _fill(tuner, tables, ranked)
    ranked = filled
    scores = tuner.rank(tuner.studies[0], [[(raw, t.parameters_for(raw)) for raw in ranked] for t in tables])
    which = int(np.argmax(scores))
    results = {
        "score": scores[which],
        "single_set_score": scores[0],
        "table_score": scores[1],
        "kept": ("single set", "table")[which],
        "knots_iso": list(knots),
        "default_on_trial_raws": next(v for v, p in first.trials if p.hash == tuner.starts[0].hash),
        "trials": len(first.trials),
        "ranked_on": len(ranked),
        "file": "table.json",
        "training_scenes": sorted({r.scene for r in tuner.train}),
        "seconds": time.monotonic() - begin,
        **tuner.summary(),
    }
    return tables[which], results


def _fill(tuner: Tuner, tables: Sequence[IndustryTable], ranked: Sequence[RawRecord]) -> tuple[list[RawRecord], int]:
    """The RAWs to rank the tables on, and the captures left of the budget after that.

    They are ``ranked`` and as many more as the budget allows.
    """
    chosen, have = list(ranked), {r.hash for r in ranked}
    keys = set(tuner.keys)
    for raw in [*ranked, *stratified(tuner.train, len(tuner.train), tuner.settings.seed)]:
        if raw.hash not in have and len(keys) >= tuner.settings.captures:
            break
        if raw.hash not in have:
            have.add(raw.hash)
            chosen.append(raw)
        keys |= {(raw.hash, t.parameters_for(raw).hash) for t in tables}
    return chosen, tuner.settings.captures - len(keys)


def tune_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: TuneSettings,
    *,
    industry: bool = False,
    expert: ParameterSet | None = None,
    task: VisionTask | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> RunFolder:
    """Tune and keep the result as a ``tune`` run; a finished run of the very same settings is given back as it is.

    Raises:
        RunError: no training RAW with a reference, settings that cannot be used, or the name is taken.
        DeviceError: the device failed; run again to go on.
    """
    tuner = Tuner(lab, dataset, device, settings, expert=expert, task=task, progress=progress)
    scenes = {
        r.scene for r in (tuner.train if industry else tuner.rank_raws(tuner.raws, tuner.train, settings.captures))
    }
    config = plain(
        {
            **asdict(settings),
            "industry": industry,
            "device": device.url,
            "identity": tuner.info.identity,
            "expert": expert.hash if expert else None,
            "scenes": scenes,
            "raws": [r.hash for r in tuner.raws],
        }
    )
    for old in list_runs(lab, "tune"):
        same = old.config == config and name in (None, old.name)
        if same and (old.path / str(old.results.get("file"))).is_file():
            return old
    run = new_run(lab, "tune", name)
    run.update(config=config, seed=settings.seed, dataset_digest=dataset.digest(), device=tuner.info)
    if industry:
        table, results = tune_industry(tuner)
        table.save(run.path / "table.json")
    else:
        best, results = tune_fixed(tuner)
        title = f"Best fixed parameters of {tuner.info.identity}, {results['score']:.2f} on training RAWs ({run.name})"
        write_text(run.path / "best.toml", tuner.info.space.to_toml(best, title))
    run.finish(results)
    return run
