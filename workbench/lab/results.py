"""What runs record of their results: frozen models that are JSON only at the edge.

Each room defines the models of its own runs (``judge/results.py``, ``tune/results.py``, …) on :class:`Model`; a model
that is a file of its own, or a run's whole results, is a :class:`Result` and says which format it has.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from drivers.regular_files import read_json
from workbench.errors import RunError
from workbench.lab.run_record import RECORD_BYTES
from workbench.lab.runs import plain, write_json


class Model(BaseModel):
    """Part of a result: immutable, and with no field that its class does not name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; what is no finite number is None."""
        data: dict[str, Any] = plain(self.model_dump(mode="json"))
        return data


class Result(Model):
    """The results of a run.

    Attributes:
        FORMAT: version of the format that is written.
        WHAT: what it is called in an error.
        format: version of the format of this one.
    """

    FORMAT: ClassVar[int] = 1
    WHAT: ClassVar[str] = "results"

    format: int

    @classmethod
    def from_json(cls, data: Any, where: object) -> Self:
        """The result of plain JSON data, of this format or an older one.

        Args:
            data: the data.
            where: named in the error.

        Raises:
            RunError: it is no such result, or of a newer format.
        """
        found = data.get("format") if isinstance(data, dict) else None
        if found is not None and not isinstance(found, int):
            raise RunError(f"{where}: cannot be read as {cls.WHAT} (format is {found!r:.40})")
        if found is not None and found > cls.FORMAT:
            raise RunError(f"{where}: format {found} of {cls.WHAT}; this workbench reads up to {cls.FORMAT}")
        try:
            return cls.model_validate(cls.upgraded(data))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "it"
            raise RunError(f"{where}: cannot be read as {cls.WHAT} ({place}: {first['msg']})") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{where}: cannot be read as {cls.WHAT} ({error!r:.100})") from error

    @classmethod
    def upgraded(cls, data: Any) -> Any:
        """The data of an older format as this one's; what is of this format as it is."""
        return data

    @classmethod
    def read(cls, file: Path) -> Self:
        """The result in a file.

        Raises:
            RunError: it is not there, damaged, no such result, or of a newer format.
        """
        try:
            data = read_json(file, RECORD_BYTES)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RunError(f"{file}: cannot be read as {cls.WHAT} ({reason}); put the file back") from error
        return cls.from_json(data, file)

    def write(self, file: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_json(file, self.to_json())
