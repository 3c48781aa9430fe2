from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sim_lab import PROXY, make_lab
from small_isp import SPACE, SmallIsp
from torch import Tensor

from drivers.errors import DeviceUnreachableError
from drivers.frames import RawFrame
from drivers.registry import open_device
from proxy.files import LoadedProxy
from workbench.errors import RunError
from workbench.lab.dataset import Dataset
from workbench.lab.runs import RunFolder
from workbench.learn.proxy_fitting import fit_proxy
from workbench.tasks.viewing_data import ViewingData
from workbench.tune.fixed import tune_run
from workbench.tune.proxy_gradient import descend
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("module_in_memory")
SETTINGS = TuneSettings("proxy-gradient", captures=24, raws_per_trial=2)


class Brighter:
    """A proxy that knows one parameter: the exposure multiplies the RAW."""

    def __call__(self, raw: Any, parameters: Tensor, residual: bool) -> Tensor:
        gain = 0.5 + 3.5 * parameters[:, SPACE.names.index("exposure")]
        brighter: Tensor = raw.mosaic * gain[:, None, None, None]
        return brighter.expand(-1, 3, -1, -1)


def grey(level: float, gain: float) -> tuple[RawFrame, np.ndarray]:
    raw = RawFrame(np.full((16, 16), round(level * 1000), np.uint16), "RGGB", (0, 0, 0, 0), 1000)
    return raw, np.full((16, 16, 3), round(level * gain * 255), np.uint8)


def test_the_descent_finds_what_the_references_ask_for_and_leaves_held_parameters() -> None:
    proxy = LoadedProxy(Brighter(), SPACE, "small")  # type: ignore[arg-type]
    data = ViewingData([grey(level, 2.0) for level in (0.1, 0.2, 0.3, 0.4)], (), crop=8, vary=False)
    half, end = descend(proxy, data, SPACE.defaults, [], 0, steps=80)
    assert end["exposure"] == pytest.approx(2.0, abs=0.05)
    assert abs(float(end["exposure"]) - 2) <= abs(float(half["exposure"]) - 2) < 1
    assert (end["curve"], end["blur"], end["red"]) == ("a", 3, 1.0)
    assert descend(proxy, data, SPACE.defaults, ["exposure"], 0, steps=10)[-1] == SPACE.defaults
    assert descend(proxy, data, SPACE.defaults, [], 0, steps=80) == [half, end]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_lab(tmp_path_factory.mktemp("gradient") / "lab", captures=16)
    fit_proxy(made, PROXY, name="proxy")
    return made


@pytest.fixture
def lab(fitted: Path, tmp_path: Path) -> Path:
    """A lab of the test's own: what another test captured would be reused and counted."""
    return Path(shutil.copytree(fitted, tmp_path / "lab"))


def tune(lab: Path, **more: Any) -> RunFolder:
    with Dataset.open(lab) as dataset, open_device("sim:sim20") as device:
        return tune_run(lab, dataset, device, SETTINGS, **more)


def test_the_device_ranks_what_the_descent_found(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.tune.proxy_gradient.STEPS", 4)
    run = tune(lab)
    results = run.results
    assert results["proxy"] == run.config["proxy"] == "proxy"
    assert set(run.config["held_out_scenes"]) == {"scene6", "scene7"}
    assert 0 < results["ranking_captures"] <= 24
    with Dataset.open(lab) as dataset:
        collected = [c for c in dataset.captures() if c.purpose.startswith("collect")]
        ranked = [c for c in dataset.captures() if c.purpose.startswith("tune:fixed proxy-gradient")]
    # What the proxy was fitted to is part of the price.
    assert results["captures"] == len(collected) + results["ranking_captures"]
    assert results["device_s"] == pytest.approx(sum(c.device_s for c in collected + ranked))
    assert results["score"] == max(f["score"] for f in results["finalists"]) >= results["default_on_trial_raws"]
    assert (run.path / "best.toml").is_file()
    again = tune(lab, name="again")
    assert (again.results["captures_asked_now"], again.results["score"]) == (0, results["score"])


def test_what_cannot_be_descended_is_one_clear_line(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="gives one fixed set; for rule industry choose another method"):
        tune(lab, rule="industry")
    with pytest.raises(RunError, match="no run there"):
        tune(lab, proxy="nowhere")
    with Dataset.open(lab) as dataset, pytest.raises(RunError, match="no proxy of small/1/"):
        tune_run(lab, dataset, SmallIsp(), SETTINGS)
    with Dataset.open(lab) as dataset, pytest.raises(RunError, match="run proxy: is a proxy of emulated"):
        tune_run(lab, dataset, SmallIsp(), SETTINGS, proxy="proxy")


def test_a_ranking_that_lost_its_device_goes_on(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.tune.proxy_gradient.STEPS", 2)
    with Dataset.open(lab) as dataset, open_device("sim:sim20") as device:
        asked = 0
        original = device.process_many

        def gone(jobs: Any) -> Any:
            nonlocal asked
            for capture in original(jobs):
                if asked == 3:
                    raise DeviceUnreachableError("gone")
                asked += 1
                yield capture

        monkeypatch.setattr(device, "process_many", gone)
        with pytest.raises(DeviceUnreachableError):
            tune_run(lab, dataset, device, SETTINGS, name="stormy", expert=device.info().space.defaults)
        monkeypatch.setattr(device, "process_many", original)
        run = tune_run(lab, dataset, device, SETTINGS, name="stormy", expert=device.info().space.defaults)
    assert run.finished
    assert run.results["captures_asked_now"] < run.results["ranking_captures"]
