"""The network of a ``train`` run as an ONNX graph for RAWs of one size, kept beside the run: ``graphs/4096x3072/``."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from pathlib import Path

from drivers.weights import FILE_NAME
from workbench.board.runtime import BoardError, BoardPredictor
from workbench.errors import RunError
from workbench.lab.runs import RunFolder
from workbench.learn.base_rule import BaseRule

FOLDER = "graphs"


def kept_graph(run: RunFolder, width: int, height: int, base: BaseRule | None) -> BoardPredictor | None:
    """The graph of a run; made where there is none of these weights yet.

    Args:
        run: the ``train`` run.
        width, height: of the RAWs that it is for.
        base: the rule that the run is on top of.

    Returns:
        None where there can be none: no ONNX Runtime, no room to write, or a kind of network that is not exported.

    Raises:
        WeightsError, RunError: the run's weights are missing or damaged, or are not of the rule below them.
    """
    folder = run.path / FOLDER / f"{width}x{height}"
    try:
        if (graph := _known(folder, run, base)) is None:
            _make(folder, run, width, height)
            graph = _known(folder, run, base)
    except (ImportError, BoardError, OSError, RunError):
        return None  # where the run itself is at fault its own network says so
    return graph


def _known(folder: Path, run: RunFolder, base: BaseRule | None) -> BoardPredictor | None:
    with contextlib.suppress(BoardError):
        graph = BoardPredictor(folder)
        weights = hashlib.sha256((run.path / FILE_NAME).read_bytes()).hexdigest()
        of_base = base is None or base.of.space.names == graph.space.names
        if graph.weights == weights and graph.on_top is (base is not None) and of_base:
            return graph
    return None


def _make(folder: Path, run: RunFolder, width: int, height: int) -> None:
    from workbench.board.exporting import write_network
    from workbench.learn.predictors import open_predictor

    loaded = open_predictor(run)
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        write_network(made, run, loaded, width, height)
        shutil.rmtree(folder, ignore_errors=True)
        made.replace(folder)
