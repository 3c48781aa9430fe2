"""Collecting captures into a lab: from a device's URL or name and a folder of RAWs to what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from drivers.errors import DeviceError
from drivers.foreign_text import shown
from drivers.parameters import ParameterSet
from drivers.raw.raw_notes import RawNote, told_once
from drivers.splits import Split
from workbench.collect.around_rule import SPREAD, AroundRule, claim, plan_around
from workbench.collect.bench import Bench
from workbench.collect.campaign import PURPOSE, CollectResult, StoredCampaign, plan, run
from workbench.collect.designs import CampaignError, Design
from workbench.collect.live_campaign import LiveCampaign, plan_live
from workbench.collect.raw_folder import passed_over, read_raw_folder
from workbench.collect.raw_import import import_raws
from workbench.collect.taking import make_sure_taken
from workbench.console.notes import listed, say
from workbench.console.progress import Progress
from workbench.lab.dataset import Dataset
from workbench.lab.devices import open_devices


class RawsNeededError(CampaignError):
    """The device takes stored RAWs and no folder of them was given."""


def collect(
    lab: Path,
    device: str | Sequence[str],
    captures: int | None,
    *,
    raws: Path | None = None,
    scene: str = "live",
    split: Split = Split.TRAIN,
    design: Design = Design.SOBOL,
    seed: int = 0,
    around: Sequence[Path | ParameterSet] = (),
    spread: float | None = None,
    around_rule: AroundRule | None = None,
    pool_tolerance: int = 0,
) -> CollectResult:
    """Collect captures: each pairs one RAW (train or validation) with its own parameter set.

    A live device photographs what is before it: each capture keeps the RAW that came with it. The same call again goes
    on where it stopped; when complete it does nothing. A frame that the device refuses, or whose output is no picture
    of the RAW, is kept as a failure and not asked for again. Progress and notes go to stderr.

    Args:
        lab: the lab folder; made where there is none.
        device: URL, or name of the lab's ``lab.toml``; several make a pool.
        captures: how many the whole campaign has; None, of the design ``around-rule`` alone: its groups of all RAWs.
        raws: folder of RAW files; None for live devices.
        scene: live devices: what is before the device; ``split``: of that scene.
        design: how the parameter sets are chosen, see :func:`workbench.collect.campaign.plan`; as are ``seed`` and
            ``spread`` (by default 0.1, of the design ``around-rule`` 0.25).
        around: points of the design ``around``: sets of the device's space, or TOML files of them.
        around_rule: of the design ``around-rule``: the rule, and how the captures lie around it.
        pool_tolerance: levels of 255 by which outputs of pooled boards may differ.

    Raises:
        RawsNeededError: ``raws`` is None and the device is not live.
        CampaignError: the plan cannot be, or the rule is not the one that the campaign began with.
        RunError: the rule is not of this device.
        RawFolderError: a RAW cannot be read.
        TooManyFailuresError: too many frames failed now.
        DeviceError: the device is live and ``raws`` is given, or it failed.
        DatasetError: nothing could be stored.
        ParameterError: a point does not fit the device.
    """
    if (around_rule is None) is (design is Design.AROUND_RULE):
        raise CampaignError(f"design {design}: a rule belongs to the design {Design.AROUND_RULE}, which needs one")
    if captures is None and around_rule is None:
        raise CampaignError(f"design {design}: give the number of captures")
    if spread is None:
        spread = 0.1 if around_rule is None else SPREAD
    devices = [device] if isinstance(device, str) else device
    with open_devices(devices, lab, tolerance=pool_tolerance) as opened:
        space = opened.info().space
        centres = [p if isinstance(p, ParameterSet) else space.load_toml(p) for p in around]
        if opened.info().live:
            if raws is not None:
                raise DeviceError(f"{opened.url}: a live device takes no stored RAWs; leave out --raws")
            sets = plan_live(space, design=design, captures=captures or 0, seed=seed, around=centres, spread=spread)
            with Dataset.open(lab, create=True) as dataset:
                return run(LiveCampaign(dataset, opened, sets, scene=scene, split=split))
        if raws is None:
            raise RawsNeededError("a device that is not live needs a folder of RAWs; give it --raws")
        entries = read_raw_folder(raws)
        with Dataset.open(lab, create=True) as dataset:
            notes: list[tuple[str, RawNote]] = []
            with Progress("read RAWs", len(entries), unit="RAW") as progress:
                records = import_raws(dataset, entries, progress.update, notes)
            lines = told_once(notes)
            if others := passed_over(raws, entries):
                lines.insert(0, f"{shown(raws)}: passed over, not RAW files that can be read: {listed(others, 5)}")
            say(lines)
            make_sure_taken(opened, records)
            usable = [record for record in records if record.split is not Split.TEST]
            if not usable:
                raise CampaignError(
                    f"{shown(raws)}: no capture is collected of test RAWs, and all {len(records)} are; they are in the "
                    "data set now, for `workbench validate`. To collect, give RAWs whose scenes.csv has training scenes"
                )
            if around_rule is None:
                jobs = plan(
                    space, usable, design=design, captures=captures or 0, seed=seed, around=centres, spread=spread
                )
            else:
                jobs = plan_around(space, usable, around_rule, captures=captures, seed=seed, spread=spread)
                claim(lab, opened.info().identity, around_rule, seed, spread)
            result = run(StoredCampaign(Bench(dataset, opened, purpose=PURPOSE), jobs, len(records)))
        return replace(result, notes=tuple(lines))
