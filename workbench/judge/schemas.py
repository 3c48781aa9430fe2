"""The JSON Schemas of what runs record, for those who read ``results.json`` with other programs.

python -m workbench.judge.schemas docs/schemas
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from workbench.judge.ablation.results import AblationResult
from workbench.judge.plan_results import Plan
from workbench.judge.results import ChooseResult, ValidationResult
from workbench.lab.results import Result
from workbench.learn.results import ProxyFitResult, TrainResult
from workbench.tune.results import AutoResult, FixedResult, ProxyGradientResult, RegressionResult, TableResult

RESULTS: dict[str, type[Result]] = {
    "validate": ValidationResult,
    "choose": ChooseResult,
    "ablate": AblationResult,
    "plan": Plan,
    "fit-proxy": ProxyFitResult,
    "train": TrainResult,
    "tune-fixed": FixedResult,
    "tune-table": TableResult,
    "tune-regression": RegressionResult,
    "tune-auto": AutoResult,
    "tune-proxy-gradient": ProxyGradientResult,
}


def schemas() -> dict[str, str]:
    """The schemas as JSON text, by the name of the kind of run."""
    return {
        name: json.dumps(result.model_json_schema(), indent=1, ensure_ascii=False) + "\n"
        for name, result in RESULTS.items()
    }


def main(folder: Path) -> None:
    """Write them into a folder."""
    for name, text in schemas().items():
        (folder / f"{name}.schema.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
