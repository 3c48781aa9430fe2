import contextlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.splits import Split
from workbench.collect.raw_folder import read_raw_folder, split_of
from workbench.errors import RawFolderError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four RAW files (their content is never looked at) and two references."""
    for name in ("b.npz", "a.npz", "c.DNG", "d.nef"):
        (tmp_path / name).write_bytes(b"raw")
    for name in ("a.reference.png", "clean.png"):
        (tmp_path / name).write_bytes(b"png")
    return tmp_path


def write(folder: Path, *lines: str) -> None:
    (folder / "scenes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_without_a_table_every_raw_is_a_scene(folder: Path) -> None:
    (folder / "notes.txt").write_text("notes")
    (folder / ".a.npz").write_bytes(b"hidden")
    entries = read_raw_folder(folder)
    assert [(e.path.name, e.scene, e.split) for e in entries] == [
        (n, s, split_of(s)) for n, s in (("a.npz", "a"), ("b.npz", "b"), ("c.DNG", "c"), ("d.nef", "d"))
    ]
    assert [e.reference and e.reference.name for e in entries] == ["a.reference.png", None, None, None]


def test_the_table_says_scene_split_and_reference(folder: Path) -> None:
    write(folder, "file,scene,split,reference", "b.npz,hall,test,clean.png", "a.npz,hall,test,", "", "c.DNG,,,")
    entries = read_raw_folder(folder)
    assert [(e.path.name, e.scene, e.split) for e in entries] == [
        ("a.npz", "hall", "test"),
        ("b.npz", "hall", "test"),
        ("c.DNG", "c", split_of("c")),
    ]
    assert [e.reference and e.reference.name for e in entries] == ["a.reference.png", "clean.png", None]


def test_columns_may_be_left_out_and_a_spreadsheet_may_have_written_it(folder: Path) -> None:
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
def test_a_bad_table_is_one_clear_line(folder: Path, lines: list[str], words: str) -> None:
    write(folder, *lines)
    with pytest.raises(RawFolderError, match=words) as caught:
        read_raw_folder(folder)
    assert "scenes.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scene_named_by_its_file_may_not_be_in_two_splits(folder: Path) -> None:
    other = "test" if split_of("a") != "test" else "train"
    write(folder, "file,scene,split", "a.npz,,", f"b.npz,a,{other}")
    with pytest.raises(RawFolderError, match="scene 'a'"):
        read_raw_folder(folder)


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(RawFolderError, match="nowhere: no such folder"):
        read_raw_folder(tmp_path / "nowhere")
    with pytest.raises(RawFolderError, match="holds no RAW file"):
        read_raw_folder(tmp_path)


def test_a_table_in_another_encoding_is_named(folder: Path) -> None:
    (folder / "scenes.csv").write_bytes("file,scene\na.npz,Straße\n".encode("utf-16"))
    with pytest.raises(RawFolderError, match="UTF-8"):
        read_raw_folder(folder)


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=150, deadline=None
)
@given(st.binary(max_size=80) | st.text(st.sampled_from('file,scn\n"a.pz\0\r '), max_size=60).map(str.encode))
def test_any_table_gives_entries_or_one_line(folder: Path, data: bytes) -> None:
    (folder / "scenes.csv").write_bytes(data)
    with contextlib.suppress(RawFolderError):
        assert all(e.path.is_file() for e in read_raw_folder(folder))


def test_a_file_is_listed_once_by_whatever_path(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "link.npz").symlink_to(folder / "a.npz")
    (folder / "sub" / "hard.npz").hardlink_to(folder / "a.npz")
    for other in ("./a.npz", "sub/../a.npz", "link.npz", "sub/hard.npz", str(folder / "a.npz")):
        write(folder, "file,scene", "a.npz,s", f"{other},t")
        with pytest.raises(RawFolderError, match=r"line 3: .* is listed twice, first on line 2"):
            read_raw_folder(folder)


def test_one_name_in_two_folders_is_one_scene_only_where_the_table_says_so(folder: Path) -> None:
    for day in ("day1", "day2"):
        (folder / day).mkdir()
        for name in ("IMG_1.npz", "IMG_1.dng"):
            (folder / day / name).write_bytes(b"raw")
    write(folder, "file,scene", "day1/IMG_1.npz,", "day2/IMG_1.npz,")
    with pytest.raises(RawFolderError, match=r"line 3: day2/IMG_1\.npz and a file of the same name .*\(line 2\)"):
        read_raw_folder(folder)
    write(folder, "file,scene", "day1/IMG_1.npz,one", "day2/IMG_1.npz,two")
    assert {e.scene for e in read_raw_folder(folder)} == {"one", "two"}
    write(folder, "file,scene", "day1/IMG_1.npz,", "day1/IMG_1.dng,")  # one shot in two kinds
    assert {e.scene for e in read_raw_folder(folder)} == {"IMG_1"}


COMPOSED, DECOMPOSED = "K\u00fcche", "Ku\u0308che"


def test_names_are_found_in_whatever_unicode_form(folder: Path) -> None:
    (folder / f"{DECOMPOSED}.npz").write_bytes(b"raw")
    (folder / f"{COMPOSED}.reference.png").write_bytes(b"png")
    write(folder, "file", f"{COMPOSED}.npz")
    (entry,) = read_raw_folder(folder)
    assert entry.path.is_file()
    assert entry.reference is not None
    write(folder, "file,reference", f"a.npz,{DECOMPOSED}.reference.png")
    (entry,) = read_raw_folder(folder)
    assert entry.reference is not None


def test_names_that_differ_in_unicode_form_alone_are_refused(folder: Path) -> None:
    for name in (COMPOSED, DECOMPOSED):
        (folder / f"{name}.npz").write_bytes(b"raw")
    if len({p.name for p in folder.iterdir() if "che" in p.name}) == 1:
        pytest.skip("this disk knows one form only")
    with pytest.raises(RawFolderError, match="differ in their Unicode form alone"):
        read_raw_folder(folder)
    write(folder, "file,scene,split", f"a.npz,{COMPOSED},train", f"b.npz,{DECOMPOSED},test")
    with pytest.raises(RawFolderError, match=r"line 3: scene .* is spelt in another Unicode form than on line 2"):
        read_raw_folder(folder)


def test_a_folder_whose_name_is_not_utf8_is_one_line(folder: Path) -> None:
    other = folder / os.fsdecode(b"caf\xe9")
    try:
        other.mkdir()
    except OSError:
        pytest.skip("this disk knows only names in UTF-8")
    (other / "a.npz").write_bytes(b"raw")
    with pytest.raises(RawFolderError, match="the folder's name is not UTF-8") as caught:
        read_raw_folder(other)
    assert str(caught.value).isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_the_tables_place_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "scenes.csv")
    with pytest.raises(RawFolderError, match="cannot be read: is a named pipe"):
        read_raw_folder(folder)


def test_what_a_name_holds_reaches_no_terminal(folder: Path) -> None:
    (folder / "x\x1b[31m.npz").write_bytes(b"raw")
    write(folder, "file,split", "x\x1b[31m.npz,tr\x1b[0m")
    with pytest.raises(RawFolderError) as caught:
        read_raw_folder(folder)
    assert str(caught.value).isprintable()


def test_splits_are_stable_and_keep_their_shares() -> None:
    assert [split_of(s) for s in ("kitchen", "lab_000000", "street 7", "")] == ["train", "train", "validation", "test"]
    counts = Counter(split_of(f"scene {i}") for i in range(4000))
    shares = np.array([counts[Split.TRAIN], counts[Split.VALIDATION], counts[Split.TEST]]) / 4000
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.03)


@pytest.mark.skipif(os.name == "nt", reason="links and pipes")
@pytest.mark.parametrize("kind", ["link to nothing", "link to itself", "pipe", "folder"])
@pytest.mark.parametrize("table", [False, True])
def test_a_reference_that_is_there_and_no_file_is_not_passed_over(folder: Path, kind: str, table: bool) -> None:
    name = sorted(p.name for p in folder.glob("*.npz"))[0]
    beside = folder / f"{name.removesuffix('.npz')}.reference.png"
    beside.unlink(missing_ok=True)
    if kind.startswith("link"):
        beside.symlink_to("nowhere.png" if kind == "link to nothing" else beside.name)
    elif kind == "pipe":
        os.mkfifo(beside)
    else:
        beside.mkdir()
    (folder / "scenes.csv").unlink(missing_ok=True)
    if table:
        (folder / "scenes.csv").write_text(f"file\n{name}\n")
    with pytest.raises(RawFolderError, match="the reference cannot be read: it is no file"):
        read_raw_folder(folder)
