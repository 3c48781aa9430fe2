"""What ``workbench predict`` does: the parameters that a predictor chooses for one RAW."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.raw.raw_files import load_raw
from drivers.raw.raw_notes import RawNote
from workbench.lab.runs import RunFolder, find_run
from workbench.learn.held import REMARK, held_by
from workbench.learn.predictors import RunPredictor, open_predictor


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of one RAW.

    Attributes:
        file: of the RAW; ``raw``: the frame; ``notes``: what of the file was mended or taken otherwise than it says.
        run: the ``train`` run; ``predictor``: the network.
        parameters: predicted, quantised as the device would.
        held: names of parameters that training held at their start values.
        width, height: of the planes that the network saw.
        gflop: cost of the prediction, 10⁹ operations.
        rule: what the rule gives that it is on top of; None where it is on top of none.
    """

    file: Path
    raw: RawFrame
    notes: tuple[RawNote, ...]
    run: RunFolder
    predictor: RunPredictor
    parameters: ParameterSet
    held: tuple[str, ...]
    width: int
    height: int
    gflop: float
    rule: ParameterSet | None

    def to_toml(self) -> str:
        """The parameters as TOML for people, with a remark on each that is held."""
        base = self.predictor.base
        on_top = f" on top of {base.kind} ({base.run})" if base else ""
        title = f"Predicted for {self.file.name} by {self.run.name}{on_top}"
        return self.parameters.space.to_toml(self.parameters, title, dict.fromkeys(self.held, REMARK))


def predict(
    lab: Path,
    file: Path,
    *,
    predictor: str | None = None,
    on_notes: Callable[[Sequence[RawNote]], None] = lambda notes: None,
) -> Prediction:
    """Predict the parameters of one RAW file.

    Args:
        lab: the lab folder, with its runs.
        file: of any kind that :func:`drivers.raw.raw_files.load_raw` reads.
        predictor: name of the ``train`` run; by default the newest.
        on_notes: called with the notes as soon as the file is read, whatever fails after that.

    Raises:
        FrameError: the file cannot be read as a RAW.
        RunError: no such run.
        WeightsError, RunError: the run's weights, or the rule below them, are missing or damaged.
    """
    notes: list[RawNote] = []
    raw = load_raw(file, notes)
    on_notes(notes)
    run = find_run(lab, "train", predictor)
    loaded = open_predictor(run)
    parameters = loaded.predict([raw])[0]
    height, width = loaded.network.view.size(raw.height // 2, raw.width // 2)
    return Prediction(
        file,
        raw,
        tuple(notes),
        run,
        loaded,
        parameters,
        tuple(held_by(run)),
        width,
        height,
        loaded.network.gflop(height, width),
        None if loaded.base is None else loaded.start(raw),
    )
