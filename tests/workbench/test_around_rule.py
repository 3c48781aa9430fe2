"""Campaigns around what a tuned rule gives for each RAW."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from fake_isp import SPACE, FakeIsp, make_raw, make_set
from hypothesis import given, settings
from hypothesis import strategies as st
from test_campaign import pairs, raw_record
from typer.testing import CliRunner

import drivers.registry
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.raw.raw_files import save_npz
from drivers.splits import Split
from workbench.collect.around_rule import FOLDER, AroundRule, claim, plan_around
from workbench.collect.campaign import PURPOSE
from workbench.collect.collector import collect
from workbench.collect.designs import CampaignError, Design
from workbench.commands.collect import collect as collect_command
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, new_run
from workbench.rules.centres import Centres, find_centres
from workbench.rules.industry import TABLE, IndustryTable

pytestmark = pytest.mark.usefixtures("module_in_memory")


def sets_of_raws(space: ParameterSpace, raws: Sequence[RawRecord]) -> list[ParameterSet]:
    return [make_set(int(raw.hash, 16) % 4000) for raw in raws]


CENTRES = Centres("rule", "d" * 64, sets_of_raws)
DESIGN = AroundRule(CENTRES)


def moved(job: tuple[RawRecord, ParameterSet]) -> set[str]:
    """The parameters that a capture does not have as its rule."""
    (centre,) = sets_of_raws(SPACE, [job[0]])
    return {n for n, a, b in zip(SPACE.names, centre.codes, job[1].codes, strict=True) if a != b}


@given(raws=st.integers(1, 9), more_raws=st.integers(0, 4), per_raw=st.integers(2, 9), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_larger_campaigns_contain_the_smaller(raws: int, more_raws: int, per_raw: int, seed: int) -> None:
    records = [raw_record(i) for i in range(raws + more_raws)]
    small, large = AroundRule(CENTRES, per_raw), AroundRule(CENTRES, per_raw + 3)
    whole = pairs(plan_around(SPACE, records[:raws], small, captures=None, seed=seed))
    assert len(set(whole)) == raws * per_raw
    part = pairs(plan_around(SPACE, records[raws - 1 :: -1], small, captures=raws * per_raw - 1, seed=seed))
    assert part == whole[:-1]
    assert set(whole) < set(pairs(plan_around(SPACE, records[:raws], large, captures=None, seed=seed)))
    assert set(whole) <= set(pairs(plan_around(SPACE, records, small, captures=None, seed=seed)))


def test_each_group_is_the_rules_set_and_moves_near_it() -> None:
    jobs = plan_around(SPACE, [raw_record(i) for i in range(40)], DESIGN, captures=None, seed=3, spread=0.1)
    assert set(Counter(raw.hash for raw, _ in jobs).values()) == {8}
    assert [moved(job) for job in jobs[::8]] == [set()] * 40
    touched = [moved(job) for i, job in enumerate(jobs) if i % 8]
    assert all(touched)
    blocks = Counter(
        "both" if {"gain"} < names else "gain" if names == {"gain"} else "tone" for names in map(frozenset, touched)
    )
    # Three of the seven moves are of one block; of both the level may stay where it was.
    assert blocks["gain"] >= 40
    assert blocks["tone"] >= 40
    assert blocks["both"] >= 120
    for raw, parameters in jobs:
        (centre,) = sets_of_raws(SPACE, [raw])
        assert np.abs(parameters.unit - centre.unit)[:2].max() <= 0.11
    # What has no order is drawn afresh.
    assert {"mode", "sharp"} <= set().union(*touched)
    assert pairs(jobs) != pairs(plan_around(SPACE, [j[0] for j in jobs], DESIGN, captures=None, seed=4, spread=0.1))


@pytest.mark.parametrize(("share", "blocks"), [(1.0, {"gain", "tone"}), (0.0, {"both"})])
def test_the_share_of_blocks(share: float, blocks: set[str]) -> None:
    jobs = plan_around(
        SPACE, [raw_record(i) for i in range(9)], AroundRule(CENTRES, 5, share), captures=None, seed=0, spread=0.9
    )
    names = [moved(job) for i, job in enumerate(jobs) if i % 5]
    assert {"both" if "gain" in n and len(n) > 1 else "gain" if "gain" in n else "tone" for n in names} == blocks


def test_what_is_kept_does_not_move() -> None:
    records = [raw_record(i) for i in range(9)]
    jobs = plan_around(SPACE, records, AroundRule(CENTRES, keep=("gain", "mode")), captures=None, seed=0)
    assert set().union(*map(moved, jobs)) == {"level", "sharp"}


@pytest.mark.parametrize(
    ("design", "changes", "told"),
    [
        (DESIGN, {"captures": 17}, r"2 RAWs with 8 captures each are 16, not 17; raise --per-raw"),
        (DESIGN, {"spread": 0.0}, r"spread 0 is outside"),
        (AroundRule(CENTRES, 1), {}, r"1 captures a RAW: give at least 2"),
        (AroundRule(CENTRES, 8, 2.0), {}, r"share of moves of one block 2 is outside"),
        (AroundRule(CENTRES, keep=("tonne",)), {}, r"--keep tonne: tiny has no such parameter or block; its blocks"),
        (AroundRule(CENTRES, keep=("tone", "gain")), {}, r"--keep leaves no parameter to move"),
        (AroundRule(CENTRES, keep=("gain", "level", "mode")), {}, r"gives only 2 different captures of "),
    ],
)
def test_plans_that_cannot_be(design: AroundRule, changes: dict[str, float], told: str) -> None:
    with pytest.raises(CampaignError, match=told):
        plan_around(SPACE, [raw_record(0), raw_record(1)], design, **{"captures": None, "seed": 0, **changes})  # type: ignore[arg-type]
    with pytest.raises(CampaignError, match="no RAWs"):
        plan_around(SPACE, [], DESIGN, captures=None, seed=0)


def test_a_campaign_keeps_its_rule(tmp_path: Path) -> None:
    claim(tmp_path, "isp", DESIGN, 0, 0.25)
    claim(tmp_path, "isp", AroundRule(CENTRES, 20), 0, 0.25)
    other = AroundRule(Centres("rule", "e" * 64, sets_of_raws))
    with pytest.raises(CampaignError, match=r"run rule: is not the rule .* \(was dddddddddddd, is eeeeeeeeeeee\)"):
        claim(tmp_path, "isp", other, 0, 0.25)
    with pytest.raises(CampaignError, match=r"--spread: the campaign around rule with seed 0 began with 0\.25, not"):
        claim(tmp_path, "isp", DESIGN, 0, 0.3)
    with pytest.raises(CampaignError, match=r"--keep: .* began with nothing, not tone;"):
        claim(tmp_path, "isp", AroundRule(CENTRES, keep=("tone",)), 0, 0.25)
    claim(tmp_path, "isp", other, 1, 0.3)
    claim(tmp_path, "other isp", other, 0, 0.3)
    assert len(list((tmp_path / FOLDER).iterdir())) == 3


def tuned(lab: Path, gains: tuple[float, float]) -> RunFolder:
    """A finished tune run of the rule industry."""
    run = new_run(lab, "tune", "table")
    info = FakeIsp().info()
    sets = tuple(SPACE.defaults.replace(gain=gain) for gain in gains)
    IndustryTable(SPACE, (100.0, 105.0), sets).save(run.path / TABLE)
    run.update(config={"rule": "industry"}, device=info)
    run.finish({"score": 1.0, "file": TABLE})
    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "raws").mkdir()
    lines = ["file,scene,split"]
    for i in range(6):
        save_npz(tmp_path / "raws" / f"{i}.npz", make_raw(i))
        lines.append(f"{i}.npz,s{i},{('train', 'validation', 'test')[i % 3]}")
    (tmp_path / "raws" / "scenes.csv").write_text("\n".join(lines))
    return tmp_path


def test_around_a_tuned_table_on_the_device(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(collect_command)
    monkeypatch.chdir(place)
    devices: list[FakeIsp] = []

    def opened(url: str, deadline_s: float = 30.0) -> FakeIsp:
        devices.append(FakeIsp(30 if not devices else None))
        return devices[-1]

    monkeypatch.setattr(drivers.registry, "open_device", opened)
    tuned(place / "lab", (1.0, 3.0))
    words = ["--device", "fake:", "--raws", "raws", "--design", "around-rule", "--json"]

    def go(*more: str) -> tuple[int, str, BaseException | None]:
        done = CliRunner().invoke(app, [*words, *more])
        return done.exit_code, done.stdout, done.exception

    assert go()[0] == 2
    for wrong in (("--per-raw", "9"), ("--block-share", "0"), ("--keep", "gain"), ("--spread", "0.3")):
        done = CliRunner().invoke(app, ["--device", "fake:", "--raws", "raws", "--captures", "4", *wrong])
        assert done.exit_code == 2
        assert f"{wrong[0]}: is for --design around" in done.output
    assert go("--rule", "table")[0] == 1  # the device went away after 30 of 32
    code, out, _ = go("--rule", "table")
    assert (code, json.loads(out)["captures"], json.loads(out)["new"]) == (0, 32, 2)
    code, out, _ = go("--rule", "table", "--per-raw", "9", "--captures", "35")
    assert (code, json.loads(out)["captures"], json.loads(out)["new"]) == (0, 35, 3)
    with Dataset.open(place / "lab") as dataset:
        captures = dataset.captures(purpose=PURPOSE)
        raws = [raw for raw in dataset.raws() if raw.split is not Split.TEST]
    assert len(captures) == 35
    table = IndustryTable.load(place / "lab" / "runs" / "table" / TABLE)
    assert len({table.parameters_for(raw).hash for raw in raws}) == 4
    keys = {(c.raw_hash, c.parameters_hash) for c in captures}
    assert {(raw.hash, table.parameters_for(raw).hash) for raw in raws} <= keys
    # Tuned again under the same name, the rule is another one.
    (place / "lab" / "runs" / "table" / "run.json").unlink()
    tuned(place / "lab", (1.5, 3.0))
    _, _, error = go("--rule", "table")
    assert isinstance(error, CampaignError)
    assert "is not the rule that this campaign began with" in str(error)
    assert go("--rule", "table", "--seed", "1")[0] == 0


def test_a_rule_and_its_design_need_each_other(place: Path) -> None:
    tuned(place / "lab", (1.0, 3.0))
    design = AroundRule(find_centres(place / "lab", "table"))
    for chosen, rule in ((Design.AROUND_RULE, None), (Design.SOBOL, design)):
        with pytest.raises(CampaignError, match=r"a rule belongs to the design around-rule"):
            collect(place / "lab", "fake:", 4, raws=place / "raws", design=chosen, around_rule=rule)
    with pytest.raises(CampaignError, match="give the number of captures"):
        collect(place / "lab", "fake:", None, raws=place / "raws")
