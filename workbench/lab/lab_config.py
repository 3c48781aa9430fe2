"""The lab's own settings, ``lab.toml`` in the lab folder: names of devices, and hosts reached without encryption.

::

    [devices]
    left = "zmq://192.0.2.7:5555?keys=keys"      # a key folder beside this file, see `workbench keys new`
    right = "serial:///dev/ttyUSB0?baud=921600"

    [network]
    plain = ["192.0.2.9"]                        # hosts on a network that is yours alone

A device can then be given by its name: ``--device left``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from drivers import device_urls
from drivers.errors import WorkbenchError
from drivers.regular_files import read_toml
from drivers.validation_text import fault_in_words

FILE = "lab.toml"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")]


class LabConfigError(WorkbenchError):
    """A ``lab.toml`` that cannot be read."""


class Network(BaseModel):
    """What the lab's network allows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plain: tuple[str, ...] = ()


class LabConfig(BaseModel):
    """The settings of one lab folder.

    Attributes:
        devices: URL by name.
        network: hosts that may be reached without encryption.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    devices: dict[Name, str] = Field(default_factory=dict)
    network: Network = Network()

    def url(self, device: str, folder: Path) -> str:
        """The URL of a device given by URL or by name.

        Key folders in the URLs of ``devices`` are relative to the lab folder. A host listed in ``network.plain`` gets
        the mark ``plain=1``, without which the driver refuses to talk to another machine in the clear.

        Args:
            device: a URL, or a name of ``devices``.
            folder: the lab folder.
        """
        named = device in self.devices
        url = self.devices.get(device, device)
        place = device_urls.on_network(url)
        if place is None:
            return url
        host, query = place
        if named and "keys" in query:
            query["keys"] = str(folder / query["keys"])
        hosts = {device_urls.same_host(plain) for plain in self.network.plain}
        if host and device_urls.same_host(host) in hosts and "keys" not in query:
            query["plain"] = "1"
        return device_urls.with_options(url, query)


def load_lab_config(lab: Path) -> LabConfig:
    """The settings of a lab folder; none where it has no ``lab.toml``.

    Raises:
        LabConfigError: the file cannot be read, is no TOML, or has keys that are not of these settings.
    """
    path = lab / FILE
    try:
        data = read_toml(path)
    except (FileNotFoundError, NotADirectoryError):
        return LabConfig()
    except OSError as error:
        raise LabConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise LabConfigError(f"{path}: is no TOML: {error}") from error
    try:
        return LabConfig.model_validate(data)
    except ValidationError as error:
        fault = fault_in_words(error, data, LabConfig)
        raise LabConfigError(f"{path}: {fault}; see `workbench device list --help`") from error
