"""An exported predictor, beside the device: needs ONNX Runtime and numpy, and nothing else.

The folder that ``workbench export`` writes holds this module and those that it stands on::

    from workbench.board.runtime import BoardPredictor

    predictor = BoardPredictor(".")
    values = predictor.predict(mosaic, metadata)     # native values by name

or ``python -m workbench.board.runtime RAW.npz`` in that folder.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile

from drivers.errors import WorkbenchError
from drivers.frames import RawFrame, make_sure_known
from drivers.parameter import Native, Parameter, When
from drivers.parameters import ParameterSet, ParameterSpace
from drivers.vectors import Vector
from predictor.moves import MIRRORS, STEP, moved
from predictor.raw_features import told_of
from predictor.view import seen
from workbench.rules.tuned import rule_from

NETWORK, DESCRIPTION = "predictor.onnx", "predictor.json"
FORMAT = 1
PLANES, TOLD = "planes", "told"
"""The network's inputs."""
_OF_NO_MATTER = ("orientation", "earlier")
"""What a RAW's file may have and no parameter depends on."""


class BoardError(WorkbenchError):
    """A folder that holds no exported predictor, or a RAW that it is not for."""


class BoardPredictor:
    """The predictor of an exported folder.

    Attributes:
        space: the device's parameters; ``device``: the identity of the device that it was trained for.
        width, height: of the mosaics that it takes, in pixels.
        left_out: parameters that it does not set, by name, with what sets them.
        metadata: whether ISO, exposure and white balance are inputs of the network.
        on_top: whether it predicts differences to what a rule gives.
        sees: width and height of the planes that the network sees; ``gflop``: what a prediction costs, 10⁹ operations.
        weights: SHA-256 of the weights' file that it was made of; empty in folders of earlier versions.
    """

    def __init__(self, folder: Path | str) -> None:
        """Open a folder.

        Raises:
            BoardError: it holds no exported predictor, or one of another version.
        """
        import onnxruntime

        folder = Path(folder)
        try:
            told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            if told["format"] != FORMAT:
                raise BoardError(f"{folder / DESCRIPTION}: format {told['format']}; this runtime reads format {FORMAT}")
            self.space = _space(told["space"])
            self.device = str(told["device"])
            self.width, self.height = int(told["width"]), int(told["height"])
            self.left_out: dict[str, str] = {str(k): str(v) for k, v in told["left_out"].items()}
            self._held = {str(k): int(v) for k, v in told["held"].items()}
            self._factor, self._windows = int(told["averaged"]), bool(told.get("windows"))
            self._mirrors = MIRRORS if told["mirrored"] else MIRRORS[:1]
            self.metadata, self._statistics = bool(told["metadata"]), bool(told["statistics"])
            self.sees, self.gflop = tuple(map(int, told.get("sees", (0, 0)))), float(told.get("gflop", 0))
            self.weights = str(told.get("weights", ""))
            rule = told["rule"]
            self.on_top = rule is not None
            self._rule = rule and rule_from(rule["kind"], rule["of"], folder / DESCRIPTION, self.space)
            self._follow = np.array([float(told["follow"].get(p.block, 1.0)) for p in self.space.parameters])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BoardError(
                f"{folder}: holds no exported predictor ({error!s:.200}); run `workbench export` again"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Threads that wait sleep: they would take the processor from whoever else works on the board.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            network = (folder / NETWORK).read_bytes()
            if told.get("network", found := hashlib.sha256(network).hexdigest()) != found:
                raise ValueError("it is not what was written")
            # Its layout for float32 costs an 8-bit network, of which little is float32, more than it gains.
            disabled = ["NchwcTransformer"] if told.get("int8") else []
            self._session = onnxruntime.InferenceSession(
                network, options, providers=["CPUExecutionProvider"], disabled_optimizers=disabled
            )
        except Exception as error:  # the runtime has no base class for what it cannot read
            raise BoardError(
                f"{folder / NETWORK}: cannot be read ({error!s:.200}); run `workbench export` again"
            ) from error

    def predict(self, mosaic: np.ndarray, metadata: dict[str, Any]) -> dict[str, Native]:
        """The parameters for a RAW, in native values by name, without those of :attr:`left_out`.

        Args:
            mosaic: ``uint16 [height, width]``, in DN.
            metadata: ``cfa``, ``black_level`` (four), ``white_level``; ``iso``, ``exposure_s``, ``as_shot_wb`` (red,
                green, blue) where they are known.

        Raises:
            BoardError: the mosaic is of another size than the predictor was exported for.
            FrameError: the mosaic or its metadata is not as it must be, or has a key that is unknown.
        """
        make_sure_known(metadata, _OF_NO_MATTER)
        # A view: a frame is read-only, and the camera's buffer shall not be.
        own = mosaic.view() if isinstance(mosaic, np.ndarray) else mosaic
        chosen = self.parameters(RawFrame.from_metadata(own, metadata))
        return {name: value for name, value in chosen.values.items() if name not in self.left_out}

    def parameters(self, raw: RawFrame, start: ParameterSet | None = None) -> ParameterSet:
        """The whole set for a RAW, quantised as the device would; see :meth:`predict`.

        ``start``: what the rule below it gives the RAW, where that is known.
        """
        if (raw.width, raw.height) != (self.width, self.height):
            raise BoardError(
                f"the RAW has {raw.width}×{raw.height} pixels, the predictor was exported for "
                f"{self.width}×{self.height}; run `workbench export --size {raw.width}x{raw.height}`"
            )
        logits = self._logits(raw)
        if self._rule is None:
            return self.space.from_unit(1 / (1 + np.exp(-logits)))
        if start is None:
            start = self._rule.parameters_for(raw).with_codes(self._held)
        return moved(start, self._follow * (STEP * logits))

    def _logits(self, raw: RawFrame) -> np.ndarray:
        logits: np.ndarray = self._session.run(None, self.inputs(raw))[0].mean(0)
        return logits.astype(np.float64)

    def inputs(self, raw: RawFrame) -> dict[str, np.ndarray]:
        """What the network is given of a RAW: ``planes`` of each of its mirror images, and what is ``told`` of it."""
        whole = raw.planes()
        planes = seen(whole, self._factor, windows=self._windows)[None]
        mirrored = [np.flip(planes, tuple(axes)) for axes in self._mirrors]
        given = {PLANES: np.concatenate(mirrored) if len(mirrored) > 1 else planes}
        told = told_of(raw, metadata=self.metadata, statistics=self._statistics, planes=whole)
        if len(told):
            given[TOLD] = np.tile(told[None], (len(self._mirrors), 1))
        return given


def _space(data: dict[str, Any]) -> ParameterSpace:
    """The parameter space as the workbench wrote it; where in registers a value lies is the driver's business."""
    own = [{key: value for key, value in p.items() if key != "register"} for p in data["parameters"]]
    for p in own:
        if p.get("when") is not None:
            p["when"] = When(**p["when"])
    vectors = tuple(Vector(**v) for v in data.get("vectors", ()))
    return ParameterSpace(
        str(data["name"]), tuple(Parameter(**p) for p in own), tuple(data.get("constraints", ())), vectors
    )


def _read(path: str) -> tuple[np.ndarray, dict[str, Any]]:
    """Mosaic and metadata of an ``.npz`` file."""
    try:
        with Path(path).open("rb") as stream, NpzFile(stream) as file:
            return file["mosaic"], {key: file[key].tolist() for key in file.files if key != "mosaic"}
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, RuntimeError) as error:
        raise BoardError(f"{path}: damaged or not an .npz of a RAW frame ({error!s:.100}); save it again") from error


def main(arguments: list[str]) -> int:
    """``python -m workbench.board.runtime RAW.npz``: print the parameters as JSON."""
    if len(arguments) != 1:
        print("usage: python -m workbench.board.runtime RAW.npz", file=sys.stderr)
        return 2
    folder = Path(__file__).resolve().parents[2]
    try:
        print(json.dumps(BoardPredictor(folder).predict(*_read(arguments[0]))))
    except (WorkbenchError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
