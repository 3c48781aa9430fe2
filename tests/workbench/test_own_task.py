"""A task that another package adds, the one of ``docs/how-to/own-task.md``: every command that serves tasks has it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from sim_lab import make_lab
from test_doc_examples import APP
from typer.testing import CliRunner

from workbench.commands.task_options import VIEWING
from workbench.errors import RunError
from workbench.judge.rerun import rerun
from workbench.lab.runs import find_run
from workbench.report import write_report
from workbench.tasks import registry

pytestmark = pytest.mark.usefixtures("module_in_memory")
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "own-task.md"
DEVICE = ("--device", "sim:sim20")
TASK = ("--task", "luma")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(APP, arguments, catch_exceptions=False, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lab, and the page's module installed as a package would install it."""
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    (tmp_path / "own_luma_task.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    added = metadata.EntryPoint("luma", "own_luma_task:TASK", registry.GROUP)
    installed = metadata.entry_points

    def entry_points(*, group: str) -> list[metadata.EntryPoint]:
        return [*installed(group=group), *([added] if group == registry.GROUP else [])]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.chdir(tmp_path)
    made = make_lab(tmp_path / "lab", captures=16, train=5, validation=2, test=2)
    yield made
    sys.modules.pop("own_luma_task", None)


def test_every_command_serves_it(lab: Path) -> None:
    run("fit-proxy", "--base-steps", "2", "--steps", "1", "--width", "4", "--name", "proxy")
    assert "L2 of luminance" in run("train", *TASK, "--steps", "2", "--batch", "2", "--name", "net")
    assert find_run(lab, "train").config["task"] == "luma"
    told = run("tune", *DEVICE, *TASK, "--metric", "luma_psnr", "--captures", "16", "--raws-per-trial", "4")
    assert "best fixed parameters" in told
    told = run("validate", *DEVICE, *TASK, "--oracle-captures", "3", "--name", "final")
    assert "PSNR of luminance (dB)" in told
    results = json.loads(run("choose", *DEVICE, *TASK, "--json"))
    assert results["metric"] == "luma_psnr"
    study = json.loads(
        run(*("ablate", *DEVICE, *TASK, "--seeds", "0", "--steps", "1", "--batch", "2", "--width", "4"),
            *("--only", "none-5", "--only", "multi-5", "--json"))
    )  # fmt: skip
    assert study["task"] == "luma"
    assert study["table"][0]["luma_psnr"] == pytest.approx(study["table"][0]["figures"]["luma_psnr"]["estimate"])
    text = write_report(lab).read_text(encoding="utf-8")
    assert "PSNR of luminance" in text
    assert "SSIM</th>" not in text.split("<h2>Proxy against device")[0]
    assert "Refused" not in text
    assert rerun(Path("lab"), "final").differences == []


def test_a_task_that_is_not_there_is_bad_usage(lab: Path) -> None:
    done = CliRunner().invoke(APP, ["validate", *DEVICE, "--task", "chroma"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "'chroma' is not one of viewing, detection, luma, segmentation" in done.output
    assert registry.task_names()[0] == VIEWING


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("TASK = 1", "own_luma_task:TASK is no TaskKind"),
        ("TASKS = 1", "cannot be loaded from own_luma_task:TASK"),
        ("import nothing_of_the_kind", "cannot be loaded from own_luma_task:TASK"),
    ],
)
def test_a_package_that_is_broken_is_one_clear_line(lab: Path, code: str, words: str) -> None:
    (lab.parent / "own_luma_task.py").write_text(code, encoding="utf-8")
    with pytest.raises(RunError, match=words):
        registry.open_task("luma")
