"""The next step of a message can help: it is of the cause that is there, not of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sim_lab import PROXY, make_lab

from drivers.splits import Split
from workbench.errors import DatasetError, RunError
from workbench.lab.dataset import Dataset
from workbench.learn.proxy_fitting import fit_proxy
from workbench.tasks.viewing import referenced_raws


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_without_raws_is_not_told_to_add_references(tmp_path: Path, split: str) -> None:
    counts: dict[str, Any] = {"train": 1, "validation": 1, "test": 1} | {split: 0}
    with Dataset.open(make_lab(tmp_path / "lab", captures=0, **counts)) as dataset:
        with pytest.raises(RunError, match=f"no RAW in the {split} split") as caught:
            referenced_raws(dataset, Split(split))
        assert "add references" not in str(caught.value)


def test_raws_without_references_are(tmp_path: Path) -> None:
    with (
        Dataset.open(make_lab(tmp_path / "lab", captures=0, references=False)) as dataset,
        pytest.raises(RunError, match="add references"),
    ):
        referenced_raws(dataset, Split.TRAIN)


def test_collecting_more_is_not_the_step_where_no_raw_is_for_training(tmp_path: Path) -> None:
    lab = make_lab(tmp_path / "lab", captures=2, train=0, validation=2)
    with pytest.raises(RunError, match="no RAW of the data set is in the training split"):
        fit_proxy(lab, PROXY)
    lab = make_lab(tmp_path / "other", captures=2, train=1, validation=1)
    with pytest.raises(RunError, match="with more --captures"):
        fit_proxy(lab, PROXY)


@pytest.mark.parametrize("damage", ["missing", "flipped", "emptied"])
def test_a_lost_file_of_the_data_set_has_a_way_out_without_a_backup(tmp_path: Path, damage: str) -> None:
    with Dataset.open(make_lab(tmp_path / "lab", captures=2)) as dataset:
        capture = dataset.captures()[0]
        file = next((tmp_path / "lab" / "blobs").rglob(f"{capture.output_hash}*"))
        if damage == "missing":
            file.unlink()
        else:
            data = file.read_bytes()
            file.chmod(0o600)
            file.write_bytes(b"" if damage == "emptied" else data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DatasetError, match="set-aside"):
            capture.rgb()
