"""Weights of a network as one self-describing file: safetensors, never pickle, with its description in the header."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from drivers.atomic_files import write_bytes
from drivers.errors import ParameterError, WorkbenchError
from drivers.foreign_text import shown
from drivers.regular_files import size_of_regular

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Network = TypeVar("Network", bound=nn.Module)

FILE_NAME = "weights.safetensors"
LARGEST_FILE = 2 << 30
_LARGEST_HEADER = 16 << 20


class WeightsError(WorkbenchError):
    """A weights file that is missing, damaged or of another kind."""


def training_device() -> torch.device:
    """Where to train: the accelerator that torch finds, one of them; else the CPU."""
    import torch

    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def mixed_precision(device: torch.device, wanted: bool) -> AbstractContextManager[Any]:
    """A block in which torch computes in bfloat16 where that is safe.

    Raises:
        WeightsError: it is wanted, and the device is no GPU.
    """
    import torch

    if not wanted:
        return contextlib.nullcontext()
    if device.type != "cuda":
        raise WeightsError(f"mixed precision needs a GPU, torch trains on {device.type} here; leave it out")
    return torch.autocast(device.type, torch.bfloat16)


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
    from safetensors.torch import save

    path = Path(folder) / FILE_NAME
    header = {"kind": kind, "description": json.dumps(description)}
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        write_bytes(path, save(plain, metadata=header))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: cannot be written ({error}); make room there and run again") from error
    return path


def file_digest(path: Path) -> str:
    """SHA-256 of a file of weights, as its run records it.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {shown(error.strerror or error)}") from error


def load_weights(folder: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the description of ``folder/weights.safetensors``.

    Raises:
        WeightsError: missing, damaged, or weights of another kind.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / FILE_NAME
    try:
        _look_at_header(path)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = json.loads(header["description"])
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; a finished {kind} run has one") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {shown(error.strerror or error)}") from error
    except KeyError as error:
        raise WeightsError(f"{path}: not a weights file of the workbench (it has no description)") from error
    except RecursionError as error:
        raise WeightsError(f"{path}: not a weights file of the workbench (nested too deeply)") from error
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{path}: not a weights file of the workbench ({shown(error):.200})") from error
    if header.get("kind") != kind:
        raise WeightsError(f"{path}: holds a {shown(header.get('kind')):.100}, not a {kind}")
    return tensors, description


def _look_at_header(path: Path) -> None:
    """Regular, not too large, and its header no longer than a description needs: the library reads it whole."""
    size_of_regular(path, LARGEST_FILE)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise ValueError(f"its header says that it is {length:,} bytes long, at most {_LARGEST_HEADER:,} are read")


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """Networks built inside have shapes and no memory, and their weights are not initialised.

    To initialise what has no memory, torch would first import its compiler, which takes seconds.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    fills = (torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.fill_, torch.Tensor.zero_)

    class NotFilled(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in fills or getattr(func, "__module__", "") == "torch.nn.init":
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with torch.device("meta"), NotFilled():
        yield


def network_of(build: Callable[[], Network], tensors: dict[str, Tensor]) -> Network:
    """A network with the tensors in it, built only where they are what it needs.

    A description of some bytes can ask for more memory than there is. So the network is first built without memory, and
    its tensors' names, kinds and shapes are compared with those of the file.

    Raises:
        ValueError: they differ, or hold values that are no numbers; the text names the first.
    """
    import torch

    with without_memory():
        wanted = build().state_dict()
    if odd := sorted(set(wanted) ^ set(tensors)):
        where = "the description has" if odd[0] in wanted else "the file has"
        raise ValueError(f"only {where} a tensor {shown(odd[0]):.100}")
    for name, tensor in tensors.items():
        here, there = (tuple(tensor.shape), tensor.dtype), (tuple(wanted[name].shape), wanted[name].dtype)
        if here != there:
            raise ValueError(f"tensor {name} is {here[1]} {list(here[0])}, not {there[1]} {list(there[0])}")
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"tensor {name} holds values that are no finite numbers")
    network = build()
    network.load_state_dict(tensors)
    return network


@contextlib.contextmanager
def described(folder: Path, kind: str, command: str) -> Iterator[None]:
    """Reads a network from the description of its weights.

    Args:
        folder: of the run; ``kind``: what it holds; ``command``: makes it anew.

    Raises:
        WeightsError: what is read within does not fit.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ParameterError) as error:
        raise WeightsError(
            f"{folder}: the {kind}'s weights do not fit their description ({shown(error):.300}); "
            f"run `workbench {command}` again"
        ) from error


def whole_number(value: object, what: str, low: int, high: int) -> int:
    """A size of a network, checked.

    Raises:
        ValueError: no whole number from ``low`` to ``high``.
    """
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{what} must be a whole number from {low} to {high}, not {shown(value):.40}")
    return value
