"""Devices and their use, in a data set."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

from sqlalchemy import insert, select

from drivers.parameters import ParameterSpace
from workbench.console.versions import workbench_version
from workbench.errors import DatasetError
from workbench.lab.dataset.content_rows import Content, ContentRows
from workbench.lab.dataset.records import DeviceUse, KnownDevice
from workbench.lab.dataset.schema import DeviceRow, DeviceUseRow

_USE_FIELDS = {field.name for field in fields(DeviceUse)}


class DeviceRows(ContentRows):
    """Devices of a data set, and what was asked of them."""

    def add_device_use(self, use: DeviceUse) -> None:
        """Keep what a run of a command asked of a device, and what was mended on the way."""
        values = {"device": use.device_identity, **{k: v for k, v in vars(use).items() if k != "device_identity"}}
        # What follows the ? may name key folders, which are nobody's business but the lab's.
        values |= {"url": use.url.partition("?")[0], "workbench": workbench_version()}
        with self.database.writing() as connection:
            connection.execute(insert(DeviceUseRow).values(values))

    def device_uses(self) -> list[DeviceUse]:
        """What was asked of devices, in the order of arrival."""
        with self.database.reading() as connection:
            rows = connection.execute(select(DeviceUseRow.__table__).order_by(DeviceUseRow.id)).mappings()
            return [
                DeviceUse(**{k: v for k, v in {**row, "device_identity": row["device"]}.items() if k in _USE_FIELDS})
                for row in rows
            ]

    def space(self, device_identity: str) -> ParameterSpace:
        """The parameter space of a device that captures were made with.

        Raises:
            DatasetError: no such device in the data set.
        """
        with self.database.reading() as connection:
            (kept, *_) = self.kept_under(connection, device_identity)
            space = connection.scalar(select(DeviceRow.space).where(DeviceRow.identity == kept))
            others = {self.identity(connection, row) for row in connection.scalars(select(DeviceRow.identity))}
        if space is None:
            known = ", ".join(sorted(others)) or "none"
            raise DatasetError(f"{self.lab}: no captures of device {device_identity}; it has those of: {known}")
        return ParameterSpace.from_dict(space)

    def devices(self, content: Content | None = None) -> list[KnownDevice]:
        """The devices, by identity; ``content`` of the data set where it is known already."""
        name = DeviceRow.space["name"].as_string().label("space")
        query = select(DeviceRow.identity, DeviceRow.model, DeviceRow.firmware, name)
        captures: Counter[str] = Counter()
        for device, _, count in (content or self.content()).counts:
            captures[device] += count
        found: dict[str, KnownDevice] = {}
        with self.database.reading() as connection:
            for row in connection.execute(query.order_by(DeviceRow.created, DeviceRow.identity)):
                identity = self.identity(connection, row.identity)
                found.setdefault(
                    identity, KnownDevice(identity, row.model, row.firmware, row.space, captures[identity])
                )
        return sorted(found.values(), key=lambda device: device.identity)

    def known_as(self, recorded: str) -> str:
        """What a device goes by now that a record names by its identity, be it one of former reckoning."""
        with self.database.reading() as connection:
            return self.identity(connection, recorded)
