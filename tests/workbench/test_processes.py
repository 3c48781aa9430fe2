"""Training on two processes is training on one; one that is killed ends the other, and the state goes on in one."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import two_processes
import typer
from typer.testing import CliRunner

from drivers import ranks
from drivers.weights import WeightsError, mixed_precision, training_device
from workbench.commands.processes import launch
from workbench.commands.train import train
from workbench.errors import RunError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@pytest.fixture
def handlers_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    os.environ.pop("TORCHELASTIC_SIGNALS_TO_HANDLE", None)  # the launcher's
    for number, handler in before.items():
        signal.signal(number, handler)


def test_two_processes_train_as_one_does(
    tmp_path: Path, handlers_restored: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(RunError, match=r"^process 1 was ended by SIGKILL, and the others with it; run the same"):
        launch(2, 1, None, two_processes.__file__, str(tmp_path))
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["too_few"].startswith("a batch of 1 RAWs in 1 parts for 2 processes: there is not one for each")
    proxy = two_processes.proxy_curve()
    assert told["proxy"][0] == pytest.approx(proxy[0], rel=1e-5)
    np.testing.assert_allclose(told["proxy"], proxy, atol=2e-3)
    curve, held_out = two_processes.predictor_curve(None)
    np.testing.assert_allclose(told["predictor"][0], curve, rtol=1e-3)
    assert told["predictor"][1] == pytest.approx(held_out, rel=1e-3)
    # What two processes kept goes on in one, from where it was kept.
    rest, resumed = two_processes.predictor_curve(tmp_path / "checkpoint")
    assert len(rest) == two_processes.PREDICTOR.steps // 2
    np.testing.assert_allclose(rest, curve[-len(rest) :], rtol=1e-3)
    assert resumed == pytest.approx(held_out, rel=1e-3)


def test_one_process_is_its_own_group() -> None:
    assert (ranks.world(), ranks.rank(), ranks.share(7)) == (1, 0, slice(0, 7))
    assert ranks.agree("it") == "it"
    assert ranks.add_up(1.5, 2) == [1.5, 2]


def test_mixed_precision_is_for_a_gpu() -> None:
    if training_device().type == "cuda":
        pytest.skip("there is a GPU")
    with pytest.raises(WeightsError, match="mixed precision needs a GPU, torch trains on"):
        mixed_precision(training_device(), True)


def test_hosts_need_a_place_to_meet() -> None:
    app = typer.Typer()
    app.command()(train)
    told = CliRunner().invoke(app, ["--nodes", "2"])
    assert told.exit_code == 2
    assert "--rendezvous go together" in " ".join(told.output.split())
