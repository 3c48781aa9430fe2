"""Files of strangers: only regular ones are read, none larger than expected, and TOML and JSON fail in one way."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.regular_files import read_json, read_regular, read_toml


def test_reads_a_file_and_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert read_regular(tmp_path / "a", 5) == b"12345"
    assert read_regular(tmp_path / "b", 5) == b"12345"


def test_a_small_file_takes_little_memory_however_much_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", 1 << 50) == b"12345"  # more than any machine has


def test_refuses_a_larger_file_before_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it would take all memory
    with pytest.raises(OSError, match="at most 10 are read") as caught:
        read_regular(tmp_path / "huge", 10)
    assert caught.value.errno == errno.EFBIG


@pytest.mark.parametrize("kind", ["pipe", "folder", "zero", "link to zero"])
def test_refuses_what_is_no_regular_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "zero":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match=r"not a file|directory"):
        read_regular(path, 100)


def test_size_that_is_not_told() -> None:
    with pytest.raises(OSError, match="more than 1 bytes"):
        read_regular(Path("/proc/self/status"), 1)


def test_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfa = 1\n")
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_toml(tmp_path / "a.toml") == {"a": 1}
    assert read_json(tmp_path / "a.json") == {"a": 1}


@given(st.binary(max_size=64) | st.sampled_from([b"a = " + b"[" * 100_000, b"[" * 100_000]))
def test_whatever_the_bytes_are_the_error_is_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    for read in (read_toml, read_json):
        with contextlib.suppress(ValueError):
            read(path)


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"a": [], "b": {"c": 1, "d": 2, "c": 1}}', '[{"x": 1, "x": 1}]', '{"": 0, "": 0}']
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match="stands twice in one object"):
        read_json(tmp_path / "a.json")
