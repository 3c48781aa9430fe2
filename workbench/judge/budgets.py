"""Whether two budgets of captures are equal: a search spends whole trials, which seldom fill a budget exactly."""

from __future__ import annotations

from workbench.lab.runs import RunFolder


def rounding_of(run: RunFolder) -> int:
    """Captures of a tuning's budget that are no whole trial, so that its search had to leave them."""
    asked, spent, trial = (run.config.get("captures"), run.results.get("captures"), run.config.get("raws_per_trial"))
    if not asked or spent is None or not trial:
        return 0
    return asked - spent if 0 < asked - spent < trial else 0


def less_than(spent: int | None, budget: int, rounding: int = 0) -> bool:
    """Whether captures spent are fewer than a budget: by more than one in a hundred and than the search's rounding."""
    return (spent or 0) + rounding < 0.99 * budget
