"""Files are there whole or not at all, and nothing is left beside them."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.atomic_files import write_bytes, write_text, written


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    write_bytes(file, b"one")
    write_bytes(file, memoryview(b"two"), durable=False)
    assert file.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt(), ValueError("of the block")])
def test_what_ends_the_block_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    file = tmp_path / "a.bin"
    write_bytes(file, b"one")

    def half() -> None:
        with written(file) as new:
            new.write(b"tw")
            raise error

    with pytest.raises(type(error)):
        half()
    assert file.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a file's size are POSIX's")
def test_a_full_disk_is_told_with_the_files_name(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    write_bytes(file, b"one")
    with largest_file(4096), pytest.raises(OSError, match="File too large") as error:
        write_bytes(file, bytes(1 << 20))
    assert error.value.filename == str(file)
    assert file.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [file]
    with pytest.raises(OSError, match="of the block") as error, written(file):
        raise OSError("of the block")
    assert error.value.filename is None


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond that many bytes in this block, as on a full disk."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_written_in_another_folder_and_ends_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with written(tmp_path / "a.bin", beside=tmp_path / "tmp") as new:
        assert len(list((tmp_path / "tmp").iterdir())) == 1
        new.write(b"one")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "a.bin").read_bytes() == b"one"


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_modes(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "open", b"")
        write_bytes(tmp_path / "private", b"", private=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_errors_name_the_file_that_was_meant(tmp_path: Path) -> None:
    for place in (tmp_path / "missing" / "a.txt", tmp_path / "folder"):
        (tmp_path / "folder" / "full").mkdir(parents=True, exist_ok=True)
        with pytest.raises(OSError, match=r".") as caught:
            write_text(place, "one")
        assert (caught.value.filename, caught.value.filename2) == (str(place), None)
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_text_is_utf_8_with_its_own_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ü\r\n\n\udcff")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xbc\r\n\n\\udcff"


def test_the_longest_name_that_a_folder_takes(tmp_path: Path) -> None:
    file = tmp_path / ("x" * 255)
    write_bytes(file, b"one")
    assert file.read_bytes() == b"one"
