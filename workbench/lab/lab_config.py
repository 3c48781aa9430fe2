"""The lab's own settings, ``lab.toml`` in the lab folder: names of devices, hosts reached without encryption, where the
data set is kept.

::

    [devices]
    left = "zmq://192.0.2.7:5555?keys=keys"      # a key folder beside this file, see `workbench keys new`
    right = "serial:///dev/ttyUSB0?baud=921600"

    [network]
    plain = ["192.0.2.9"]                        # hosts on a network that is yours alone

    [storage]
    database = "postgresql+psycopg://isp@db.example/lab"   # without it: dataset.sqlite in the lab folder
    blobs = "s3://bucket/lab"                              # without it: blobs/ in the lab folder

A device can then be given by its name: ``--device left``. Passwords stand in none of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from drivers import device_urls
from drivers.errors import WorkbenchError
from drivers.regular_files import read_toml
from drivers.validation_text import fault_in_words

FILE = "lab.toml"
SCHEME = "postgresql+psycopg"
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,62}$")]


class LabConfigError(WorkbenchError):
    """A ``lab.toml`` that cannot be read."""


class Network(BaseModel):
    """What the lab's network allows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plain: tuple[str, ...] = ()


class Storage(BaseModel):
    """Where the data set is kept, if not in the lab folder.

    Attributes:
        database: URL of a PostgreSQL database, ``postgresql+psycopg://USER@HOST/NAME``; None: ``dataset.sqlite``.
        blobs: a place in an object store, ``s3://BUCKET/PREFIX``; None: ``blobs/`` in the lab folder.
        cache_bytes: limit of the copies of blobs in ``cache/`` of the lab folder, bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: str | None = None
    blobs: str | None = None
    cache_bytes: int = Field(default=10_000_000_000, gt=0)

    @field_validator("database")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith(SCHEME + "://"):
            raise ValueError(f"must be {SCHEME}://USER@HOST/NAME; without the key dataset.sqlite is used")
        try:
            parts = urlsplit(url)
            secret = parts.password is not None or "password" in parse_qs(parts.query, keep_blank_values=True)
        except ValueError:
            raise ValueError(f"is no URL; write {SCHEME}://USER@HOST/NAME") from None
        if secret:
            raise ValueError("has a password in it; leave it out and put it in ~/.pgpass or in PGPASSWORD")
        return url

    @field_validator("blobs")
    @classmethod
    def _bucket(cls, url: str | None) -> str | None:
        if url is None or re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9_.-]+)*/?", url):
            return url
        raise ValueError("must be s3://BUCKET/PREFIX; the endpoint and the credentials stand in the environment")


class LabConfig(BaseModel):
    """The settings of one lab folder.

    Attributes:
        devices: URL by name.
        network: hosts that may be reached without encryption.
        storage: where the data set is kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    devices: dict[Name, str] = Field(default_factory=dict)
    network: Network = Network()
    storage: Storage = Storage()

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
