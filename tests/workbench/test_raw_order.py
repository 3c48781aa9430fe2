"""In which order RAWs are asked for: a device that holds the last few is sent the pixels of others alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from small_isp import SPACE, SmallIsp, make_lab

from drivers.device import Capture
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.protocol.held_raws import HeldRaws
from drivers.splits import Split
from workbench.collect.bench import Bench
from workbench.judge.measuring import measure
from workbench.judge.methods import Method, MethodKind
from workbench.lab.dataset import Dataset
from workbench.tasks.viewing import ViewingTask
from workbench.tune.fixed import tune_run
from workbench.tune.tuner import TuneSettings

pytestmark = pytest.mark.usefixtures("studies_in_memory")


class Holding(SmallIsp):
    """Holds a few RAWs, as the protocol says, and counts how often it had to be sent one's pixels."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.held: HeldRaws[bool] = HeldRaws(room)
        self.sent: Counter[str] = Counter()

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        if not self.held.asked(raw.hash):
            self.sent[raw.hash] += 1
            self.held.keep(raw.hash, 1, True)
        return super().process(raw, parameters)


def test_a_comparison_sends_each_raw_once(tmp_path: Path) -> None:
    make_lab(tmp_path)
    device = Holding(room=1)
    with Dataset.open(tmp_path) as dataset:
        raws = dataset.raws(Split.TEST)
        sets = [SPACE.defaults.replace(blur=blur) for blur in range(3)]
        methods = [Method(MethodKind.tune, str(i), (p,) * len(raws), str(i)) for i, p in enumerate(sets)]
        measured = measure(Bench(dataset, device, purpose="test"), ViewingTask(), raws, methods)
        for method, p in zip(methods, sets, strict=True):
            assert [(c.raw_hash, c.parameters_hash) for c in measured.captures[method.key]] == [
                (r.hash, p.hash) for r in raws
            ]
    assert device.asked == 3 * len(raws)
    assert device.sent == {raw.hash: 1 for raw in raws}


def test_a_search_that_goes_round_more_raws_than_are_held_meets_half_of_them_again(tmp_path: Path) -> None:
    make_lab(tmp_path, train=12)
    device = Holding(room=6)
    settings = TuneSettings(captures=12 * 20, raws_per_trial=12)
    with Dataset.open(tmp_path) as dataset:
        tune_run(tmp_path, dataset, device, settings)
    assert device.asked > 200
    assert sum(device.sent.values()) < 0.7 * device.asked
