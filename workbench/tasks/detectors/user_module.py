"""A user's own detector: what a factory of an importable module gives."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from drivers.errors import WorkbenchError
from workbench.tasks.detectors import Detector, DetectorError

_PARTS = ("name", "category_ids", "masks", "loss", "predict", "to")


def open_factory(specification: str) -> Detector:
    """The detector that ``package.module:factory`` makes; the factory takes no arguments.

    Raises:
        DetectorError: it cannot be imported, there is no such factory, it fails, or it gives no detector.
    """
    module_name, _, factory_name = specification.partition(":")

    def make() -> Any:
        module = importlib.import_module(module_name)
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            raise DetectorError(f"detector {specification}: {module_name} has no callable {factory_name!r}")
        return factory()

    return checked(make, specification)


def checked(make: Callable[[], Any], specification: str) -> Detector:
    """What ``make`` gives, when it is a detector.

    Raises:
        DetectorError: it fails, or gives something that lacks a part of the interface.
    """
    try:
        detector = make()
    except WorkbenchError:
        raise
    except Exception as error:  # a user's code may raise anything
        reason = (str(error).splitlines() or [""])[0]
        raise DetectorError(f"detector {specification}: {type(error).__name__}: {reason}") from error
    if missing := [part for part in _PARTS if not hasattr(detector, part)]:
        raise DetectorError(
            f"detector {specification}: its factory gave a {type(detector).__name__} without {', '.join(missing)}; "
            "see workbench.tasks.detectors.Detector"
        )
    found: Detector = detector
    return found
