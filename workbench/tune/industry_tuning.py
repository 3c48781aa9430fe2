"""Tunes the industry's table on the device."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.parameters import ParameterSet
from workbench.errors import RunError
from workbench.lab.stratified import stratified
from workbench.rules.balance import WhiteBalance
from workbench.rules.industry import TABLE, IndustryTable, knots_of, nearest_knot
from workbench.tune.ranking import filled
from workbench.tune.results import TableResult
from workbench.tune.spending import spent_on_rule
from workbench.tune.tuner import Tuner


def tune_industry(tuner: Tuner, white_balance: WhiteBalance) -> tuple[IndustryTable, TableResult]:
    """The industry's table: as-shot or grey-world white balance sets the gains, a table over ISO the rest.

    Half of the budget searches one set for all ISO (with those gains), the other half refines it around each knot
    on the training RAWs nearest to that knot (CMA-ES, small steps). At the end the refined table has to beat the single
    set on a larger set of RAWs, or the single set is kept at all knots.
    """
    s, space = tuner.settings, tuner.info.space
    name = "industry" if white_balance == "as-shot" else f"industry {white_balance}"

    def table(sets: Sequence[ParameterSet]) -> IndustryTable:
        return IndustryTable(space, knots, tuple(sets), white_balance)

    free = tuner.searched(white_balance)
    knots = knots_of(tuner.train)
    ranked = tuner.rank_raws(tuner.raws, tuner.train, s.captures)
    trial, starts_at_knots = len(tuner.raws), 2
    budget, refining = s.captures - 2 * len(ranked), starts_at_knots * len(knots) * trial
    if budget < (least := max(2 * len(tuner.starts) * trial, len(tuner.starts) * trial + refining)):
        raise RunError(
            f"{s.captures} captures are too few for the industry's table; give at least {least + 2 * len(ranked)}"
        )
    # Searches spend whole trials: what does not fill one is left for the next part.
    share = min(budget // 2, budget - refining)
    first = tuner.search(name, tuner.raws, tuner.starts, free, share - share % trial, white_balance=white_balance)
    tuner.history = list(first.history)
    single = first.best()[0][1]
    starts = [single, *([first.centre] if first.centre is not None else [])]
    refined: list[ParameterSet] = []

    pools = [
        [r for r in tuner.train if nearest_knot(knots, r.iso) == knot] or tuner.train for knot in range(len(knots))
    ]
    trials = [stratified(pool, s.raws_per_trial, s.seed + 2 + knot) for knot, pool in enumerate(pools)]

    def refine(knot: int, share: int) -> ParameterSet:
        raws, what, spent = trials[knot], f"{name} ISO {knots[knot]:g}", tuner.captures
        found = tuner.search(what, raws, starts, free, share, white_balance=white_balance, refine=True, offset=spent)
        return found.best()[0][1]

    for knot, raws in enumerate(trials):
        share = (budget - tuner.captures) // (len(knots) - knot)
        share -= share % len(raws)
        refined.append(refine(knot, share))
    # Captures shared by several parts leave some of the budget: for more RAWs to rank on, then for the last knot.
    for _ in range(3):
        tables = [table([single] * len(knots)), table(refined)]
        wider, left = filled(tuner, [t.parameters_for for t in tables], ranked)
        left -= left % len(trials[-1])
        if left <= 0:
            break
        share += left
        refined[-1] = refine(len(knots) - 1, share)
    else:
        tables = [tables[0], table(refined)]
        wider, _ = filled(tuner, [t.parameters_for for t in tables], ranked)
    ranked = wider
    ranking = [[(raw, tuner.given(t.parameters_for(raw), raw)) for raw in ranked] for t in tables]
    values = tuner.rank(tuner.studies[0], ranking)
    scores, which = tuner.first_values(values), tuner.best_of(values)
    result = TableResult(
        score=scores[which],
        file=TABLE,
        single_set_score=scores[0],
        table_score=scores[1],
        kept=("single set", "table")[which],
        knots_iso=knots,
        **spent_on_rule(tuner, first, ranked),
    )
    return tables[which], result
