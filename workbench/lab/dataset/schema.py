"""The tables of the data set. A change here needs a migration in ``migrations/versions`` and a new SCHEMA_VERSION."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, CheckConstraint, Float, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from drivers.splits import Split
from workbench.lab.dataset.dialects import TEXT, WHOLE

SCHEMA_VERSION = "0002"


class Base(DeclarativeBase):
    """Base of the mapped classes."""

    type_annotation_map: ClassVar = {float: Float(), str: TEXT, int: WHOLE}


class Sealed:
    """A row that results rest on: ``seal`` digests its other columns, see :mod:`workbench.lab.dataset.seals`."""

    seal: Mapped[str] = mapped_column(server_default="")


class Blob(Base):
    """A file below ``blobs/``, named by the SHA-256 of its bytes; a row is only there once the file is."""

    __tablename__ = "blobs"
    hash: Mapped[str] = mapped_column(primary_key=True)
    suffix: Mapped[str]
    size: Mapped[int]


class Scene(Sealed, Base):
    """A scene and its split. One row a scene: no scene can be in two splits."""

    __tablename__ = "scenes"
    __table_args__ = (CheckConstraint(f"split IN ({', '.join(repr(str(s)) for s in Split)})", name="split_known"),)
    name: Mapped[str] = mapped_column(primary_key=True)
    split: Mapped[str]


class Raw(Sealed, Base):
    """A RAW frame: its content hash, what people call it, and its pixels as ``.npz``; sizes in pixels.

    ``orientation`` is its file's Exif flag, 1 to 8; the pixels are as the sensor read them.
    """

    __tablename__ = "raws"
    hash: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    scene: Mapped[str] = mapped_column(ForeignKey("scenes.name"))
    width: Mapped[int]
    height: Mapped[int]
    iso: Mapped[float | None]
    exposure_s: Mapped[float | None]
    as_shot_wb: Mapped[list[float] | None] = mapped_column(JSON(none_as_null=True))
    orientation: Mapped[int] = mapped_column(server_default="1")
    blob: Mapped[str] = mapped_column(ForeignKey("blobs.hash"))
    created: Mapped[str]


class Reference(Sealed, Base):
    """The image that a RAW should become (sRGB PNG)."""

    __tablename__ = "reference_images"
    raw: Mapped[str] = mapped_column(ForeignKey("raws.hash"), primary_key=True)
    blob: Mapped[str] = mapped_column(ForeignKey("blobs.hash"))


class SourceFile(Base):
    """A file that a RAW or its reference was read from, so that the same file need not be decoded again.

    ``changed_ns`` and ``inode`` tell a file that was replaced although its size and time are those of before;
    ``content`` is the SHA-256 of its bytes, which decides where they differ.
    """

    __tablename__ = "source_files"
    path: Mapped[str] = mapped_column(primary_key=True)
    raw: Mapped[str] = mapped_column(ForeignKey("raws.hash"), primary_key=True)
    size: Mapped[int]
    modified_ns: Mapped[int]
    changed_ns: Mapped[int] = mapped_column(server_default="0")
    inode: Mapped[int] = mapped_column(server_default="0")
    content: Mapped[str] = mapped_column(server_default="")


class DeviceRow(Sealed, Base):
    """A device: model, firmware and parameter space, as its identity says."""

    __tablename__ = "devices"
    identity: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    firmware: Mapped[str]
    space: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[str]


class ParameterSetRow(Base):
    """A parameter set: its canonical hash and the codes by name."""

    __tablename__ = "parameter_sets"
    hash: Mapped[str] = mapped_column(primary_key=True)
    codes: Mapped[dict[str, int]] = mapped_column(JSON)


class CaptureRow(Sealed, Base):
    """A capture. Immutable but for one thing, triggers see to it: it can be set aside, once, with a reason.

    What is set aside stays for the record; no query gives it any more, and its key can be captured again.
    """

    __tablename__ = "captures"
    __table_args__ = (
        Index(
            "capture_key",
            "raw",
            "device",
            "parameters",
            "repeat",
            unique=True,
            # The same on PostgreSQL; but to say so here is to import its package of dialects, which takes a while.
            sqlite_where=text("set_aside IS NULL"),
        ),
        Index("captures_by_device", "device", "purpose"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    raw: Mapped[str] = mapped_column(ForeignKey("raws.hash"))
    device: Mapped[str] = mapped_column(ForeignKey("devices.identity"))
    parameters: Mapped[str] = mapped_column(ForeignKey("parameter_sets.hash"))
    repeat: Mapped[int]
    output: Mapped[str] = mapped_column(ForeignKey("blobs.hash"))
    read_back: Mapped[dict[str, float]] = mapped_column(JSON)
    serial: Mapped[str]
    boot_id: Mapped[str]
    frame: Mapped[int]
    device_s: Mapped[float]
    total_s: Mapped[float]
    purpose: Mapped[str]
    created: Mapped[str]
    workbench: Mapped[str]
    set_aside: Mapped[str | None]
    set_aside_at: Mapped[str | None]


class FailureRow(Sealed, Base):
    """A frame that came to nothing, and why, so that it is not asked for again.

    ``raw`` is empty where a live device failed before it gave one.
    """

    __tablename__ = "failures"
    __table_args__ = (UniqueConstraint("raw", "device", "parameters", "purpose", name="failure_key"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    raw: Mapped[str]
    device: Mapped[str] = mapped_column(ForeignKey("devices.identity"))
    parameters: Mapped[str] = mapped_column(ForeignKey("parameter_sets.hash"))
    code: Mapped[str]
    reason: Mapped[str]
    boot_id: Mapped[str]
    serial: Mapped[str]
    purpose: Mapped[str]
    created: Mapped[str]
    workbench: Mapped[str]


class DeviceUseRow(Base):
    """One run of a command with a device: what it asked for, and what went wrong and was mended, by kind."""

    __tablename__ = "device_use"
    id: Mapped[int] = mapped_column(primary_key=True)
    device: Mapped[str]
    url: Mapped[str]
    serial: Mapped[str]
    purpose: Mapped[str]
    started: Mapped[str]
    finished: Mapped[str]
    asked: Mapped[int]
    reused: Mapped[int]
    failed: Mapped[int]
    counts: Mapped[dict[str, Any]] = mapped_column(JSON)
    workbench: Mapped[str]
