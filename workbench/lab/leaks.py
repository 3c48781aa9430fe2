"""Leaks: runs that were made with scenes that they are to be judged on."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.errors import RunError
from workbench.lab.runs import RunFolder


def scenes_seen(run: RunFolder, *, held_out: bool = True) -> set[str]:
    """Scenes that a run was made with, by its record: those it learnt or was tuned on, and those held out.

    Held-out scenes choose the weights that are kept, so they are seen too; ``held_out=False`` leaves them out, for what
    is judged on the validation split.
    """
    seen = set(run.config.get("scenes") or ())
    return seen | set(run.config.get("held_out_scenes") or ()) if held_out else seen


def leaked(run: RunFolder, judged: Iterable[str], *, held_out: bool = True) -> list[str]:
    """The scenes, sorted, that a run was made with and is judged on; see :func:`scenes_seen`."""
    return sorted(set(judged) & scenes_seen(run, held_out=held_out))


def refuse_leaks(
    run: RunFolder, judged: Iterable[str], *, split: str = "test", next_step: str, held_out: bool = True
) -> None:
    """See that a run was made without the scenes that it is judged on.

    Args:
        run: the run.
        judged: scenes.
        split: theirs, for the error.
        next_step: what to do, the end of the error's line.
        held_out: see :func:`scenes_seen`.

    Raises:
        RunError: it was made with one.
    """
    if found := leaked(run, judged, held_out=held_out):
        more = f" and {len(found) - 1} more" if found[1:] else ""
        raise RunError(f"run {run.name}: was made with the {split} scene {found[0]!r}{more}; {next_step}")
