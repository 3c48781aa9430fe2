"""Whether a proxy ranks what moves of one parameter do to the loss as its device does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sim_lab import PROXY, make_lab
from small_isp import SPACE, SmallIsp, best_of, render
from small_isp import make_lab as make_small_lab

from drivers.device import DeviceInfo
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.registry import open_device
from drivers.splits import Split
from proxy import files
from proxy.files import centre
from workbench.collect.bench import Bench
from workbench.commands.fit_proxy import print_results
from workbench.console import terminal
from workbench.judge.rerun import rerun
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder, list_runs, new_run
from workbench.learn import fidelity_report
from workbench.learn.fidelity_report import fidelity
from workbench.learn.loss_moves import Move, Quality, losses, moves_from, sensible_rule
from workbench.learn.proxy_fitting import fit_proxy
from workbench.learn.results import FidelityReport, Movement, ProxyFitResult
from workbench.rules.centres import Centres, centres_of
from workbench.rules.industry import TABLE, IndustryTable
from workbench.rules.tuned import BEST

pytestmark = pytest.mark.usefixtures("module_in_memory")


def test_moves_are_of_one_parameter_both_ways_and_different() -> None:
    centre = SPACE.from_unit(np.array([0.5, 0.98, 0.05, 0.6, 0.5, 0.2]))
    moves = moves_from(SPACE, centre)
    assert list(dict.fromkeys(name for name, _ in moves)) == SPACE.names
    assert len({p.hash for _, p in moves} | {centre.hash}) == len(moves) + 1
    for name, parameters in moves:
        assert [n for n, a, b in zip(SPACE.names, centre.codes, parameters.codes, strict=True) if a != b] == [name]
    by_name = {n: [p.unit[SPACE.names.index(n)] for m, p in moves if m == n] for n in SPACE.names}
    assert by_name["red"] == pytest.approx([0.2, 0.4, 0.6, 0.8], abs=0.01)
    assert [u > 0.98 for u in by_name["blue"]] == [False, False, True]  # both moves beyond the end come to the same
    assert [p["blur"] for n, p in moves if n == "blur"] == [1, 3]
    assert [p["curve"] for n, p in moves if n == "curve"] == ["a", "c"]
    assert [p["invert"] for n, p in moves if n == "invert"] == [True]


def move(device: float, proxy: float, name: str = "gain") -> Move:
    """A move that changes the qualities by so much."""
    return Move(
        name,
        (Quality(20, 0.5), Quality(20 + device, 0.5 + device / 100)),
        (Quality(30, 0.9), Quality(30 + proxy, 0.9 - proxy / 100)),
    )


def test_the_table_of_losses() -> None:
    changes = [-2.0, -0.5, 0.25, 1.0]
    moves = [move(d, d**3) for d in changes]
    moves += [move(d, 0, "still") for d in changes]
    moves += [move(0, d, "dead") for d in changes]
    moves += [move(0.05, d, "few") for d in (1, 2)]
    table = losses(moves)
    gain = table["gain"]
    assert gain.moves == 4
    assert gain.psnr_rank == pytest.approx(1)
    assert gain.psnr_change == pytest.approx(np.sqrt(np.mean(np.square(changes))))
    assert gain.psnr_change_proxy == pytest.approx(np.sqrt(np.mean(np.power(changes, 6))))
    assert gain.ssim_change == pytest.approx((gain.psnr_change or 0) / 100)
    assert gain.ssim_rank == pytest.approx(-1)
    assert (table["still"].psnr_rank, table["still"].ssim_rank) == (0, 0)
    assert (table["dead"].psnr_rank, table["dead"].psnr_change, table["dead"].matters) == (None, 0, False)
    assert (table["few"].psnr_rank, table["few"].matters) == (None, False)
    report = FidelityReport(parameters=tuple(Movement(parameter=name, loss=loss) for name, loss in table.items()))
    assert [m.parameter for m in report.that_matter] == ["gain", "still"]
    assert [m.parameter for m in report.loss_followed] == ["gain"]


def test_pictures_too_small_for_ssim_have_psnr_alone() -> None:
    first, *after = (Quality(psnr, float("nan")) for psnr in (20, 18, 21, 23))
    loss = losses([Move("gain", (first, quality), (first, quality)) for quality in after])["gain"]
    assert loss.psnr_rank == pytest.approx(1)
    assert (loss.ssim_change, loss.ssim_rank) == (None, None)


def tuned(lab: Path, name: str, rule: str, space: ParameterSpace = SPACE, **config: Any) -> RunFolder:
    run = new_run(lab, "tune", name)
    run.update(config={"rule": rule, **config}, device=DeviceInfo("isp", "1", "unit 1", "boot-1", space))
    if rule == "fixed":
        (run.path / BEST).write_text(space.to_toml(space.defaults), encoding="utf-8")
    else:
        IndustryTable(space, (100.0,), (space.defaults,)).save(run.path / TABLE)
    run.finish({"score": 1.0, "file": BEST if rule == "fixed" else TABLE})
    return run


def test_the_rule_is_the_newest_table_of_the_device_or_else_the_best_set(tmp_path: Path) -> None:
    def found() -> str | None:
        run = sensible_rule(list_runs(tmp_path, "tune"), SPACE)
        return run.name if run else None

    assert found() is None
    tuned(tmp_path, "fixed", "fixed")
    tuned(tmp_path, "regression", "regression")
    other = ParameterSpace(name="other", parameters=SPACE.parameters[1:])
    tuned(tmp_path, "other", "industry", other)
    tuned(tmp_path, "boxes", "industry", task="detection:abc")
    tuned(tmp_path, "part", "industry", study="s")
    assert found() == "fixed"
    tuned(tmp_path, "table", "industry")
    assert found() == "table"
    tuned(tmp_path, "for-ssim", "industry", metric="ssim")
    assert found() == "table"
    tuned(tmp_path, "newer", "industry", metric="psnr")
    assert found() == "newer"


class Imitation:
    """In a proxy's place: the device itself, but for parameters that it does not react to."""

    space = SPACE

    def __init__(self, *ignored: str) -> None:
        self.ignored = {name: SPACE.defaults[name] for name in ignored}

    def render_centre(self, raw: RawFrame, parameters: ParameterSet) -> np.ndarray:
        return render(raw, parameters.replace(**self.ignored))[centre(raw.height, raw.width)]


def report_of(lab: Path, proxy: Imitation, loss_raws: int = 3) -> FidelityReport:
    with Dataset.open(lab) as dataset:
        best = Centres("best", "", lambda space, raws: [best_of(raw.load()) for raw in raws])
        bench = Bench(dataset, SmallIsp(), purpose="fidelity")
        return fidelity(proxy, dataset, bench, centres=best, loss_raws=loss_raws)  # type: ignore[arg-type]


def test_a_proxy_that_is_the_device_ranks_every_move(tmp_path: Path) -> None:
    make_small_lab(tmp_path, train=6, test=0)
    report = report_of(tmp_path, Imitation())
    assert (report.around, report.loss_raws, report.loss_split) == ("best", 3, "train")
    assert [m.parameter for m in report.that_matter] == SPACE.names
    assert report.loss_followed == report.that_matter
    loss = {m.parameter: m.loss for m in report.parameters}
    assert all(m is not None and m.psnr_rank == pytest.approx(1) for m in loss.values())
    assert loss["invert"] is not None
    assert loss["invert"].moves == 3
    without = report_of(tmp_path, Imitation(), loss_raws=0)
    assert (without.loss_raws, without.loss_captures, without.that_matter) == (0, 0, [])
    assert (report.captures or 0) - (without.captures or 0) == report.loss_captures > 3 * len(SPACE)


def test_of_large_frames_the_middle_is_compared_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small_lab(tmp_path, train=6, test=0)
    whole = report_of(tmp_path, Imitation())
    for module in (files, fidelity_report):
        monkeypatch.setattr(module, "TILE", 8)
    report = report_of(tmp_path, Imitation())
    assert [note for note in report.notes if note not in whole.notes] == [
        "frames of more than 8 pixels are compared in their middle, 8×8 at most"
    ]
    assert report.captures == whole.captures
    assert report.rank_correlation == pytest.approx(1)
    assert all(m.cosine == pytest.approx(1) for m in report.parameters)
    assert [m.device_change for m in report.parameters] != [m.device_change for m in whole.parameters]


def test_a_proxy_that_ignores_a_parameter_ranks_none_of_its_moves(tmp_path: Path) -> None:
    make_small_lab(tmp_path, train=6, test=0)
    report = report_of(tmp_path, Imitation("invert"))
    assert [m.parameter for m in report.loss_followed] == [name for name in SPACE.names if name != "invert"]
    (loss,) = (m.loss for m in report.that_matter if m.parameter == "invert")
    assert loss is not None
    assert (loss.psnr_rank, loss.psnr_change_proxy) == (0, 0)


def test_without_references_the_loss_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Dataset.open(tmp_path, create=True) as dataset:
        mosaic = np.random.default_rng(1).integers(0, 600, (16, 16), dtype=np.uint16)
        raw = RawFrame(mosaic, "RGGB", (0, 0, 0, 0), 1023, iso=100.0)
        dataset.add_raw(raw, scene="a", split=Split.VALIDATION, name="a.npz")
    report = report_of(tmp_path, Imitation())
    assert (report.loss_raws, report.loss_captures, report.that_matter) == (0, 0, [])
    assert [m.parameter for m in report.parameters] == SPACE.names
    monkeypatch.setattr(terminal, "console", lambda: Console(width=200))
    print_results("p", ProxyFitResult(captures=4, fidelity=report))
    assert "note: no RAW of this split has a reference" in capsys.readouterr().out


def test_fit_proxy_follows_the_loss_around_the_labs_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = make_lab(tmp_path / "lab", captures=12, train=2, validation=1)
    with open_device("sim:sim20") as device:
        space = device.info().space
        run = tuned(lab, "table", "industry", space)
        fitted = fit_proxy(lab, PROXY, device=device, name="p", around=run, loss_raws=2)
        assert (fitted.config["around"], fitted.config["loss_raws"]) == ("table", 2)
        outcome = rerun(lab, "p", device=device)
        assert outcome.differences == []
    result = ProxyFitResult.of(fitted)
    report = result.fidelity
    assert report is not None
    assert (report.around, report.loss_raws, report.loss_split) == ("table", 1, "validation")
    assert 3 * len(space) < report.loss_captures < 5 * len(space)
    with Dataset.open(lab) as dataset:
        (raw,) = [r for r in dataset.raws() if r.split == "validation"]
        (centre,) = centres_of(run).sets(space, [raw])
        identity = dataset.devices()[0].identity
        assert (raw.hash, centre.hash) in dataset.find(identity, [(raw.hash, centre.hash)])
        assert {c.purpose for c in dataset.captures()} == {"collect", "fidelity"}
    assert all(m.loss is not None and m.loss.psnr_change is not None for m in report.parameters)
    monkeypatch.setattr(terminal, "console", lambda: Console(width=200))
    print_results("p", result)
    out = capsys.readouterr().out
    assert "one parameter moved from what table gives" in out
    assert f"1 validation RAWs, {report.loss_captures} captures" in out
