"""The paper's ablations on a device: variants of the predictor, trained alike, judged on the device's own output.

Each variant is trained through the lab's proxy once a seed, as a ``train`` run of its own (``ablate-multi-5-seed0``):
a study that was stopped finds what is done. Its predictions for the test RAWs are pushed, captured and scored.

An ``ablate`` run writes ``results.json`` (``workbench ablate --json`` prints the same object) and figures as SVG::

    {"format": 1,
     "device": {…},                      # as in run.json
     "raws": 66, "scenes": 22, "seeds": [0, 1, 2], "steps": 600, "proxy": "fit-proxy-…",
     "reference": "multi-5",             # what the others are compared with
     "table": [VARIANT, …],
     "order": [{"lower": "none-5", "higher": "multi-5", "gain": INTERVAL}, …],   # table 3's order, pair by pair
     "encoders": [{"encoders": 3, "key": "multi-3", "psnr": 25.1, "psnr_interval": INTERVAL,
                   "psnr_by_seed": [25.0, …]}, …],                              # figure 5c
     "scatter": {"key": "multi-5", "seed": 0, "parameters": [{"name", "block", "unit"}, …],
                 "rank_correlation_with_iso": [0.7 | null, …],
                 "points": [{"raw": "a.npz", "iso": 800.0 | null, "values": [0.3, 1.2]}, …]} | null,   # figure 5b
     "attention": {"raw": "a.npz", "seed": 0, "parameters": ["…"], "variants": ["multi-5", …]} | null,  # figure 6
     "figures": ["scatter.svg", …],
     "per_raw": [{"name", "hash", "scene", "iso", "variants": {KEY: {"psnr": [a seed], "ssim": [a seed]}}}, …],
     "notes": ["…"]}

    VARIANT = {"key": "multi-5", "label": "multi-attention, 5 encoders", "about": ["table 3", "figure 5c"],
               "attention": "multi", "encoders": 5, "metadata": true, "fixed": false,
               "runs": ["ablate-multi-5-seed0", …],
               "psnr": 25.1, "ssim": 0.8, "psnr_interval": INTERVAL, "ssim_interval": INTERVAL,
               "psnr_by_seed": [25.0, …], "ssim_by_seed": [0.8, …],
               "psnr_over_reference": INTERVAL | null, "ssim_over_reference": INTERVAL | null,
               "held_out_loss": [a seed], "weights": 400000, "gflop_2048x1536": 32.3}

INTERVAL is that of :mod:`workbench.validation`: over scenes, of each RAW's mean over the seeds. Its ``verdict`` speaks
of the seeds too: a difference whose sign is not the same for every seed, or that fewer than :data:`MIN_SEEDS` seeds
stand for, is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from drivers.device import Device, DeviceInfo
from drivers.frames import RawFrame
from drivers.parameters import Parameter, ParameterSet, ParameterSpace
from predictor.files import LoadedPredictor, load_predictor
from predictor.model import ENCODERS, Attention, gflop
from predictor.training import Recipe
from workbench import ablation_figures, predictor_training
from workbench.bench import Bench
from workbench.dataset import Dataset, RawRecord
from workbench.errors import RunError
from workbench.runs import RunFolder, describe_device, find_run, new_run, write_json
from workbench.statistics import mean_interval
from workbench.strengths import NR_WORDS, SHARPENING_WORDS, strongest
from workbench.tasks import viewing
from workbench.tuning.material import Scorer, referenced_raws, stratified
from workbench.tuning.search import captured

Progress = Callable[[int, int, str], None]

PURPOSE = "ablate"
MIN_SEEDS = 3
# As many RAWs of the training split as the paper took from COCO to fix its predictions (section 5.5).
FIXED_RAWS = 300


@dataclass(frozen=True)
class Variant:
    """A way of predicting; ``fixed``: one set for all RAWs, the mean and mode of its predictions for training RAWs."""

    attention: Attention
    encoders: int
    metadata: bool
    fixed: bool = False

    @property
    def trained(self) -> str:
        """Names the network, ``multi-5``; variants of one network share it."""
        return f"{self.attention}-{self.encoders}{'' if self.metadata else '-image'}"

    @property
    def key(self) -> str:
        """Names the variant."""
        return f"fixed-{self.trained}" if self.fixed else self.trained

    @property
    def label(self) -> str:
        """The variant for people."""
        names = {"none": "no attention", "single": "single attention", "self": "self-attention"}
        inputs = "image + metadata" if self.metadata else "image only"
        text = f"{names.get(self.attention, 'multi-attention')}, {self.encoders} encoders, {inputs}"
        return f"fixed at mean and mode ({text})" if self.fixed else text


@dataclass(frozen=True)
class AblationSettings:
    """What to ablate.

    Attributes:
        recipe: what all variants share; its attention and encoders are set by each variant, its metadata by all but the
            one that shows what metadata are worth.
        seeds: of the trainings.
        only: keys of the variants to make; empty: all.
        proxy: ``fit-proxy`` run; None for the newest.
        prefix: of the train runs' names.
        scatter: the two parameters of figure 5b; None: the noise-reduction strength and the sharpening amount that the
            predictions spread most.
        raw: test RAW of figure 6 by name; None: the first.
        start: what the untrained networks predict; None: the device's default parameters.
        test_raws: how many test RAWs, spread over scenes and ISO; 0: all.
    """

    recipe: Recipe = field(default_factory=Recipe)
    seeds: tuple[int, ...] = (0, 1, 2)
    only: tuple[str, ...] = ()
    proxy: str | None = None
    prefix: str = "ablate"
    scatter: tuple[str, str] | None = None
    raw: str | None = None
    test_raws: int = 0
    start: ParameterSet | None = None

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RunError("give at least one seed and none twice, as in --seeds 0,1,2")
        known = [v.key for v in all_variants(self.recipe.metadata)]
        if unknown := [key for key in self.only if key not in known]:
            raise RunError(f"unknown variant {unknown[0]!r}; there are {', '.join(known)}")

    @property
    def reference(self) -> Variant:
        """The paper's network, with which the others are compared."""
        return Variant("multi", ENCODERS, self.recipe.metadata)

    @property
    def variants(self) -> list[Variant]:
        """The variants to make, in the table's order."""
        return [v for v in all_variants(self.recipe.metadata) if not self.only or v.key in self.only]


def all_variants(metadata: bool) -> list[Variant]:
    """Table 3 from its top, then figure 5c, then the paper's network with the other inputs."""
    full = Variant("multi", ENCODERS, metadata)
    table = [replace(full, fixed=True), *(replace(full, attention=a) for a in ("none", "single", "self")), full]
    more = [replace(full, encoders=n) for n in (3, 4, 6)]
    return [*table, *more, replace(full, metadata=not metadata)]


def _about(variant: Variant, settings: AblationSettings) -> list[str]:
    about = []
    if variant.metadata != settings.recipe.metadata:
        return ["inputs"]
    if variant.encoders == ENCODERS:
        about.append("table 3")
    if variant.attention == "multi" and not variant.fixed:
        about.append("figure 5c")
    return [*about, "inputs"] if variant == settings.reference else about


def fixed_of(sets: Sequence[ParameterSet]) -> ParameterSet:
    """One set of many predictions, as section 5.5 fixes them: mean of the continuous, mode of the discrete parameters.

    The mean is taken in the normalised space; of equally frequent values the lowest code is taken.
    """
    space = sets[0].space
    mean = space.from_unit(np.mean([s.unit for s in sets], axis=0))
    codes = np.array([s.codes for s in sets])

    def mode(column: np.ndarray) -> int:
        values, counts = np.unique(column, return_counts=True)
        return int(values[counts.argmax()])

    merged = (mode(codes[:, i]) if p.discrete else mean.codes[i] for i, p in enumerate(space.parameters))
    return ParameterSet(space, tuple(merged))


Trained = dict[tuple[str, int], RunFolder]
"""The train run of each network and seed."""


def train_variants(lab: Path, settings: AblationSettings, progress: Progress | None = None) -> Trained:
    """Train what is not trained yet, one network after another.

    Args:
        lab: the lab folder, with a data set and a fitted proxy.
        settings: what to train.
        progress: called after every step with the steps done, all to be done, and what is being trained.

    Raises:
        RunError: no proxy, no training RAWs with references, or a run of that name was made with other settings.
    """
    proxy = find_run(lab, "fit-proxy", settings.proxy)
    with Dataset.open(lab, create=False) as dataset:
        test = {r.scene for r in dataset.raws("test")}
    _check_unseen(proxy, test)
    wanted = {
        (variant.trained, seed): replace(
            settings.recipe,
            attention=variant.attention,
            encoders=variant.encoders,
            metadata=variant.metadata,
            seed=seed,
        )
        for seed in settings.seeds
        for variant in settings.variants
    }
    done: Trained = {}
    for (key, seed), recipe in wanted.items():
        if (
            run := _finished(lab, f"{settings.prefix}-{key}-seed{seed}", recipe, proxy.name, settings.start)
        ) is not None:
            _check_unseen(run, test)
            done[key, seed] = _marked(run)
    missing = {k: r for k, r in wanted.items() if k not in done}
    before = 0
    for i, ((key, seed), recipe) in enumerate(missing.items()):

        def show(step: Any, before: int = before, i: int = i, key: str = key, seed: int = seed) -> None:
            if progress:
                note = f"{key} seed {seed}, {i + 1} of {len(missing)}"
                progress(before + step.step, step.steps * len(missing), note)

        run = predictor_training.train(
            lab,
            recipe,
            proxy_run=proxy.name,
            start=settings.start,
            name=f"{settings.prefix}-{key}-seed{seed}",
            on_step=show,
        )
        before += recipe.steps
        done[key, seed] = _marked(run)
    return done


def _finished(lab: Path, name: str, recipe: Recipe, proxy: str, start: ParameterSet | None) -> RunFolder | None:
    """The finished run of that name, which must be of these settings; None where it is to be made or to be ended."""
    path = Path(lab) / "runs" / name
    if not (path / "run.json").is_file():
        return None
    run = RunFolder.open(path)
    if not run.finished:
        return None
    have, asked = run.config.get("recipe") or {}, recipe.to_dict()
    wrong = [f"{k} {have.get(k)!r} instead of {v!r}" for k, v in asked.items() if have.get(k) != v]
    if run.config.get("proxy") != proxy:
        wrong.append(f"proxy {run.config.get('proxy')!r} instead of {proxy!r}")
    if run.config.get("start") != (start.hash if start else None):
        wrong.append("other parameters to start from (--start)")
    if wrong:
        raise RunError(f"run {name}: was trained with {wrong[0]}; give another --prefix, or remove {path}")
    return run


def _marked(run: RunFolder) -> RunFolder:
    """The run, marked as a part of a study: no other command takes it for the lab's newest predictor."""
    if run.config.get("study") != PURPOSE:
        run.update(config={**run.config, "study": PURPOSE})
    return run


def _check_unseen(run: RunFolder, test: set[str]) -> None:
    seen = {*(run.config.get("scenes") or ()), *(run.config.get("held_out_scenes") or ())}
    if leaked := sorted(test & seen):
        raise RunError(f"run {run.name}: was made with the test scene {leaked[0]!r}; make it again on these splits")


@dataclass
class _Predictions:
    """What the networks say: a set a test RAW, by variant's key and seed, and where they look on one RAW."""

    sets: dict[tuple[str, int], list[ParameterSet]]
    maps: dict[str, np.ndarray]
    frame: RawFrame | None


def _predict(
    settings: AblationSettings,
    loaded: dict[tuple[str, int], LoadedPredictor],
    training: Sequence[RawRecord],
    raws: Sequence[RawRecord],
    drawn: RawRecord,
    progress: Progress,
) -> _Predictions:
    """RAW by RAW, every network: large frames would not fit into memory together."""
    fixed = {v.trained for v in settings.variants if v.fixed}
    moving = {v.trained for v in settings.variants if not v.fixed}
    on_training: dict[tuple[str, int], list[ParameterSet]] = {k: [] for k in loaded if k[0] in fixed}
    sets: dict[tuple[str, int], list[ParameterSet]] = {k: [] for k in loaded if k[0] in moving}
    maps: dict[str, np.ndarray] = {}
    shown: RawFrame | None = None
    total = (len(training) if on_training else 0) + len(raws)
    for i, raw in enumerate(training if on_training else ()):
        frame = raw.load()
        for key, got in on_training.items():
            got += loaded[key].predict([frame])
        progress(i + 1, total, "predictions for training RAWs")
    for i, raw in enumerate(raws):
        frame = raw.load()
        for key, got in sets.items():
            got += loaded[key].predict([frame])
            if raw is drawn and key[1] == settings.seeds[0]:
                maps[key[0]], shown = loaded[key].attention(frame), frame
        progress(total - len(raws) + i + 1, total, "predictions")
    maps = {v.key: maps[v.key] for v in settings.variants if v.key in maps}
    by_variant = {
        (v.key, seed): [fixed_of(on_training[v.trained, seed])] * len(raws) if v.fixed else sets[v.trained, seed]
        for v in settings.variants
        for seed in settings.seeds
    }
    return _Predictions(by_variant, maps, shown)


def check_device(lab: Path, info: DeviceInfo, settings: AblationSettings) -> None:
    """Whether the proxy that the variants are trained through is of this device; asked before hours of training.

    Raises:
        RunError: it is not, or there is none.
    """
    from proxy.files import load_proxy

    run = find_run(lab, "fit-proxy", settings.proxy)
    space = load_proxy(run.path).space
    if space.hash != info.space.hash:
        raise RunError(
            f"run {run.name}: its parameter space ({space.name}, {len(space)} parameters) is not that of the device "
            f"{info.identity} ({len(info.space)} parameters); fit a proxy on captures of this device"
        )
    for name in settings.scatter or ():
        if name not in space.names:
            raise RunError(f"unknown parameter {name!r} for {space.name}; it has {', '.join(space.names)}")


def ablate_run(
    lab: Path,
    dataset: Dataset,
    device: Device,
    settings: AblationSettings,
    trained: Trained,
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[RunFolder, dict[str, Any]]:
    """Judge trained variants on the device, and keep the study as an ``ablate`` run.

    Args:
        lab: the lab folder; ``dataset``: its data set.
        device: what decides.
        settings: what was trained.
        trained: of :func:`train_variants`.
        name: the run's name.
        progress: called with what is done, how much there is, and what is being done.

    Raises:
        RunError: no test RAW has a reference, the RAW to draw is not among them, or the device is another one.
        DeviceError: the device failed; run again to go on (captures made are kept).
    """

    def show(done: int, total: int, note: str) -> None:
        if progress:
            progress(done, total, note)

    info = device.info()
    check_device(lab, info, settings)
    raws = referenced_raws(dataset, "test")
    if 0 < settings.test_raws < len(raws):
        raws = stratified(raws, settings.test_raws, 0)
    drawn = next((r for r in raws if r.name == settings.raw), None) if settings.raw else raws[0]
    if drawn is None:
        raise RunError(f"--raw {settings.raw}: no test RAW of that name is in the study; {raws[0].name} is one")
    training = stratified(referenced_raws(dataset, "train"), FIXED_RAWS, 0)
    run = new_run(lab, "ablate", name)
    run.update(
        seed=settings.seeds[0],
        dataset_digest=dataset.digest(),
        device=info,
        config={
            "recipe": settings.recipe.to_dict(),
            "seeds": settings.seeds,
            "variants": [v.key for v in settings.variants],
            "trains": [r.name for r in trained.values()],
            "proxy": find_run(lab, "fit-proxy", settings.proxy).name,
            "test_raws": settings.test_raws,
            "scenes": {r.scene for r in training},
        },
    )
    loaded = {key: load_predictor(of.path) for key, of in trained.items()}
    predictions = _predict(settings, loaded, training, raws, drawn, show)
    sets = {key: [ParameterSet(info.space, p.codes) for p in of_each] for key, of_each in predictions.sets.items()}
    scores = _score(Bench(dataset, device, purpose=PURPOSE), raws, sets, show)
    results = _results(info, settings, trained, loaded, raws, scores)
    results["scatter"] = _scatter(info.space, settings, raws, sets)
    named = [p["name"] for p in (results["scatter"] or {"parameters": []})["parameters"]]
    shown = _parameters_to_draw(info.space, named)
    if predictions.frame is not None and predictions.maps:
        results["attention"] = {
            "raw": drawn.name,
            "seed": settings.seeds[0],
            "parameters": shown,
            "variants": list(predictions.maps),
        }
    results["figures"] = ablation_figures.draw(
        run.path, info.space, results, predictions.frame, predictions.maps, shown
    )
    write_json(run.path / "results.json", results)
    run.finish({k: v for k, v in results.items() if k not in ("per_raw", "scatter")})
    return run, results


_Scores = dict[tuple[str, int], dict[str, np.ndarray]]


def _score(
    bench: Bench, raws: Sequence[RawRecord], sets: dict[tuple[str, int], list[ParameterSet]], progress: Progress
) -> _Scores:
    """PSNR and SSIM ``[R]`` of the device's outputs."""
    jobs = [(raw, p) for i, raw in enumerate(raws) for p in (of_each[i] for of_each in sets.values())]
    scorer, known = Scorer("psnr"), {}
    values: list[dict[str, float]] = []
    for raw, capture in captured(bench, jobs):
        key = (raw.hash, capture.output_hash)
        if key not in known:
            known[key] = viewing.score(capture.rgb().pixels, scorer.reference(raw))
        values.append(known[key])
        progress(len(values), len(jobs), "captures")
    return {
        key: {m: np.array([v[m] for v in values[i :: len(sets)]]) for m in ("psnr", "ssim")}
        for i, key in enumerate(sets)
    }


def difference(one: np.ndarray, other: np.ndarray, scenes: Sequence[str]) -> dict[str, Any]:
    """The paired difference of two variants as INTERVAL.

    Args:
        one: figures ``[S, R]`` of S seeds and R RAWs; ``other``: what is taken from them.
        scenes: of the R RAWs.

    The interval is over scenes, of the mean over seeds. The verdict is ``not shown`` where the seeds are fewer than
    :data:`MIN_SEEDS` or differ in sign: scenes cannot tell how another training would have gone.
    """
    by_seed = (one - other).mean(axis=1)
    interval = mean_interval((one - other).mean(axis=0), scenes)
    told = interval.to_dict()
    if len(by_seed) < MIN_SEEDS or not (np.all(by_seed > 0) or np.all(by_seed < 0)):
        told["verdict"] = "not shown"
    return {**told, "by_seed": by_seed.tolist()}


def _results(
    info: DeviceInfo,
    settings: AblationSettings,
    trained: Trained,
    loaded: dict[tuple[str, int], LoadedPredictor],
    raws: Sequence[RawRecord],
    scores: _Scores,
) -> dict[str, Any]:
    scenes = [r.scene for r in raws]
    keys = [v.key for v in settings.variants]
    stacked = {
        key: {m: np.stack([scores[key, seed][m] for seed in settings.seeds]) for m in ("psnr", "ssim")} for key in keys
    }
    reference = settings.reference.key
    rows = []
    for variant in settings.variants:
        own = stacked[variant.key]
        runs = [trained[variant.trained, seed] for seed in settings.seeds]
        network = loaded[variant.trained, settings.seeds[0]].network
        compare = variant.key != reference and reference in stacked
        rows.append(
            {
                "key": variant.key,
                "label": variant.label,
                "about": _about(variant, settings),
                "attention": variant.attention,
                "encoders": variant.encoders,
                "metadata": variant.metadata,
                "fixed": variant.fixed,
                "runs": [run.name for run in runs],
                **{m: float(own[m].mean()) for m in own},
                **{f"{m}_interval": mean_interval(own[m].mean(axis=0), scenes).to_dict() for m in own},
                **{f"{m}_by_seed": own[m].mean(axis=1).tolist() for m in own},
                **{
                    f"{m}_over_reference": difference(own[m], stacked[reference][m], scenes) if compare else None
                    for m in own
                },
                "held_out_loss": [run.results.get("held_out_loss") for run in runs],
                "weights": sum(w.numel() for w in network.parameters()),
                "gflop_2048x1536": gflop(network.config, 1536, 2048),
            }
        )
    # Table 3: fixed < without attention < single and self < multi.
    full = settings.reference
    none, single, by_self = (replace(full, attention=a) for a in ("none", "single", "self"))
    pairs = [(replace(full, fixed=True), none), (none, single), (none, by_self), (single, full), (by_self, full)]
    notes = []
    if len(settings.seeds) < MIN_SEEDS:
        notes.append(
            f"{len(settings.seeds)} seed{'s' * (len(settings.seeds) > 1)}: too few to tell a variant from luck"
        )
    if reference not in stacked:
        notes.append(f"{reference} was left out: nothing to compare with")
    return {
        "format": 1,
        "device": describe_device(info),
        "raws": len(raws),
        "scenes": len(set(scenes)),
        "seeds": list(settings.seeds),
        "steps": settings.recipe.steps,
        "proxy": next(iter(trained.values())).config.get("proxy"),
        "reference": reference,
        "table": rows,
        "order": [
            {
                "lower": lower.key,
                "higher": higher.key,
                "gain": difference(stacked[higher.key]["psnr"], stacked[lower.key]["psnr"], scenes),
            }
            for lower, higher in pairs
            if lower.key in stacked and higher.key in stacked
        ],
        "encoders": sorted(
            (
                {k: row[k] for k in ("encoders", "key", "psnr", "psnr_interval", "psnr_by_seed")}
                for row in rows
                if "figure 5c" in row["about"]
            ),
            key=lambda row: row["encoders"],
        ),
        "scatter": None,
        "attention": None,
        "figures": [],
        "per_raw": [
            {
                "name": raw.name,
                "hash": raw.hash,
                "scene": raw.scene,
                "iso": raw.iso,
                "variants": {key: {m: stacked[key][m][:, i].tolist() for m in ("psnr", "ssim")} for key in keys},
            }
            for i, raw in enumerate(raws)
        ],
        "notes": notes,
    }


def _scatter(
    space: ParameterSpace,
    settings: AblationSettings,
    raws: Sequence[RawRecord],
    sets: dict[tuple[str, int], list[ParameterSet]],
) -> dict[str, Any] | None:
    """Figure 5b's data: what the paper's network (or else the first made) predicts for each RAW in two parameters."""
    moving = [v for v in settings.variants if not v.fixed]
    if not moving:
        return None
    variant = settings.reference if settings.reference in moving else moving[0]
    predicted = sets[variant.key, settings.seeds[0]]
    if settings.scatter:
        chosen: list[Parameter] = [space[name] for name in settings.scatter]
    else:
        spreads = np.std([p.unit for p in predicted], axis=0)
        found = [strongest(space, spreads, words) for words in (NR_WORDS, SHARPENING_WORDS)]
        chosen = [p for p in found if p is not None]
        if len(chosen) < 2:
            return None
    places = [space.names.index(p.name) for p in chosen]
    iso = np.array([raw.iso or np.nan for raw in raws])
    codes = np.array([p.codes for p in predicted])[:, places]
    return {
        "key": variant.key,
        "seed": settings.seeds[0],
        "parameters": [{"name": p.name, "block": p.block, "unit": p.unit} for p in chosen],
        "rank_correlation_with_iso": [_rank_correlation(iso, column) for column in codes.T],
        "points": [
            {
                "raw": raw.name,
                "iso": raw.iso,
                "values": [p.from_code(int(c)) for p, c in zip(chosen, row, strict=True)],
            }
            for raw, row in zip(raws, codes, strict=True)
        ],
    }


def _rank_correlation(iso: np.ndarray, values: np.ndarray) -> float | None:
    """Spearman's, None where one of both does not move."""
    from scipy.stats import spearmanr

    known = np.isfinite(iso)
    if len(set(iso[known])) < 2 or len(set(values[known])) < 2:
        return None
    return float(spearmanr(iso[known], values[known])[0])


def _parameters_to_draw(space: ParameterSpace, scatter: Sequence[str]) -> list[str]:
    """Figure 6 draws one of sharpening, one of noise reduction and one of white balance."""
    white = [p.name for p in space.parameters if p.role == "red_gain"]
    return list(dict.fromkeys([*reversed(scatter), *white, *space.names]))[:3]
