"""What engineers use: the commands, and :class:`Lab`, which does the same from Python.

    from workbench import Lab

    lab = Lab("lab")
    lab.collect(device="sim:sim20", raws="raws", captures=500)
    proxy = lab.fit_proxy(device="sim:sim20")
    lab.train(proxy=proxy)
    lab.tune(device="sim:sim20", captures=500)
    result = lab.validate(device="sim:sim20")
    print(result.table())
    lab.captures().to_frame()

Everything that is named here stays; what is not may change with any version.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictor.training import Recipe, paper_recipe
    from proxy.training import ProxyRecipe
    from workbench.collect.campaign import CollectResult
    from workbench.errors import RunError
    from workbench.face import Lab, Run
    from workbench.judge.methods import ValidationSettings
    from workbench.judge.plan_results import Plan
    from workbench.judge.results import ValidationResult
    from workbench.judge.statistics import Comparison, Interval
    from workbench.lab.captures import Captures
    from workbench.learn.refining import RefineSettings
    from workbench.learn.results import ProxyFitResult, TrainResult
    from workbench.loop.results import LoopResult
    from workbench.tasks.registry import open_task
    from workbench.tasks.task import TaskOptions
    from workbench.tune.results import TuneResult

_WHERE = {
    "Captures": "workbench.lab.captures",
    "CollectResult": "workbench.collect.campaign",
    "Comparison": "workbench.judge.statistics",
    "Interval": "workbench.judge.statistics",
    "Lab": "workbench.face",
    "LoopResult": "workbench.loop.results",
    "Plan": "workbench.judge.plan_results",
    "ProxyFitResult": "workbench.learn.results",
    "ProxyRecipe": "proxy.training",
    "Recipe": "predictor.training",
    "RefineSettings": "workbench.learn.refining",
    "Run": "workbench.face",
    "RunError": "workbench.errors",
    "TaskOptions": "workbench.tasks.task",
    "TrainResult": "workbench.learn.results",
    "TuneResult": "workbench.tune.results",
    "ValidationResult": "workbench.judge.results",
    "ValidationSettings": "workbench.judge.methods",
    "open_task": "workbench.tasks.registry",
    "paper_recipe": "predictor.training",
}

__all__ = [
    "Captures",
    "CollectResult",
    "Comparison",
    "Interval",
    "Lab",
    "LoopResult",
    "Plan",
    "ProxyFitResult",
    "ProxyRecipe",
    "Recipe",
    "RefineSettings",
    "Run",
    "RunError",
    "TaskOptions",
    "TrainResult",
    "TuneResult",
    "ValidationResult",
    "ValidationSettings",
    "open_task",
    "paper_recipe",
]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: `workbench --help` must not wait for torch.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
