"""A campaign with every fault at random: nothing wrong, lost or doubled. ``benchmarks/faults.py`` is the long one."""

from __future__ import annotations

from pathlib import Path

from servers import in_thread
from sim_lab import picture

from drivers.protocol.zmq_device import ZmqDevice
from drivers.registry import open_device
from drivers.splits import Split
from sim.firmware.faults import NAMES, Fault, Faults
from sim.firmware.registers import emulated
from sim.firmware.zmq_server import serve_firmware
from workbench.collect import campaign
from workbench.collect.bench import Bench
from workbench.collect.designs import Design
from workbench.lab.dataset import Dataset

CAPTURES = 300


def test_a_campaign_with_every_fault_ends_with_the_undisturbed_data_set(tmp_path: Path) -> None:
    probability = {"reboot": 0.005, "hang": 0.005, "disappear": 0.005, "drop": 0.003}
    plan = {name: Fault(probability.get(name, 0.015), frozenset([20 + 20 * i]), 0.05) for i, name in enumerate(NAMES)}
    faults = Faults(plan, seed=1)
    digests = []
    with (
        in_thread(serve_firmware, emulated("sim20"), "127.0.0.1:0", faults=faults) as url,
        ZmqDevice(url, 2) as disturbed,
        open_device("sim:sim20") as undisturbed,
    ):
        for device in (disturbed, undisturbed):
            with Dataset.open(tmp_path / device.url.partition(":")[0], create=True) as dataset:
                for i in range(4):
                    raw, _ = picture(i)
                    dataset.add_raw(raw, scene=f"scene{i}", split=Split.TRAIN, name=f"{i}.npz")
                space = device.info().space
                jobs = campaign.plan(space, dataset.raws(), design=Design.SOBOL, captures=CAPTURES, seed=0)
                campaign.run(campaign.StoredCampaign(Bench(dataset, device, purpose=campaign.PURPOSE), jobs))
                assert len(dataset.captures()) == CAPTURES
                digests.append(dataset.digest())
    assert digests[0] == digests[1]
    assert set(faults.counts) == set(NAMES)
    assert faults.frames > CAPTURES
