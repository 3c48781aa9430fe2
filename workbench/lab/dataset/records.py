"""What the data set gives back and takes: RAWs, captures, failures, uses of devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from drivers.errors import FrameError
from drivers.frames import RawFrame, RgbFrame
from drivers.raw.npz_files import read_npz
from drivers.splits import Split
from workbench.errors import DatasetError
from workbench.lab.dataset.blobs import BlobStore

SUFFIXES = {"image/jpeg": "jpg", "image/png": "png"}
MEDIA_TYPES: dict[str, Literal["image/jpeg", "image/png"]] = {"jpg": "image/jpeg", "png": "image/png"}


@dataclass(frozen=True)
class RawRecord:
    """A RAW of the data set.

    Attributes:
        hash: the frame's content hash; ``name``: its file name; ``scene`` and ``split``: which scene it shows.
        width, height: pixels of the mosaic.
        iso, exposure_s, as_shot_wb, orientation: as in :class:`~drivers.frames.RawFrame`.
        has_reference: whether :meth:`reference` gives an image.
    """

    hash: str
    name: str
    scene: str
    split: Split
    width: int
    height: int
    iso: float | None
    exposure_s: float | None
    as_shot_wb: tuple[float, float, float] | None
    has_reference: bool
    _blob: str = field(repr=False)
    _reference: str | None = field(repr=False)
    _blobs: BlobStore = field(repr=False, compare=False)
    orientation: int = field(default=1, kw_only=True)

    def load(self) -> RawFrame:
        """The frame, read from its file each time.

        Raises:
            DatasetError: the file is missing or damaged.
        """
        path = self._blobs.local(self._blob, "npz")
        try:
            frame = read_npz(path)
        except FrameError as error:
            raise DatasetError(f"RAW {self.name} of the data set: {error}") from error
        if frame.hash != self.hash:
            raise DatasetError(f"{path}: not RAW {self.name} any more: its content has hash {frame.hash[:12]}")
        object.__setattr__(frame, "source", self.name)
        return frame

    def encoded(self) -> bytes:
        """The frame as the bytes of an ``.npz`` file (see :func:`~drivers.raw.raw_files.save_npz`)."""
        return self._blobs.read(self._blob, "npz")

    def encoded_reference(self) -> bytes | None:
        """The reference as the bytes of a PNG file, or None."""
        return None if self._reference is None else self._blobs.read(self._reference, "png")

    def reference(self) -> np.ndarray | None:
        """The image that the RAW should become, ``uint8 [H, W, 3]`` sRGB, or None.

        Raises:
            DatasetError: the file is missing or damaged.
        """
        encoded = self.encoded_reference()
        return None if encoded is None else RgbFrame(encoded, "image/png").pixels


@dataclass(frozen=True)
class CaptureRecord:
    """A capture of the data set.

    Attributes:
        id: number in the data set, growing in the order of arrival.
        raw_hash, parameters_hash, device_identity, repeat: the key; unique together.
        codes: the parameter codes by name.
        boot_id, frame: the device's boot and frame counter at the time.
        purpose: what asked for it first.
        output_hash: SHA-256 of the output's bytes; ``media_type``: their kind.
        device_s, total_s: seconds inside the device, and from request to answer.
        created: UTC, ISO 8601.
    """

    id: int
    raw_hash: str
    parameters_hash: str
    codes: dict[str, int]
    device_identity: str
    boot_id: str
    frame: int
    repeat: int
    purpose: str
    output_hash: str
    media_type: Literal["image/jpeg", "image/png"]
    device_s: float
    total_s: float
    created: str
    _blobs: BlobStore = field(repr=False, compare=False)

    def rgb(self) -> RgbFrame:
        """The device's output, its very bytes.

        Raises:
            DatasetError: the file is missing or damaged.
        """
        return RgbFrame(self._blobs.read(self.output_hash, SUFFIXES[self.media_type]), self.media_type)


class SeenFile(NamedTuple):
    """A file as it was before it was read: size, times of change in ns, inode."""

    path: Path
    size: int
    modified_ns: int
    changed_ns: int
    inode: int


@dataclass(frozen=True, eq=False)
class NewRaw:
    """A RAW to be kept.

    Attributes:
        raw: the frame.
        scene: the scene that it shows; ``split``: the split of that scene.
        name: what people call the RAW.
        reference: the image that it should become, ``uint8 [H, W, 3]`` sRGB, or None.
        files: the files that it and its reference were read from, as they were before, for :meth:`Dataset.known_files`.
    """

    raw: RawFrame
    scene: str
    split: Split
    name: str
    reference: np.ndarray | None = None
    files: tuple[SeenFile, ...] = ()


@dataclass(frozen=True)
class FailureRecord:
    """A frame that came to nothing, see :class:`drivers.device.Failure`; it is not asked for again.

    Attributes:
        id: number in the data set.
        raw_hash: of the RAW; empty where a live device failed before it gave one.
        parameters_hash, device_identity: the rest of the key.
        codes: the parameter codes by name.
        code, reason: the kind, and one line for people.
        purpose: what asked for it.
        created: UTC, ISO 8601.
    """

    id: int
    raw_hash: str
    parameters_hash: str
    codes: dict[str, int]
    device_identity: str
    code: str
    reason: str
    purpose: str
    created: str


@dataclass(frozen=True)
class KnownDevice:
    """A device that captures or failures of the data set are of.

    Attributes:
        identity: model, firmware and space, as the next three say; ``space`` is the name of its parameter space.
        captures: how many are in use.
    """

    identity: str
    model: str
    firmware: str
    space: str
    captures: int


@dataclass(frozen=True)
class DeviceUse:
    """One run of a command with a device.

    Attributes:
        device_identity: model, firmware and space; ``url``: as it was opened; ``serial``: which unit.
        purpose: of the captures.
        started, finished: UTC, ISO 8601.
        asked: captures that the device made; ``reused``: answered from the data set; ``failed``: came to nothing.
        counts: what went wrong and was mended, by kind (see :attr:`drivers.device.Device.counts`).
    """

    device_identity: str
    url: str
    serial: str
    purpose: str
    started: str
    finished: str
    asked: int
    reused: int
    failed: int
    counts: dict[str, Any]
