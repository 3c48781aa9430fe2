"""A user's own detector: what a factory of an importable module gives."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Sequence
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
        DetectorError: it fails, or gives something that lacks a part of the interface or has one of another kind.
    """
    try:
        detector = make()
        fault = _fault(detector)
    except WorkbenchError:
        raise
    except Exception as error:  # a user's code may raise anything
        reason = (str(error).splitlines() or [""])[0]
        raise DetectorError(f"detector {specification}: {type(error).__name__}: {reason}") from error
    if fault:
        raise DetectorError(f"detector {specification}: {fault}; see workbench.tasks.detectors.Detector")
    found: Detector = detector
    return found


def _fault(detector: Any) -> str | None:
    if missing := [part for part in _PARTS if not hasattr(detector, part)]:
        return f"its factory gave a {type(detector).__name__} without {', '.join(missing)}"
    if not isinstance(detector.name, str) or not detector.name:
        return f"its name is {detector.name!r:.40}, not a text"
    ids = detector.category_ids
    if not isinstance(ids, Collection) or isinstance(ids, str) or not ids:
        return f"its category_ids are {ids!r:.40}, not COCO category ids"
    if odd := [i for i in ids if type(i) is not int or not 0 <= i < 1 << 62]:
        return f"its category_ids hold {odd[0]!r:.40}, which is no COCO category id"
    if not isinstance(detector.masks, bool):
        return f"its masks is {detector.masks!r:.40}, neither True nor False"
    notes = getattr(detector, "notes", ())
    if isinstance(notes, str) or not isinstance(notes, Sequence) or not all(isinstance(note, str) for note in notes):
        return f"its notes are {notes!r:.40}, not a sequence of texts"
    return None
