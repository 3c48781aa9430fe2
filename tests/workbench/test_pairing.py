"""Methods are compared on the same RAWs: what fails is left out by a rule, noted and counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_isp import SPACE, SmallIsp, make_lab

from drivers.device import Capture, Failure, FrameFailedError
from drivers.frames import RawFrame
from drivers.parameters import ParameterSet
from drivers.splits import Split
from workbench.errors import RunError
from workbench.judge.methods import ValidationSettings
from workbench.judge.pairing import pair
from workbench.judge.validation import validate
from workbench.lab.dataset import Dataset, FailureRecord, RawRecord

LABELS = {"default": "default", "fixed": "best fixed", "predicted:a": "predicted"}


def raws(count: int) -> list[RawRecord]:
    sizes = (16, 16, 100.0, 0.01, None, False)
    return [RawRecord(f"{i:064x}", f"{i}.npz", f"s{i}", "test", *sizes, "", None, None) for i in range(count)]  # type: ignore[arg-type]


def failure(reason: str = "no") -> FailureRecord:
    return FailureRecord(1, "", "", {}, "d", "failed", reason, "validate", "")


def test_nothing_failed_keeps_everything() -> None:
    found = pair(raws(4), LABELS, {})
    assert (found.methods, found.places, found.notes, found.left_out) == (list(LABELS), [0, 1, 2, 3], [], [])


def test_a_raw_is_left_out_for_all_methods_and_a_method_that_mostly_fails_for_itself() -> None:
    found = pair(raws(10), LABELS, {"fixed": {i: failure() for i in range(6)}, "predicted:a": {7: failure("dark")}})
    assert found.methods == ["default", "predicted:a"]
    assert found.places == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert found.notes == [
        "best fixed is left out: the device failed on 6 of 10 RAWs with it (60 %), most often failed: no",
        "1 RAW is left out for all methods, where predicted failed (failed: dark): 7.npz",
    ]
    assert found.failed == {"default": 0, "fixed": 6, "predicted:a": 1}


def test_nothing_left_is_an_error() -> None:
    everything = {key: {i: failure() for i in range(4)} for key in LABELS}
    with pytest.raises(RunError, match="nothing is left to compare: default is left out: the device failed on 4 of 4"):
        pair(raws(4), LABELS, everything)


@given(st.dictionaries(st.sampled_from(sorted(LABELS)), st.sets(st.integers(0, 7), max_size=4)))
def test_what_is_kept_has_no_failure(failed: dict[str, set[int]]) -> None:
    failures = {key: {i: failure() for i in places} for key, places in failed.items()}
    try:
        found = pair(raws(8), LABELS, failures)
    except RunError:
        assert set().union(*failed.values()) == set(range(8))
        return
    assert all(place not in failures.get(key, {}) for key in found.methods for place in found.places)
    assert set(found.places) | set().union(*(failed.get(key, set()) for key in found.methods)) == set(range(8))


class Refusing(SmallIsp):
    """Refuses one of the lab's RAWs, and every set that inverts."""

    def __init__(self, refused: str) -> None:
        super().__init__()
        self.refused = refused

    def process(self, raw: RawFrame, parameters: ParameterSet) -> Capture:
        if raw.hash == self.refused or parameters["invert"]:
            raise FrameFailedError("small: no", Failure(raw.hash, parameters, "failed", "no thanks", "boot-1"))
        return super().process(raw, parameters)


def test_validation_leaves_out_what_fails_and_says_so(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    make_lab(lab, train=4, test=6)
    expert = tmp_path / "expert.toml"
    expert.write_text(SPACE.to_toml(SPACE.defaults.replace(invert=True), "inverted"), encoding="utf-8")
    with Dataset.open(lab) as dataset:
        refused = dataset.raws(Split.TEST)[2]
        device = Refusing(refused.hash)
        results = validate(lab, dataset, device, ValidationSettings(expert=expert, oracle_captures=6))
        again = validate(lab, dataset, Refusing(refused.hash), ValidationSettings(expert=expert, oracle_captures=6))
    assert list(results.by_key) == ["default", "oracle"]
    assert (results.raws, results.raws_left_out, len(results.per_raw)) == (5, 1, 5)
    assert refused.name not in {row.name for row in results.per_raw}
    assert [entry.method for entry in results.left_out] == ["expert", None]
    assert any(f"where default failed (failed: no thanks): {refused.name}" in note for note in results.notes)
    assert {**again.to_json(), "methods": 0} == {**results.to_json(), "methods": 0}
