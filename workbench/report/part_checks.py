"""Checks of what a validation's gain is made of: ranges of ISO against the RAWs, gain by block against the captures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from drivers.errors import WorkbenchError
from drivers.parameters import ParameterSet
from drivers.splits import Split
from workbench.console.progress import each
from workbench.judge.blocks import ByBlock, mixed_set
from workbench.lab.dataset import CaptureRecord, Dataset, RawRecord
from workbench.report.checks import PIXELS, TOLERANCE, Mark
from workbench.report.material import Material
from workbench.report.parts import BLOCKS, ISO
from workbench.tasks.registry import task_of


def check_parts(found: Material, dataset: Dataset | None) -> list[Mark]:
    """Marks of what does not hold; without a data set the gain by block is not verified."""
    marks = [] if _ranges_hold(found) else [Mark("The figures over ISO are not those of the RAWs.", (ISO,), True)]
    if dataset is not None:
        marks += [mark for part in found.results.by_block for mark in _check_blocks(found, part, dataset)]
    return marks


def _ranges_hold(found: Material) -> bool:
    """Whether the means over each range, and of gains in it, are those of its RAWs."""
    results = found.results
    for part in results.by_iso:
        places = [i for i, row in enumerate(results.per_raw) if part.holds(row.iso)]
        if len(places) != part.raws:
            return False
        for key, own in part.methods.items():
            if key not in found.chosen:
                continue
            for metric in (m for m in results.metrics if m.key in own.figures):
                values = results.values(key, metric.key)[places]
                said = [(own.figures[metric.key].estimate, values.mean())]
                if part.over is not None and (gain := own.gains.get(metric.key)):
                    over = results.values(part.over, metric.key)[places]
                    said.append((gain.estimate, metric.sign * (values - over).mean()))
                if any(a is None or not np.isclose(a, b, rtol=0, atol=1e-6) for a, b in said):
                    return False
    return True


def _check_blocks(found: Material, part: ByBlock, dataset: Dataset) -> list[Mark]:
    """Exchanged sets whose captures are not there, and what the strongest block gives alone, computed anew."""
    rows, space = found.results.per_raw, found.space
    what = f"Gain by block, {found.labels[part.lower]} to {found.labels[part.upper]}"
    sets = {key: [space.from_codes(row.methods[key].codes) for row in rows] for key in (part.lower, part.upper)}
    captures: dict[tuple[str, str], list[CaptureRecord | None]] = {}
    for block in part.blocks:
        for sort, own, other in (("alone", part.lower, part.upper), ("without", part.upper, part.lower)):
            mixed = [mixed_set(a, b, block.parameters) for a, b in zip(sets[own], sets[other], strict=True)]
            captures[block.block, sort] = _captures(found, mixed, dataset)
    there = [i for i in range(len(rows)) if all(own[i] is not None for own in captures.values())]
    if len(there) < part.raws:
        text = f"{what}: captures of {part.raws - len(there)} of {part.raws} RAWs are not in the data set."
        return [Mark(text, (BLOCKS,), True)]
    metric = found.metric
    strongest = max(part.blocks, key=lambda b: abs(b.alone[metric.key].estimate or 0.0))
    if len(there) == part.raws and not _is_its_captures(found, part, strongest.block, captures, there, dataset):
        text = f"{what}: the {metric.label} of {strongest.block}, computed anew, is not that of the device's outputs."
        return [Mark(text, (BLOCKS,), True)]
    return []


def _captures(found: Material, sets: Sequence[ParameterSet], dataset: Dataset) -> list[CaptureRecord | None]:
    keys = [(row.hash, p.hash) for row, p in zip(found.results.per_raw, sets, strict=True)]
    known = dataset.find(found.results.device.identity, keys)
    return [known.get(key) for key in keys]


def _is_its_captures(
    found: Material,
    part: ByBlock,
    name: str,
    captures: dict[tuple[str, str], list[CaptureRecord | None]],
    there: Sequence[int],
    dataset: Dataset,
) -> bool:
    """Whether a block's gain alone is that of the captures; where what judges is gone or would take long, it is."""
    metric, results = found.metric, found.results
    raws: dict[str, RawRecord] = {raw.hash: raw for raw in dataset.raws(Split.TEST)}
    own = [(raws.get(results.per_raw[i].hash), captures[name, "alone"][i]) for i in there]
    # A RAW that is no test RAW is told of already, and refuses everything.
    if any(raw is None for raw, _ in own) or sum(raw.width * raw.height for raw, _ in own if raw) > PIXELS:
        return True
    try:
        task = task_of(found.validation)
        task.raws(dataset, Split.TEST)
        values = [
            task.judge(raw, c.rgb().pixels).figures[metric.key]
            for raw, c in each("check the blocks", own)
            if raw is not None and c
        ]
    except WorkbenchError:
        return True
    block = next(b for b in part.blocks if b.block == name)
    gain = metric.sign * (np.array(values) - results.values(part.lower)[list(there)]).mean()
    return bool(abs(gain - (block.alone[metric.key].estimate or 0.0)) < TOLERANCE)
