"""Weights of a network as one self-describing file: safetensors, never pickle, with its description in the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivers.errors import WorkbenchError

if TYPE_CHECKING:
    from torch import Tensor

FILE_NAME = "weights.safetensors"


class WeightsError(WorkbenchError):
    """A weights file that is missing, damaged or of another kind."""


def save_weights(folder: Path, kind: str, tensors: dict[str, Tensor], description: dict[str, Any]) -> Path:
    """Write ``folder/weights.safetensors`` at once or not at all.

    Args:
        folder: an existing folder.
        kind: what the weights are (``proxy``, ``predictor``).
        tensors: the state dictionary.
        description: everything needed to build the network again, as plain data.

    Raises:
        WeightsError: the disk refused the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(folder) / FILE_NAME
    partial = path.with_suffix(".partial")
    header = {"kind": kind, "description": json.dumps(description)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(plain, partial, metadata=header)
        partial.replace(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: cannot be written ({error}); make room there and run again") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def load_weights(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description of ``folder/weights.safetensors``.

    Raises:
        WeightsError: missing, damaged, or weights of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / FILE_NAME
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; a finished {kind} run has one")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = json.loads(header["description"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{path}: not a weights file of the workbench ({error})") from error
    if header.get("kind") != kind:
        raise WeightsError(f"{path}: holds a {header.get('kind')}, not a {kind}")
    return tensors, description
