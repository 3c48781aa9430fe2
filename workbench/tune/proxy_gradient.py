"""Gradient descent of one fixed set through the proxy (equation 4 without a predictor); the device ranks what it found.

The descent asks the device nothing: its captures are those that the proxy was fitted to, and they count. What it ends
at from each start, and where it was half way, are ranked on the device together with the starts.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from drivers.parameters import ParameterSet
from predictor.training import Quantiser, TrainingError
from proxy.files import LoadedProxy
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.runs import RunFolder, find_run, list_runs
from workbench.lab.stratified import stratified
from workbench.learn.held import not_followed
from workbench.learn.own_weights import open_proxy
from workbench.rules.tuned import BEST
from workbench.tasks import viewing_losses
from workbench.tasks.viewing import with_references
from workbench.tasks.viewing_data import ViewingData
from workbench.tune.results import ProxyGradientResult, Trial
from workbench.tune.spending import spent
from workbench.tune.tuner import RANK_RAWS, Tuner

STEPS = 300
_RAWS = 256
_BATCH = 16
_RATE = 0.08
# Share of the steps through the proxy's cheap part alone, as the predictor is trained.
_COARSE = 0.8


def find_proxy(tuner: Tuner, name: str | None) -> RunFolder:
    """The fit-proxy run of that name, or the newest of a device with these parameters.

    Raises:
        RunError: there is none.
    """
    if name is not None:
        return find_run(tuner.lab, "fit-proxy", name)
    suffixes = tuple(digest[:12] for digest in tuner.info.space.hashes)
    for run in list_runs(tuner.lab, "fit-proxy"):
        if str(run.config.get("identity", "")).endswith(suffixes):
            return run
    raise RunError(f"{tuner.lab}: no proxy of {tuner.info.identity}; run `workbench fit-proxy` first")


def descend(
    proxy: LoadedProxy, data: ViewingData, start: ParameterSet, held: list[str], seed: int, steps: int
) -> list[ParameterSet]:
    """The sets half way and at the end of a descent (Adam, cosine) from ``start``; ``held`` parameters stay.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    space = proxy.space
    generator = torch.Generator().manual_seed(seed)
    quantise = Quantiser(space)
    still = torch.tensor([name in held for name in space.names])
    unit = torch.as_tensor(start.unit, dtype=torch.float32)
    logits = torch.logit(unit.clamp(0.02, 0.98)).requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=_RATE)
    found = []
    for step in each("descend through the proxy", range(1, steps + 1), "step"):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (0.02 + 0.98 * (1 + math.cos(math.pi * (step - 1) / steps)) / 2)
        optimiser.zero_grad(set_to_none=True)
        for part in data.draw(_BATCH, generator):
            parameters = torch.where(still, unit, torch.sigmoid(logits)).expand(len(part.planes), -1)
            output = proxy.network(part.raw, quantise(parameters), residual=step > _COARSE * steps)
            loss = viewing_losses.log_l2(output, part.target)
            if not torch.isfinite(loss):
                raise TrainingError(f"step {step}: the loss is {float(loss)}; fit the proxy with another --seed")
            loss.backward()
        optimiser.step()
        if step in (steps // 2, steps):
            reached = torch.where(still, unit, torch.sigmoid(logits)).detach().numpy().astype(np.float64)
            found.append(space.from_unit(reached, start))
    return found


def tune_through_proxy(tuner: Tuner, run: RunFolder) -> tuple[ParameterSet, ProxyGradientResult]:
    """The best of the starts and of what descents from them through the proxy of ``run`` gave, by the device.

    Raises:
        RunError: the proxy is of other parameters, or the metric is not of viewing.
    """
    s, space = tuner.settings, tuner.info.space
    if tuner.task.detector_name is not None:
        raise RunError(
            f"method {s.method} descends on the loss of viewing; for --task "
            f"{s.task.partition(':')[0]} choose another method"
        )
    proxy = open_proxy(run)
    if proxy.space.hash != space.hash:
        raise RunError(f"run {run.name}: is a proxy of {proxy.device_identity}, not of {tuner.info.identity}")
    if tuner.progress:
        tuner.progress(0, s.captures, math.nan)
    data = ViewingData(with_references(stratified(tuner.train, _RAWS, s.seed)), (), vary=False, seed=s.seed)
    held = [*not_followed(run), *space.not_searched]
    candidates = {p.hash: p for p in tuner.starts}
    for i, start in enumerate(tuner.starts):
        at_start = proxy.space.take(start)
        candidates |= {p.hash: space.take(p) for p in descend(proxy, data, at_start, held, s.seed + i, STEPS)}
    sets = list(candidates.values())
    tuner.raws = stratified(tuner.train, max(min(RANK_RAWS, s.captures // len(sets)), 1), s.seed + 1)
    study = tuner.study_name("fixed", tuner.raws)
    values = tuner.rank(study, [[(raw, p) for raw in tuner.raws] for p in sets])
    scores, order = tuner.first_values(values), tuner.order(values)
    so_far = [max((v for v in scores[: i + 1] if v is not None), default=None) for i in range(len(sets))]
    collected = [
        c for c in tuner.dataset.captures(device_identity=proxy.device_identity) if c.purpose.startswith("collect")
    ]
    collecting = int(run.config.get("collected") or len(collected))
    tuner.history = [(collecting + (i + 1) * len(tuner.raws), v) for i, v in enumerate(so_far) if v is not None]
    cost = spent(tuner)
    ranking = cost["captures"]
    cost["captures"] = collecting + ranking
    cost["device_s"] += sum(c.device_s for c in collected[:collecting])
    cost["compute_s"] += run.took_s()
    result = ProxyGradientResult(
        score=scores[order[0]],
        file=BEST,
        default_on_trial_raws=scores[0],
        expert_on_trial_raws=scores[1] if tuner.expert is not None and len(tuner.starts) > 1 else None,
        trials=len(sets),
        ranked_on=len(tuner.raws),
        finalists=tuple(Trial(score=scores[i], score_on_trial_raws=scores[i]) for i in order),
        parameters=sets[order[0]].values,
        parameters_hash=sets[order[0]].hash,
        proxy=run.name,
        held=tuple(held),
        training_scenes=tuple(sorted({r.scene for r in tuner.train})),
        ranking_captures=ranking,
        **cost,
    )
    return sets[order[0]], result
