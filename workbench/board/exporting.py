"""``workbench export``: a trained predictor as a folder for the machine beside the device."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from drivers.atomic_files import write_bytes, write_text
from drivers.frames import MAX_SIDE, RawFrame
from drivers.splits import Split
from drivers.weights import FILE_NAME
from workbench.board.graph import graph_of
from workbench.board.quantising import quantise
from workbench.board.runtime import DESCRIPTION, FORMAT, NETWORK, BoardPredictor
from workbench.console.progress import each
from workbench.errors import RunError
from workbench.lab.dataset import Dataset, RawRecord
from workbench.lab.runs import RunFolder, find_run, plain
from workbench.lab.stratified import stratified
from workbench.learn.predictors import RunPredictor, open_predictor
from workbench.rules.tuned import TunedRule, UnderSettings

MODULES = (
    *(
        "drivers",
        "drivers.all_cores",
        "drivers.cfa",
        "drivers.errors",
        "drivers.foreign_text",
        "drivers.frames",
        "drivers.jpeg_damage",
    ),
    *("drivers.orientation", "drivers.parameter", "drivers.parameters", "drivers.pictures", "drivers.regular_files"),
    *("drivers.relations", "drivers.validation_text", "drivers.vectors"),
    *("predictor", "predictor.metadata", "predictor.moves", "predictor.raw_features", "predictor.view"),
    *("workbench.board", "workbench.board.runtime", "workbench.errors", "workbench.rules", "workbench.rules.balance"),
    *("workbench.rules.industry", "workbench.rules.regression", "workbench.rules.tuned"),
)
"""What the runtime stands on; of :mod:`workbench` itself the folder gets an empty one."""
CALIBRATED = 64
"""RAWs that the ranges of 8-bit features are taken from."""
CHECKED = 8
"""RAWs on which the folder is compared with what it was made from."""
_DEADLINE_S = 120.0
_PACKAGE = '"""What of the workbench runs beside a device."""\n'
_README = """# {run}: predicts the parameters of {device} for RAWs of {width}×{height} pixels

Needs Python 3.11, and `pip install -r requirements.txt` (ONNX Runtime and numpy). In this folder:

    python -m workbench.board.runtime RAW.npz

or, with this folder on the module path, `BoardPredictor(FOLDER).predict(mosaic, metadata)` of
`workbench.board.runtime`: `mosaic` is uint16 [height, width] in DN, `metadata` has cfa, black_level (four), white_level
and, where they are known, iso, exposure_s and as_shot_wb (red, green, blue).
{left_out}"""


@dataclass(frozen=True)
class Exported:
    """An exported folder.

    Attributes:
        folder: where it is; ``run``: the ``train`` run; ``device``: identity of the device that it is for.
        width, height: of the RAWs that it takes.
        size: bytes of all its files.
        left_out: parameters that it does not set, by name, with what sets them.
        checked: RAWs on which it was run and compared; ``parameters``: codes compared; ``other``: of them, those that
            are not what the workbench predicts (rounding, at the border between two codes); ``furthest``: by how many
            codes at most.
    """

    folder: Path
    run: str
    device: str
    width: int
    height: int
    size: int
    left_out: dict[str, str]
    checked: int
    parameters: int
    other: int
    furthest: int


def export(
    lab: Path,
    folder: Path | None = None,
    *,
    predictor: str | None = None,
    size: tuple[int, int] | None = None,
    int8: bool = False,
    onnx: bool = False,
) -> Exported:
    """Write a predictor into a new folder, run it there without torch, and compare.

    Args:
        lab: the lab folder.
        folder: to write; it must not be there, or be empty. By default named as the run and what is written.
        predictor: name of the ``train`` run; by default the newest.
        size: width and height of the RAWs that it is for; by default those of the lab's RAWs.
        int8: whether the network computes in 8 bits, with ranges of the lab's training RAWs of that size.
        onnx: the network and its description alone, which :class:`BoardPredictor` opens where the workbench is.

    Raises:
        RunError: no such run, a folder that is there, RAWs of several sizes, or a network that cannot be exported.
        BoardError: what was written does not run here.
    """
    run = find_run(lab, "train", predictor)
    loaded = open_predictor(run)
    folder = Path(folder or f"{run.name}-{'onnx' if onnx else 'board'}{'-int8' if int8 else ''}").resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder}: is there already; give a new folder")
    with Dataset.open(lab, create=False) as dataset:
        known = dataset.raws()
        sizes = Counter((raw.width, raw.height) for raw in known)
        if size is None and len(sizes) != 1:
            told = ", ".join(f"{w}x{h} ({n})" for (w, h), n in sizes.most_common(4))
            raise RunError(f"the lab has RAWs of {told or 'no size'}; say with --size WIDTHxHEIGHT which it is for")
        width, height = size or next(iter(sizes))
        if min(width, height) < 2 or max(width, height) > MAX_SIDE or width % 2 or height % 2:
            raise RunError(f"--size {width}x{height}: both must be even and within 2..{MAX_SIDE}")
        typical = _typical(known, width, height)
        if int8 and not typical:
            raise RunError(f"the lab has no RAW of {width}x{height} to take the ranges of 8-bit features from")
        checked = stratified(typical, min(CHECKED, len(typical)), 0) if typical else []
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        made = Path(scratch) / "made"
        left_out = write_network(made, run, loaded, width, height)
        if not onnx:
            _add_runtime(made, run, loaded, (width, height), left_out)
        if int8:
            board = BoardPredictor(made)
            chosen = stratified(typical, min(CALIBRATED, len(typical)), 1)
            quantise(made / NETWORK, (board.inputs(raw.load()) for raw in each("ranges of 8-bit features", chosen)))
            description = json.loads((made / DESCRIPTION).read_text(encoding="utf-8"))
            _describe(made, {**description, "int8": True})
        other, furthest = _compare(made, loaded, checked)
        if checked and not onnx:
            _run_alone(made, checked[0].load())
        total = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
        try:
            made.replace(folder)  # an empty folder gives way
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise RunError(f"{folder}: another program wrote it meanwhile; give a new folder") from None
    return Exported(
        folder,
        run.name,
        loaded.device_identity,
        width,
        height,
        total,
        left_out,
        len(checked),
        len(checked) * len(loaded.space),
        other,
        furthest,
    )


def _typical(raws: Sequence[RawRecord], width: int, height: int) -> list[RawRecord]:
    """RAWs of that size, of the training split where it has any."""
    fitting = [raw for raw in raws if (raw.width, raw.height) == (width, height)]
    return [raw for raw in fitting if raw.split is Split.TRAIN] or fitting


def write_network(folder: Path, run: RunFolder, predictor: RunPredictor, width: int, height: int) -> dict[str, str]:
    """Make a folder with the graph of a run's network and its description; what :class:`BoardPredictor` reads.

    Args:
        folder: to make; ``run``: the ``train`` run, ``predictor``: as it was loaded.
        width, height: of the RAWs that it is for, even.

    Returns:
        Parameters that the rule below it leaves out, with what sets them.

    Raises:
        RunError: a network that cannot be exported.
    """
    network = predictor.network
    config = network.network.config
    rows, columns = height // 2, width // 2
    seen_rows, seen_columns = network.view.size(rows, columns)
    rule, left_out, held = _bare(predictor)
    description = {
        "format": FORMAT,
        "run": run.name,
        "weights": hashlib.sha256((run.path / FILE_NAME).read_bytes()).hexdigest(),
        "device": predictor.device_identity,
        "space": predictor.space.to_dict(),
        "width": width,
        "height": height,
        "sees": [seen_columns, seen_rows],
        "gflop": network.gflop(seen_rows, seen_columns),
        "averaged": network.view.factor(rows, columns),
        "windows": bool(config.windows),
        "mirrored": network.mirrored,
        "metadata": bool(config.metadata),
        "statistics": bool(config.statistics),
        "rule": {"kind": predictor.base.kind, "of": rule.to_dict()} if predictor.base and rule else None,
        "follow": dict(predictor.follow),
        "left_out": left_out,
        "held": held,
    }
    folder.mkdir()
    write_bytes(folder / NETWORK, graph_of(network.network, seen_rows, seen_columns))
    _describe(folder, description)
    return left_out


def _describe(folder: Path, description: dict[str, Any]) -> None:
    """Write the description with the hash of the graph, so that a damaged one is noticed."""
    told = {**description, "network": hashlib.sha256((folder / NETWORK).read_bytes()).hexdigest()}
    write_text(folder / DESCRIPTION, json.dumps(plain(told), indent=1, allow_nan=False) + "\n")


def _add_runtime(
    folder: Path, run: RunFolder, predictor: RunPredictor, size: tuple[int, int], left_out: dict[str, str]
) -> None:
    """What runs the network there, and what it needs; of RAWs of that width and height."""
    for name in MODULES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        is_package = spec.submodule_search_locations is not None
        target = folder.joinpath(*name.split("."), *(["__init__"] if is_package else ())).with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, Path(spec.origin).read_bytes())  # whose errors name what could not be written
    write_text(folder / "workbench" / "__init__.py", _PACKAGE)
    versions = {name: importlib.import_module(name).__version__ for name in ("numpy", "onnxruntime")}
    write_text(folder / "requirements.txt", "".join(f"{n}=={v}\n" for n, v in versions.items()))
    told = "".join(f"- {name}: {who}\n" for name, who in left_out.items())
    why = "\nNot set here, for they went by rule in the training; your camera's loops set them:\n\n"
    text = why + told if told else ""
    width, height = size
    write_text(
        folder / "README.md",
        _README.format(run=run.name, device=predictor.device_identity, width=width, height=height, left_out=text),
    )


def _bare(predictor: RunPredictor) -> tuple[TunedRule | None, dict[str, str], dict[str, int]]:
    """The rule without the settings that it is under, which parameters those set by rule, and the codes they hold."""
    base = predictor.base
    if base is None or not isinstance(base.of, UnderSettings):
        return None if base is None else base.of, {}, {}
    held = {name: predictor.space[name].to_code(value) for name, value in base.of.held.items()}
    return base.of.rule, base.of.by_rule, held


def _compare(folder: Path, predictor: RunPredictor, raws: Sequence[RawRecord]) -> tuple[int, int]:
    """Codes of those RAWs that the folder gives otherwise, and by how many codes at most."""
    board = BoardPredictor(folder)
    other = furthest = 0
    # One by one: large frames would not fit into memory together.
    for raw in each("compare with the workbench", raws):
        frame = raw.load()
        (wanted,) = predictor.predict([frame])
        codes = board.parameters(frame).by_name
        for name, code in wanted.by_name.items():
            if name not in board.left_out and codes[name] != code:
                other, furthest = other + 1, max(furthest, abs(codes[name] - code))
    return other, furthest


def _run_alone(folder: Path, frame: RawFrame) -> None:
    """See that the folder's own files do it, in a process that sees no other."""
    raw = folder / "check.npz"
    known = {key: value for key, value in frame.metadata.items() if value is not None}
    np.savez(raw, mosaic=frame.mosaic, **known)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "workbench.board.runtime", raw.name],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder.resolve()), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            encoding="utf-8",
            timeout=_DEADLINE_S,
        )
    except subprocess.TimeoutExpired:
        raise RunError(
            f"the exported folder has not given the parameters of one RAW after {_DEADLINE_S:.0f} s: the machine is "
            "too busy; run the same command again"
        ) from None
    raw.unlink()
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"the exported folder does not run by itself: {last:.200}")
