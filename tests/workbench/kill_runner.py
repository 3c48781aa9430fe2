"""Collects as ``workbench collect`` does, and says on stdout which captures are committed; the kill test kills it."""

from __future__ import annotations

import sys
from pathlib import Path

from fake_isp import FakeIsp

from drivers.splits import Split
from workbench.collect import campaign
from workbench.collect.bench import Bench
from workbench.collect.designs import Design
from workbench.collect.raw_folder import read_raw_folder
from workbench.collect.raw_import import import_raws
from workbench.lab.dataset import CaptureRecord, Dataset


def main(lab: Path, folder: Path, captures: int) -> None:
    device = FakeIsp()
    with Dataset.open(lab, create=True) as dataset:
        records = [r for r in import_raws(dataset, read_raw_folder(folder)) if r.split != Split.TEST]
        print("ready", flush=True)
        jobs = campaign.plan(device.info().space, records, design=Design.AROUND, captures=captures, seed=0, spread=0.5)
        bench = Bench(dataset, device, purpose=campaign.PURPOSE)
        for record in bench.capture_many(campaign.StoredCampaign(bench, jobs).remaining()):
            assert isinstance(record, CaptureRecord)
            print(record.raw_hash, record.parameters_hash, record.output_hash, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
