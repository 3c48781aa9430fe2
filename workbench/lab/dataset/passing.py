"""Tables of the moment: nothing rests on them, no version of the schema names them, they are made where missing."""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from workbench.lab.dataset.dialects import TEXT


class Passing(DeclarativeBase):
    """Base of the mapped classes."""

    type_annotation_map: ClassVar = {str: TEXT}


class WorkerRow(Passing):
    """A process with a device; ``until`` is when its claims end, in seconds of the database's clock."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    url: Mapped[str]
    device: Mapped[str]
    serial: Mapped[str]
    purpose: Mapped[str]
    until: Mapped[float]


class ClaimRow(Passing):
    """A capture that a worker is at."""

    __tablename__ = "claims"
    raw: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    parameters: Mapped[str] = mapped_column(primary_key=True)
    worker: Mapped[str]


class ContentRow(Passing):
    """What there is of captures while they are in this state; see ``workbench.lab.dataset.content_rows``."""

    __tablename__ = "content"
    state: Mapped[str] = mapped_column(primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
