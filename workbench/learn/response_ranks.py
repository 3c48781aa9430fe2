"""Whether the response of a refinement tells which way the task's figures go: the measure that counts for following it.

From the set of what is refined one parameter is moved at a time, within what was captured around it, both ways, on
validation RAWs; what the response promises of each move is ranked against what the device's figures gain.
"""

from __future__ import annotations

import numpy as np
import torch

from drivers.parameters import ParameterSet
from predictor.response import Response
from workbench.lab.dataset import RawRecord
from workbench.lab.stratified import stratified
from workbench.learn.loss_moves import moves_from, rank, size
from workbench.learn.refining import Refining
from workbench.learn.results import ResponseRank, ResponseRanks

WHAT = "moving each parameter alone"
"""What the progress calls it."""
_SHARES = (-1.0, -0.5, 0.5, 1.0)
"""Moves as shares of the spread: beyond it nothing was captured, and nothing is promised."""


def response_ranks(refining: Refining, response: Response) -> ResponseRanks:
    """How a response ranks the moves of each free parameter.

    Args:
        refining: that found the response; its settings say on how many RAWs, its bench makes the captures.
        response: of its best round.

    Raises:
        DeviceError: the device failed; captures made are kept.
    """
    known, settings, space = refining.validation, refining.settings, refining.bench.info.space
    places = {raw.hash: i for i, raw in enumerate(known.raws)}
    chosen = [places[raw.hash] for raw in stratified(known.raws, settings.rank_raws, settings.seed)]
    steps = [share * settings.spread for share in _SHARES]
    moved = [
        (place, name, one)
        for place in chosen
        for name, one in moves_from(space, known.starts[place], steps)
        if name not in refining.held
    ]
    before = refining.captures
    jobs: list[tuple[RawRecord, ParameterSet]] = [(known.raws[place], known.starts[place]) for place in chosen]
    jobs += [(known.raws[place], one) for place, _, one in moved]
    figures = refining.figures(jobs, WHAT, apart=True)
    at_start = dict(zip(chosen, figures, strict=False))
    rows = [
        (place, name, one, after - base)
        for (place, name, one), after in zip(moved, figures[len(chosen) :], strict=True)
        if after is not None and (base := at_start[place]) is not None
    ]
    promised = _promised(refining, response, [(place, one) for place, _, one, _ in rows])
    found = []
    for parameter in space.parameters:
        own = [i for i, (_, name, _, _) in enumerate(rows) if name == parameter.name]
        if own:
            gains = np.array([rows[i][3] for i in own])
            changes = {m.key: size(gains[:, k]) for k, m in enumerate(refining.metrics)}
            found.append(
                ResponseRank(
                    parameter=parameter.name,
                    block=parameter.block,
                    moves=len(own),
                    changes=changes,
                    rank=rank(refining.as_one(gains), promised[own]),
                )
            )
    return ResponseRanks(
        raws=len(chosen),
        captures=refining.captures - before,
        largest=settings.spread,
        parameters=tuple(found),
    )


def _promised(refining: Refining, response: Response, moved: list[tuple[int, ParameterSet]]) -> np.ndarray:
    if not moved:
        return np.zeros(0)
    known = refining.validation
    places = [place for place, _ in moved]
    units = torch.as_tensor(np.array([one.unit for _, one in moved]), dtype=torch.float32)
    codes = response.code(known.features)[places]
    promised: np.ndarray = response(codes, known.units[places], units).detach().double().numpy()
    return promised
