"""What ``workbench predict`` does: the parameters that a predictor chooses for one RAW.

To load torch and a network takes longer than all the rest. So the first prediction for RAWs of a size leaves the
network beside the run as an ONNX graph, as ``workbench export`` writes it, and the later ones run that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.raw.raw_files import load_raw
from drivers.raw.raw_notes import RawNote
from workbench.board.kept_graph import kept_graph
from workbench.errors import RunError
from workbench.lab.runs import RunFolder, find_run
from workbench.learn.attention_maps import draw_attention, most_concentrated
from workbench.learn.base_rule import BaseRule, kept_base
from workbench.learn.held import held_by, remark
from workbench.learn.predictors import open_predictor


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of one RAW.

    Attributes:
        file: of the RAW; ``raw``: the frame; ``notes``: what of the file was mended or taken otherwise than it says.
        run: the ``train`` run; ``metadata``: whether ISO, exposure and white balance are inputs of its network.
        parameters: predicted, quantised as the device would.
        held: names of parameters that training held at their start values.
        width, height: of the planes that the network saw.
        gflop: cost of the prediction, 10⁹ operations.
        base: the rule that it is on top of, None where there is none; ``rule``: what that gives the RAW.
        follow: how far it is followed, a factor by block.
    """

    file: Path
    raw: RawFrame
    notes: tuple[RawNote, ...]
    run: RunFolder
    metadata: bool
    parameters: ParameterSet
    held: tuple[str, ...]
    width: int
    height: int
    gflop: float
    base: BaseRule | None
    follow: Mapping[str, float]
    rule: ParameterSet | None

    def to_toml(self) -> str:
        """The parameters as TOML for people, with a remark on each that is held."""
        on_top = f" on top of {self.base.kind} ({self.base.run})" if self.base else ""
        title = f"Predicted for {self.file.name} by {self.run.name}{on_top}"
        space = self.parameters.space
        return space.to_toml(self.parameters, title, {name: remark(space, name) for name in self.held})


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
    base, follow = kept_base(run) or (None, {})
    rule = None if base is None else base.of.parameters_for(raw)
    graph = kept_graph(run, raw.width, raw.height, base)
    if graph is not None:
        parameters, metadata = graph.parameters(raw, rule), graph.metadata
        (width, height), gflop = graph.sees, graph.gflop
    else:
        loaded = open_predictor(run)
        parameters, metadata = loaded.predict([raw])[0], loaded.metadata
        height, width = loaded.network.view.size(raw.height // 2, raw.width // 2)
        gflop = loaded.network.gflop(height, width)
    return Prediction(
        file,
        raw,
        tuple(notes),
        run,
        metadata,
        parameters,
        tuple(held_by(run)),
        width,
        height,
        gflop,
        base,
        follow,
        rule,
    )


def draw_prediction(found: Prediction, folder: Path, show: Collection[str] = ()) -> Path:
    """Draw the attention of a prediction into a folder, which is made if need be; gives the PNG's path.

    Args:
        found: the prediction.
        folder: where ``NAME.attention.png`` goes.
        show: the parameters to draw; by default the most concentrated ones.

    Raises:
        RunError: a parameter of ``show`` is unknown or held, or every parameter is held.
    """
    names, held = found.parameters.space.names, found.held
    check_names(found, show)
    if still := [n for n in show if n in held]:
        raise RunError(f"--show {still[0]}: has no attention map: it is {remark(found.parameters.space, still[0])}")
    maps = open_predictor(found.run).attention(found.raw)
    chosen = list(show) or most_concentrated(maps, names, held=held)
    if not chosen:
        raise RunError(
            f"{found.run.name}: every parameter is held at its start value, so there is no attention to draw"
        )
    picture = folder / f"{found.file.stem}.attention.png"
    folder.mkdir(parents=True, exist_ok=True)
    draw_attention(found.raw, maps, names, chosen, picture, f"{found.file.name}, {found.run.name}")
    return picture


def check_names(found: Prediction, show: Collection[str]) -> None:
    """See that parameters are the device's.

    Raises:
        RunError: one is not.
    """
    space = found.parameters.space
    if unknown := [n for n in show if n not in space.names]:
        raise RunError(f"unknown parameter {unknown[0]!r} for {space.name}; it has {', '.join(space.names)}")
