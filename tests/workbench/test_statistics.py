import numpy as np
import pytest
from scipy.stats import wilcoxon

from workbench.judge.statistics import MIN_CLUSTERS, compare, mean_interval, p_text, ratio_interval


def test_mean_interval_agrees_with_the_normal_one_for_many_independent_values() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 2000)
    interval = mean_interval(values, range(2000))
    error = values.std() / np.sqrt(2000)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert interval.side == "better"


def test_values_of_one_scene_count_as_one() -> None:
    rng = np.random.default_rng(1)
    scene = rng.normal(0, 1, 20)
    clustered = mean_interval(np.repeat(scene, 50), np.repeat(np.arange(20), 50).tolist())
    naive = mean_interval(np.repeat(scene, 50), range(1000))
    assert clustered.low is not None
    assert clustered.high is not None
    assert naive.low is not None
    assert naive.high is not None
    assert clustered.high - clustered.low > 5 * (naive.high - naive.low)
    assert (clustered.clusters, clustered.samples) == (20, 1000)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for trial in range(300):
        values = rng.normal(0, 1, 30)[:, None] + rng.normal(0, 0.5, (30, 4))
        interval = mean_interval(values.ravel(), np.repeat(np.arange(30), 4).tolist(), resamples=1000, seed=trial)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 300 <= 0.98


@pytest.mark.parametrize("clusters", [1, 2, MIN_CLUSTERS - 1])
def test_too_few_scenes_show_nothing(clusters: int) -> None:
    labels = [i % clusters for i in range(60)]
    interval = mean_interval(np.full(60, 5.0), labels)
    assert (interval.estimate, interval.low, interval.high, interval.side) == (5.0, None, None, "not shown")
    ratio = ratio_interval(np.full(60, 1.0), np.full(60, 2.0), labels)
    assert (ratio.estimate, ratio.low, ratio.side) == (0.5, None, "not shown")


def test_verdicts() -> None:
    scenes = range(10)
    assert mean_interval(np.linspace(-2, -1, 10), scenes).side == "worse"
    assert mean_interval(np.linspace(-1, 1, 10), scenes).side == "not shown"
    assert mean_interval(np.zeros(10), scenes).side == "not shown"
    assert "side" not in mean_interval(np.zeros(10), scenes).to_json()


def test_gap_closed_of_proportional_gains_is_exact() -> None:
    gap = np.linspace(1, 9, 24)
    ratio = ratio_interval(0.4 * gap, gap, [i // 2 for i in range(24)])
    for figure in (ratio.estimate, ratio.low, ratio.high):
        assert figure == pytest.approx(0.4)


def test_no_gap_to_close() -> None:
    scenes = range(12)
    assert ratio_interval(np.ones(12), np.zeros(12), scenes).estimate is None
    sometimes = np.array([12.0] + [-1.0] * 11)
    interval = ratio_interval(np.ones(12), sometimes, scenes)
    assert interval.estimate == pytest.approx(12.0)
    assert interval.low is None
    assert interval.side == "not shown"


def test_the_seed_decides() -> None:
    values, scenes = np.random.default_rng(3).normal(size=40), range(40)
    assert mean_interval(values, scenes, seed=5) == mean_interval(values, scenes, seed=5)
    assert mean_interval(values, scenes, seed=5) != mean_interval(values, scenes, seed=6)


@pytest.mark.parametrize(("values", "scenes"), [([], []), ([1.0], ["a", "b"]), ([np.nan], ["a"])])
def test_bad_input(values: list[float], scenes: list[str]) -> None:
    with pytest.raises(ValueError, match="values"):
        mean_interval(values, scenes)


def test_a_difference_that_both_tests_see_is_shown() -> None:
    values = np.linspace(0.5, 3, 40)
    values[0] = -0.25
    found = compare(values, [i // 2 for i in range(40)])
    assert found.verdict == "better"
    assert found.p_value == pytest.approx(wilcoxon(values.reshape(20, 2).mean(1)).pvalue)
    assert found.worse_share == 1 / 40
    assert found.fifth_percentile == pytest.approx(np.percentile(values, 5))
    mean = mean_interval(values, [i // 2 for i in range(40)])
    assert {name: found.to_json()[name] for name in mean.to_json()} == mean.to_json()
    words = found.words()
    assert words.startswith(f"Better: {values.mean():+.2f} [")
    for piece in ("lies above 0", "p < 0.001", "20 scenes", "2% of 40 RAWs got worse", "5th percentile"):
        assert piece in words
    opposite = compare(-values, [i // 2 for i in range(40)])
    assert opposite.verdict == "worse"
    assert opposite.to_json()["verdict"] == "worse"
    assert "lies below 0" in opposite.reason


def test_a_few_scenes_that_make_the_mean_show_nothing() -> None:
    # 16 scenes hardly change, to both sides, and six gain much: the mean's interval lies above 0 all the same.
    values = np.concatenate([np.tile([-0.2, -0.1, 0.05, -0.15], 4), np.full(6, 10.0)])
    found = compare(values, range(22))
    assert found.side == "better"
    assert found.p_value is not None
    assert found.p_value > 0.05
    assert found.verdict == found.to_json()["verdict"] == "not shown"
    assert "but few scenes may have made it" in found.words()


@pytest.mark.parametrize(
    "values",
    [[0, 0, 1, 2, 3, -4, 5], [1, 1, 2, 2, 2, -3, 3], [0.5, 1, 2, 3, 4, 5], [0, -1, -1, 1, 1, 0, 2], [0] * 5 + [2]],
)
def test_few_scenes_with_ties_and_zeros_are_tested_exactly(values: list[float]) -> None:
    assert compare(values, range(len(values))).p_value == pytest.approx(wilcoxon(values).pvalue, abs=1e-12)


def test_reasons_for_showing_nothing() -> None:
    assert compare(np.full(10, 3.0), [i % 5 for i in range(10)]).reason == "5 scenes are too few, 6 are the least"
    assert compare(np.full(10, 3.0), [i % 5 for i in range(10)]).words().startswith("Not shown: +3.00 dB on average")
    assert compare(np.zeros(10), range(10)).reason == "no RAW differs"
    assert compare(np.linspace(-1, 1, 10), range(10)).reason == "the 95 % interval holds 0, 10 scenes"
    assert p_text(0.0312) == "p = 0.031"


def test_six_scenes_that_agree_are_the_least_that_show_something() -> None:
    assert compare(np.arange(1.0, 7.0), range(6)).verdict == "better"
    assert compare(np.arange(1.0, 6.0), range(5)).p_value is None
