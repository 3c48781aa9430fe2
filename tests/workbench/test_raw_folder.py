import contextlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.errors import RawFolderError
from workbench.raw_folder import read_raw_folder, split_of


@pytest.fixture
def folder(tmp_path):
    """Four RAW files (their content is never looked at) and two references."""
    for name in ("b.npz", "a.npz", "c.DNG", "d.nef"):
        (tmp_path / name).write_bytes(b"raw")
    for name in ("a.reference.png", "clean.png"):
        (tmp_path / name).write_bytes(b"png")
    return tmp_path


def write(folder, *lines):
    (folder / "scenes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_without_a_table_every_raw_is_a_scene(folder):
    (folder / "notes.txt").write_text("notes")
    (folder / ".a.npz").write_bytes(b"hidden")
    entries = read_raw_folder(folder)
    assert [(e.path.name, e.scene, e.split) for e in entries] == [
        (n, s, split_of(s)) for n, s in (("a.npz", "a"), ("b.npz", "b"), ("c.DNG", "c"), ("d.nef", "d"))
    ]
    assert [e.reference and e.reference.name for e in entries] == ["a.reference.png", None, None, None]


def test_the_table_says_scene_split_and_reference(folder):
    write(folder, "file,scene,split,reference", "b.npz,hall,test,clean.png", "a.npz,hall,test,", "", "c.DNG,,,")
    entries = read_raw_folder(folder)
    assert [(e.path.name, e.scene, e.split) for e in entries] == [
        ("a.npz", "hall", "test"),
        ("b.npz", "hall", "test"),
        ("c.DNG", "c", split_of("c")),
    ]
    assert [e.reference and e.reference.name for e in entries] == ["a.reference.png", "clean.png", None]


def test_columns_may_be_left_out_and_a_spreadsheet_may_have_written_it(folder):
    (folder / "scenes.csv").write_bytes(b'\xef\xbb\xbfscene, file\r\n"hall, north",a.npz\r\n')
    (entry,) = read_raw_folder(folder)
    assert (entry.path.name, entry.scene) == ("a.npz", "hall, north")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["file,scene,split,reference", "x.npz,s,train,"], r"line 2: file x\.npz does not exist"),
        (["file,scene,split,reference", "a.npz,s,train,x.png"], r"line 2: reference x\.png does not exist"),
        (["file,scene,split,reference", "a.npz,s,training,"], r"line 2: split 'training' is not one of train"),
        (
            ["file,scene,split", "a.npz,s,train", "b.npz,s,test"],
            r"line 3: scene 's' is in split test, on line 2 in train",
        ),
        (["file,scene", "a.npz,s", "b.npz,t", "a.npz,u"], r"line 4: a\.npz is listed twice, first on line 2"),
        (["file", "x" * 5000 + ".npz"], r"line 2: file x+\.npz does not exist"),
        (["file", "a\0.npz"], "line 2: file 'a.x00.npz' does not exist|is not a CSV file"),
        (["file,scene", "a.npz,s,train"], r"line 2: 3 columns, the first line names 2"),
        (["file,scene", ",s"], r"line 2: the column 'file' is empty"),
        (["file", "clean.png"], r"line 2: clean\.png is no RAW file"),
        (["name,scene", "a.npz,s"], r"must name the columns file,scene,split,reference, not name, scene"),
        (["file,scene,weather", "a.npz,s,rain"], "must name the columns"),
        (["file,file", "a.npz,a.npz"], "must name the columns"),
        ([""], "must name the columns"),
        (["file,scene,split,reference"], "lists no RAW file"),
        (["file", '"a.npz'], "is not a CSV file"),
    ],
)
def test_a_bad_table_is_one_clear_line(folder, lines, words):
    write(folder, *lines)
    with pytest.raises(RawFolderError, match=words) as caught:
        read_raw_folder(folder)
    assert "scenes.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scene_named_by_its_file_may_not_be_in_two_splits(folder):
    other = "test" if split_of("a") != "test" else "train"
    write(folder, "file,scene,split", "a.npz,,", f"b.npz,a,{other}")
    with pytest.raises(RawFolderError, match="scene 'a'"):
        read_raw_folder(folder)


def test_no_folder_and_an_empty_one(tmp_path):
    with pytest.raises(RawFolderError, match="nowhere: no such folder"):
        read_raw_folder(tmp_path / "nowhere")
    with pytest.raises(RawFolderError, match="holds no RAW file"):
        read_raw_folder(tmp_path)


def test_a_table_in_another_encoding_is_named(folder):
    (folder / "scenes.csv").write_bytes("file,scene\na.npz,Straße\n".encode("utf-16"))
    with pytest.raises(RawFolderError, match="UTF-8"):
        read_raw_folder(folder)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.binary(max_size=80) | st.text(st.sampled_from('file,scn\n"a.pz\0\r '), max_size=60).map(str.encode))
def test_any_table_gives_entries_or_one_line(folder, data):
    (folder / "scenes.csv").write_bytes(data)
    with contextlib.suppress(RawFolderError):
        assert all(e.path.is_file() for e in read_raw_folder(folder))


def test_splits_are_stable_and_keep_their_shares():
    assert [split_of(s) for s in ("kitchen", "lab_000000", "street 7", "")] == ["train", "train", "validation", "test"]
    counts = Counter(split_of(f"scene {i}") for i in range(4000))
    shares = np.array([counts["train"], counts["validation"], counts["test"]]) / 4000
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)
