"""What two processes do in the test of training on several: fit, and then one of them is killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / "proxy"), str(Path(__file__).parents[1] / "predictor")]

from gain_gamma import captures
from toy_task import LENGTH, SPACE, ToyData, loss, render

from drivers import ranks
from predictor.training import Recipe, TrainingError, TrainingStep, fit
from proxy import training as proxy_training
from workbench.commands.processes import on_processes

PROXY = proxy_training.ProxyRecipe(base_steps=2, steps=4, batch=5, crop=16, width=4)
PREDICTOR = Recipe(steps=12, batch=7, width=4, metadata=True)


class StopHereError(Exception):
    pass


def proxy_curve() -> list[float]:
    """The running loss of every step."""
    curve: list[float] = []
    proxy_training.fit(captures(range(4), 2), PROXY, on_step=lambda step: curve.append(step.loss))
    return curve


def predictor_curve(checkpoint: Path | None, stop_after: int = 0) -> tuple[list[float], float]:
    """The running loss of every step, and the smallest held-out loss."""
    curve: list[float] = []

    def record(step: TrainingStep) -> None:
        curve.append(step.loss)
        if step.step == stop_after:
            raise StopHereError

    start = SPACE.defaults.unit
    options = {"metadata_length": LENGTH, "start": start, "on_step": record, "checkpoint": checkpoint}
    try:
        held_out = fit(ToyData(), SPACE, render, loss, PREDICTOR, **options).held_out  # type: ignore[arg-type]
    except StopHereError:
        held_out = float("nan")
    return curve, held_out


@on_processes
def work(*, folder: Path, devices: int, nodes: int, rendezvous: str | None) -> None:
    first = ranks.rank() == 0
    told = {"proxy": proxy_curve(), "predictor": predictor_curve(None)}
    predictor_curve(folder / "checkpoint" if first else None, stop_after=PREDICTOR.steps // 2)
    try:
        fit(
            ToyData(),
            SPACE,
            render,
            loss,
            dataclasses.replace(PREDICTOR, batch=1),
            metadata_length=LENGTH,
            start=SPACE.defaults.unit,
        )
    except TrainingError as error:
        told["too_few"] = str(error)  # type: ignore[assignment]
    if first:
        (folder / "told.json").write_text(json.dumps(told))
    else:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.add_up(1.0)  # waits for the other


if __name__ == "__main__":
    work(folder=Path(sys.argv[1]), devices=2, nodes=1, rendezvous=None)
