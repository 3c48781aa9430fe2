from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import DeviceError
from drivers.protocol import pixel_folder
from drivers.protocol.pixel_folder import KEPT, KEY_BYTES, PixelFolder


def test_a_payload_goes_through_the_folder_and_leaves_nothing(tmp_path: Path) -> None:
    here, there = PixelFolder(tmp_path, 100), PixelFolder(tmp_path, 100)
    for payload in (b"pixels" * 10, b"", b"pixels" * 10):
        sent = here.outgoing([b"header", payload])
        assert len(sent[1]) == (KEY_BYTES if payload else 0)
        assert there.incoming(sent) == [b"header", payload]
    assert there.incoming(here.outgoing([b"only a header"])) == [b"only a header"]
    assert not list(tmp_path.iterdir())


def test_the_same_payload_twice_on_its_way(tmp_path: Path) -> None:
    folder = PixelFolder(tmp_path, 100)
    both = [folder.outgoing([b"h", b"same"]) for _ in range(2)]
    assert [folder.incoming(sent)[1] for sent in both] == [b"same", b"same"]


def test_a_damaged_a_too_large_and_a_missing_file_count_as_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_folder, "WAIT_S", 0.1)
    folder = PixelFolder(tmp_path, 100)
    damaged, large, missing = (folder.outgoing([b"h", payload]) for payload in (b"damaged", b"x" * 101, b"missing"))
    (tmp_path / f"{bytes(damaged[1]).hex()}.bin").write_bytes(b"Damaged")
    (tmp_path / f"{bytes(missing[1]).hex()}.bin").unlink()
    assert [folder.incoming(sent)[1] for sent in (damaged, large, missing)] == [b"", b"", b""]
    assert not list(tmp_path.iterdir())


def test_files_that_nobody_fetches_do_not_pile_up(tmp_path: Path) -> None:
    folder = PixelFolder(tmp_path, 100)
    for n in range(KEPT + 10):
        folder.outgoing([b"h", b"%d" % n])
    assert len(list(tmp_path.iterdir())) == KEPT
    folder.close()
    assert not list(tmp_path.iterdir())


@given(st.binary(max_size=200).filter(lambda key: len(key) != KEY_BYTES))
def test_what_is_no_key_counts_as_empty(key: bytes) -> None:
    assert PixelFolder(Path(), 100).incoming([b"h", key]) == [b"h", b""]


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    folder = PixelFolder(tmp_path / "share", 100)
    (tmp_path / "share").rmdir()
    with pytest.raises(DeviceError, match="the pixels cannot be written"):
        folder.outgoing([b"h", b"payload"])
    with pytest.raises(DeviceError, match="no folder for pixels"):
        PixelFolder(tmp_path / "share", 100)
