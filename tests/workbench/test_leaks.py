from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import RunError
from workbench.lab.leaks import leaked, refuse_leaks, scenes_seen
from workbench.lab.runs import RunFolder


def run_with(**config: object) -> RunFolder:
    return RunFolder(Path("lab/runs/one"), {"kind": "train", "config": config})


def test_what_chose_the_weights_was_seen_too() -> None:
    run = run_with(scenes=["a", "b"], held_out_scenes=["c"])
    assert scenes_seen(run) == {"a", "b", "c"}
    assert leaked(run, ["d", "c", "b"]) == ["b", "c"]
    assert leaked(run, ["d", "c", "b"], held_out=False) == ["b"]
    assert leaked(run_with(scenes=None), ["a"]) == []


def test_a_leak_is_one_line_that_names_it() -> None:
    run = run_with(scenes=["a", "b"], held_out_scenes=["c"])
    with pytest.raises(RunError, match=r"^run one: was made with the test scene 'b' and 1 more; tune again$"):
        refuse_leaks(run, ["c", "b"], next_step="tune again")
    with pytest.raises(RunError, match=r"^run one: was made with the validation scene 'b'; tune again$"):
        refuse_leaks(run, ["c", "b"], split="validation", next_step="tune again", held_out=False)
    refuse_leaks(run, ["d"], next_step="tune again")
