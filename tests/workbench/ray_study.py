"""Trains a study's networks on a Ray of this host; every worker is lost once. Run by the test of ``--cluster``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from predictor.training import Recipe
from workbench.judge.ablation import training
from workbench.judge.ablation.variants import AblationSettings
from workbench.lab.runs import RunFolder
from workbench.learn.many_runs import run_on_cluster

SETTINGS = AblationSettings(Recipe(steps=4, batch=4, width=4), (0, 1), ("none-5",), prefix="ray")


def lost_once(train: Callable[..., RunFolder], **options: Any) -> RunFolder:
    marker = Path(options["lab"]) / f"{options['name']}.lost"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return train(**options)


def on_lost_workers(
    cluster: str,
    train: Callable[..., RunFolder],
    jobs: Mapping[Any, Mapping[str, Any]],
    on_done: Callable[[int], None],
) -> dict[Any, RunFolder]:
    return run_on_cluster(cluster, partial(lost_once, train), jobs, on_done)


if __name__ == "__main__":
    training.run_on_cluster = on_lost_workers  # type: ignore[attr-defined]
    training.train_variants(Path(sys.argv[1]), SETTINGS, cluster="local")
