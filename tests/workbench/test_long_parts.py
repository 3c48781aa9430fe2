"""Parts of commands that go over many RAWs or captures say how far they are, before, between and after the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sim_lab import PROXY
from sim_lab import make_lab as make_sim_lab
from small_isp import SPACE, SmallIsp, make_lab

from drivers.frames import RawFrame
from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.console import progress
from workbench.judge.methods import Method, MethodKind
from workbench.judge.under_setting import overlaid
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.dataset.aside import chosen_captures
from workbench.lab.dataset.export import export
from workbench.lab.dataset.verify import verify
from workbench.learn.proxy_fitting import fit_proxy
from workbench.rules.resolving import resolve
from workbench.rules.tuned import sets_of
from workbench.tasks.viewing import with_references
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

Told = Callable[[], list[str]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """The parts that were told as if everything took long, each once, with all that it was of."""
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)

    def parts() -> list[str]:
        lines = [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()]
        ends = (line for line in lines if (count := line.rpartition(": ")[2].split())[0] == count[2])
        return list(dict.fromkeys(ends))

    return parts


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    make_lab(tmp_path, train=6, test=2)
    return tmp_path


def test_what_is_looked_through_in_the_data_set(lab: Path, told: Told) -> None:
    with Dataset.open(lab) as dataset:
        list(Bench(dataset, SmallIsp(), purpose="collect").capture_many((r, SPACE.defaults) for r in dataset.raws()))
        assert verify(dataset).problems == []
        assert told() == ["verify RAWs: 8 of 8 RAWs", "verify pictures: 8 of 8 captures"]
        assert chosen_captures(dataset, [], undecodable=True) == {}
        assert told() == ["look at outputs: 8 of 8 captures"]
        export(dataset, lab / "out")
        assert told() == ["export RAWs: 8 of 8 RAWs"]


def test_what_a_setting_measures_of_raws_once_for_all_methods(
    lab: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = lab / "mine.toml"
    toml.write_text('[by_rule]\nexposure = "mean"\n')
    with Dataset.open(lab) as dataset:
        setting = resolve(toml, SPACE, dataset).setting
        assert setting is not None
        assert told() == ["fit setting mine.toml: 6 of 6 RAWs"]
        raws = dataset.raws(Split.TEST)
    loaded: list[str] = []
    load = RawRecord.load

    def counted(raw: RawRecord) -> RawFrame:
        loaded.append(raw.name)
        return load(raw)

    monkeypatch.setattr(RawRecord, "load", counted)
    monkeypatch.setattr("workbench.rules.setting._levels", {})
    methods = [Method(MethodKind.fixed, str(blur), (SPACE.defaults.replace(blur=blur),) * 2, "r") for blur in (0, 1)]
    got = overlaid(methods, raws, setting)
    assert told() == ["setting mine.toml: 2 of 2 RAWs"]
    assert loaded == [raw.name for raw in raws]
    assert [m.label for m in got] == ["0", "1"]
    assert [m.sets for m in got] == [
        tuple(setting.of(p, r) for p, r in zip(m.sets, raws, strict=True)) for m in methods
    ]


def test_a_tuning_tells_every_frame(lab: Path, told: Told) -> None:
    seen: list[int] = []
    with Dataset.open(lab) as dataset:
        run = tune_run(
            lab,
            dataset,
            SmallIsp(),
            TuneSettings("random", captures=24, raws_per_trial=3),
            progress=lambda done, total, best: seen.append(done),
        )
        assert [line for line in told() if "look at" not in line] == [
            "first sets: 3 of 3 captures",
            "rank the best: 15 of 15 captures",
        ]
        assert seen == list(range(1, max(seen) + 1))
        sets_of(run, SPACE, dataset.raws(Split.TEST))
        assert told() == [f"what {run.name} gives: 2 of 2 RAWs"]


def test_what_is_read_before_and_measured_after_a_training(
    tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = make_sim_lab(tmp_path / "lab", captures=24)
    told()
    fit_proxy(lab, PROXY, name="proxy")
    lines = told()
    assert lines[0].startswith("read captures: ")
    assert lines[1].startswith(("read captures: ", "held-out captures: "))
    assert "held-out captures: 1 of 1 parts" in lines
    with Dataset.open(lab) as dataset:
        assert len(list(with_references(dataset.raws(Split.TRAIN)))) == 6
    assert told() == ["read RAWs: 6 of 6 RAWs"]
