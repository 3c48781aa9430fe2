"""What ``plan`` gives: what captures in an hour, a night and a week come to, by what this lab has measured."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from workbench.lab.results import Model, Result


class ValidatedBudget(Model):
    """A prediction that was validated with a budget of captures.

    Attributes:
        run: the ``train`` run; validation: the ``validate`` run.
        captures: that were collected for it; of a refined prediction all that it took, its rule's among them.
        gain: over industry, in the metric's unit; low, high: its 95 % interval by scene.
    """

    run: str
    validation: str
    captures: int
    gain: float
    low: float
    high: float


class StepCosts(Model):
    """What the steps beside collection cost, from the newest records of this device; None where there is no record.

    Attributes:
        fit_s, train_s: seconds from start to end of fitting the proxy and training; of refining without the device's.
        tune_s_a_capture: seconds of computing beside each capture of a search.
        fidelity_captures: of a fidelity report; validation_captures: of a validation, its oracle included.
    """

    fit_s: float | None = None
    train_s: float | None = None
    tune_s_a_capture: float | None = None
    fidelity_captures: int | None = None
    validation_captures: int | None = None


class Expected(Model):
    """A gain over industry that is expected: the middle and the ends of the range that holds 95 % of what fits.

    ``beyond`` is how many times the largest validated budget the budget is; above 1 the gain is an extrapolation.
    """

    gain: float
    low: float
    high: float
    beyond: float


class PlannedTime(Model):
    """What a stretch of time buys.

    Attributes:
        name: of the stretch; seconds: of it.
        captures: that the device can make in it.
        collected: of them for the collection, or for all of a refined prediction, where the rest of the time goes into
            an industry table tuned with as many captures, fidelity report, fit, training and validation.
        disk_bytes: that ``captures`` add to the data set; None where no capture tells its size.
        expected: at ``collected``; None where the lab does not tell.
    """

    name: str
    seconds: float
    captures: int
    collected: int
    disk_bytes: int | None = None
    expected: Expected | None = None


class Plan(Result):
    """What an hour, a night and a week of captures buy.

    Attributes:
        identity: of the device.
        frame_s: seconds a capture; frames: how many were timed, 0 where it was given.
        capture_bytes: of a capture in the data set.
        refined: whether the curve is of refined predictions, which need no collection.
        metric, unit: of the gains.
        costs: of the other steps.
        budgets: what the curve is fitted to, the smallest first.
        times: what is bought; notes: what a reader must know, one line each.
    """

    FORMAT: ClassVar[int] = 1
    WHAT: ClassVar[str] = "a plan"

    format: int = 1
    identity: str
    frame_s: float
    frames: int = 0
    capture_bytes: float | None = None
    refined: bool = False
    metric: str = ""
    unit: str = ""
    costs: StepCosts = StepCosts()
    budgets: list[ValidatedBudget] = Field(default_factory=list)
    times: list[PlannedTime] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
