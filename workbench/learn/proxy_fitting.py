"""Fits a proxy to the captures of a data set and measures its fidelity; the work behind ``workbench fit-proxy``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from drivers import ranks
from drivers.device import Device
from drivers.frames import RawFrame
from drivers.parameters import ParameterSpace
from drivers.splits import Split
from drivers.weights import file_digest
from proxy.crops import CropBuilder, CropSet
from proxy.files import load_proxy, save_proxy
from proxy.networks import Network
from proxy.training import ProxyRecipe, ProxyStep, fit, imitate, psnr
from workbench.collect.bench import Bench
from workbench.collect.campaign import PURPOSE
from workbench.collect.faults import faults_kept
from workbench.collect.output_kinds import told_kinds
from workbench.console.notes import say
from workbench.console.progress import Progress, each
from workbench.errors import RunError
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord
from workbench.lab.runs import RunFolder, new_run
from workbench.learn.fidelity_report import fidelity
from workbench.learn.loss_moves import RAWS
from workbench.learn.results import HeldOutPsnr, ProxyFitResult
from workbench.rules.centres import centres_of

HELD_OUT_SETS = 0.06
HELD_OUT_BATCH = 64


def device_of(dataset: Dataset, identity: str | None) -> str:
    """The device whose captures to use: the one named, or the only one.

    Raises:
        RunError: the data set has no captures, several devices, or not the one named.
    """
    known = [d.identity for d in dataset.devices()]
    if identity is None and len(known) == 1:
        return known[0]
    if identity is not None and (now := dataset.known_as(identity)) in known:
        return now
    if not known:
        raise RunError("the data set holds no captures; run `workbench collect` first")
    asked = "several devices" if identity is None else f"no captures of {identity}"
    raise RunError(f"the data set holds {asked}; give --identity, one of: {', '.join(known)}")


def load_crops(dataset: Dataset, captures: list[CaptureRecord], space: ParameterSpace, size: int = 128) -> CropSet:
    """Crops of captures, decoded once and kept."""
    builder = CropBuilder(size=size)
    raws: dict[str, RawRecord] = {r.hash: r for r in dataset.raws()}
    by_raw: dict[str, list[CaptureRecord]] = {}
    for capture in captures:
        by_raw.setdefault(capture.raw_hash, []).append(capture)
    # RAW by RAW, so that each is decoded once.
    raw: RawFrame | None = None
    for capture in each("read captures", [capture for own in by_raw.values() for capture in own], "capture"):
        if raw is None or raw.hash != capture.raw_hash:
            raw = raws[capture.raw_hash].load()
        builder.add(raw, space.from_codes(capture.codes).unit, capture.rgb().pixels)
    return builder.build()


def hold_out(captures: list[CaptureRecord]) -> tuple[list[CaptureRecord], list[CaptureRecord]]:
    """Captures to train on, and those whose parameter set is held out, chosen by the set's hash (stable)."""
    bound = int(HELD_OUT_SETS * 0x10000)
    held = [c for c in captures if int(c.parameters_hash[:4], 16) < bound]
    return [c for c in captures if int(c.parameters_hash[:4], 16) >= bound], held


def fit_proxy(
    lab: Path,
    recipe: ProxyRecipe,
    *,
    device: Device | None = None,
    identity: str | None = None,
    name: str | None = None,
    around: RunFolder | None = None,
    loss_raws: int = RAWS,
    on_step: Callable[[ProxyStep], None] = lambda step: None,
) -> RunFolder:
    """Fit a proxy and write a finished ``fit-proxy`` run.

    Args:
        lab: the lab folder.
        recipe: steps, sizes, seed.
        device: where given, it is asked for the probes of the fidelity report (about 300 captures for 20 parameters,
            and those of ``loss_raws``).
        identity: the device's identity, where the data set holds several.
        name: the run's name.
        around: the ``tune`` run whose sets the moves of the loss start from; None: the device's defaults.
        loss_raws: RAWs of those moves, each about four captures a parameter; 0: none.
        on_step: progress.

    Raises:
        RunError: no captures to fit to.
        DatasetError: no data set, or a damaged one.
    """
    with Dataset.open(lab, create=False) as dataset:
        if device is not None:
            if identity is not None and not device.info().goes_by(identity):
                raise RunError(
                    f"{device.url} is {device.info().identity}, not {identity}; give its URL or its identity, not both"
                )
            identity = device.info().identity
        identity = device_of(dataset, ranks.agree(identity))
        space = dataset.space(identity)
        # Only what collection paid for: a proxy that also learned from the searches would have spent their budget too.
        captures = dataset.captures(device_identity=identity, purpose=PURPOSE, split=Split.TRAIN)
        if len(kinds := {c.media_type for c in captures}) > 1:
            say([f"the training captures of {identity} are {told_kinds(kinds)}: the proxy learns both as one device's"])
        train, held_sets = hold_out(captures)
        held_raws = dataset.captures(device_identity=identity, purpose=PURPOSE, split=Split.VALIDATION)[:400]
        if len(train) < 2:
            in_training = len(dataset.raws(Split.TRAIN))
            step = (
                "run `workbench collect --device URL --raws FOLDER` with more --captures"
                if in_training
                else "no RAW of the data set is in the training split: collect with RAWs of further scenes, or name "
                "splits in scenes.csv of a new lab's RAW folder"
            )
            raise RunError(f"{len(train)} training captures of {identity}: too few to fit a proxy to; {step}")
        config = {
            "recipe": recipe.to_dict(),
            "identity": identity,
            "captures": len(train),
            "collected": len(dataset.captures(device_identity=identity, purpose=PURPOSE)),
            "scenes": sorted({r.scene for r in dataset.raws(Split.TRAIN)}),
            "held_out_scenes": sorted({r.scene for r in dataset.raws(Split.VALIDATION)}),
            "around": around.name if around and device else None,
            "loss_raws": loss_raws if device else 0,
        }
        run: RunFolder | None = None
        if ranks.rank() == 0:
            run = new_run(lab, "fit-proxy", name)
            if ranks.world() > 1:
                config |= {"processes": ranks.world()}
            asked = device.info() if device else None
            run.update(config=config, seed=recipe.seed, dataset_digest=dataset.digest(), device=asked)
        curve: list[tuple[int, float]] = []

        def record(step: ProxyStep) -> None:
            if step.step % 20 == 0 or step.step == step.steps:
                curve.append((step.step, step.loss))
            on_step(step)

        network = fit(load_crops(dataset, train, space), recipe, on_step=record)
        if run is None:
            raise ranks.OtherDoneError
        weights = save_proxy(run.path, network, space, identity)
        measured = {
            label: _held_out_psnr(network, load_crops(dataset, held, space))
            for label, held in (("new_sets_known_raws", held_sets), ("new_sets_new_raws", held_raws))
            if held
        }
        results = ProxyFitResult(curve=tuple(curve), captures=len(train), weights_sha256=file_digest(weights))
        results = results.model_copy(update=measured)
        # The proxy is worth keeping even if the device fails during the probes.
        run.finish(results.to_json())
        if device is not None:
            with faults_kept(dataset, device, "fidelity") as faults:
                # A RAW that the device refuses fails with all its probes, which is no reason to stop.
                bench = Bench(dataset, device, purpose="fidelity", patience=4 * len(space) + 1)
                with Progress("fidelity", 0, unit="capture") as progress:
                    found = fidelity(
                        load_proxy(run.path),
                        dataset,
                        bench,
                        centres=centres_of(around) if around else None,
                        loss_raws=loss_raws,
                        on_capture=progress.update,
                    )
                found = found.model_copy(update={"faults": faults.counts()})
                run.update(results=results.model_copy(update={"fidelity": found}).to_json())
        return run


def _held_out_psnr(network: Network, crops: CropSet) -> HeldOutPsnr:
    found = []
    for start in each("held-out captures", range(0, len(crops), HELD_OUT_BATCH), "part"):
        some = crops.select(torch.arange(start, min(start + HELD_OUT_BATCH, len(crops))))
        found.append(psnr(imitate(network, some), some.output.float() / 255))
    values = torch.cat(found).numpy()
    return HeldOutPsnr(
        captures=len(values),
        psnr=float(values.mean()),
        psnr_median=float(np.median(values)),
        psnr_p5=float(np.percentile(values, 5)),
    )
