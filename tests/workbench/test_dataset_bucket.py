"""Blobs in a bucket of a real object store: durable in the bucket, read through a bounded, checked cache."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import pytest
from fake_isp import FakeIsp, make_raw, make_set
from s3_server import SECRET, S3Server

from drivers.splits import Split
from workbench.errors import DatasetError
from workbench.lab.dataset import Dataset
from workbench.lab.dataset.blob_cache import BlobCache
from workbench.lab.dataset.blobs import BlobKey
from workbench.lab.dataset.verify import verify
from workbench.lab.lab_config import LabConfigError

obstore = pytest.importorskip("obstore", reason="obstore is absent (the extra `storage`)")


@pytest.fixture
def lab(tmp_path: Path, object_store: S3Server) -> Path:
    lab = named(tmp_path / "lab", "s3://bucket/some/lab")
    device = FakeIsp()
    with Dataset.open(lab, create=True) as dataset:
        dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="r")
        made = [device.process(make_raw(0), make_set(i)) for i in range(4)]
        dataset.add_captures(device.info(), made, purpose="collect")
    return lab


def named(lab: Path, url: str) -> Path:
    lab.mkdir()
    (lab / "lab.toml").write_text(f'[storage]\nblobs = "{url}"\n')
    return lab


def test_another_host_finds_in_the_bucket_what_was_kept(lab: Path, object_store: S3Server) -> None:
    keys = object_store.keys()
    assert len(keys) == 5
    assert all(key.startswith("some/lab/") for key in keys)
    assert not (lab / "blobs").exists()
    shutil.rmtree(lab / "cache")
    with Dataset.open(lab) as dataset:
        outputs = [capture.rgb().encoded for capture in dataset.captures()]
        assert outputs == [FakeIsp().process(make_raw(0), make_set(i)).rgb.encoded for i in range(4)]
        assert dataset.raws()[0].load().hash == make_raw(0).hash
        assert dataset.blobs.size(dataset.captures()[0].output_hash, "png") == len(outputs[0])
        assert (verify(dataset).problems, verify(dataset).unused_files) == ([], 0)


def test_what_was_read_is_not_fetched_again_unless_it_is_damaged(lab: Path, object_store: S3Server) -> None:
    with Dataset.open(lab) as dataset:
        first = dataset.captures()[0]
        object_store.stop()
        whole = first.rgb().encoded  # what this host wrote it need not fetch
        object_store.start()
        cached = dataset.blobs.path(first.output_hash, "png")
        cached.write_bytes(cached.read_bytes()[:-1] + b"?")
        assert first.rgb().encoded == whole
        assert cached.read_bytes() == whole


def test_damage_in_the_bucket_is_found_behind_the_cache(lab: Path, object_store: S3Server) -> None:
    with Dataset.open(lab) as dataset:
        hashes = [capture.output_hash for capture in dataset.captures()]
        bucket, kept = object_store.client, object_store.keys()
        keys = [next(key for key in kept if digest in key) for digest in hashes[:2]]
        obstore.put(bucket, keys[0], bytes(obstore.get(bucket, keys[0]).bytes()) + b"?")
        obstore.delete(bucket, keys[1])
        obstore.put(bucket, "some/lab/ab/unknown.png", b"left")
        result = verify(dataset)
    assert [("damaged" in p, "missing" in p) for p in sorted(result.problems, key=lambda p: "missing" in p)] == [
        (True, False),
        (False, True),
    ]
    assert result.unused_files == 1


def test_a_store_that_comes_back_is_waited_for(lab: Path, object_store: S3Server) -> None:
    device = FakeIsp()
    object_store.stop()
    back = threading.Timer(0.5, object_store.start)
    back.start()
    with Dataset.open(lab) as dataset:
        dataset.add_captures(device.info(), [device.process(make_raw(0), make_set(9))], purpose="collect")
        back.join()
        assert len(dataset.captures()) == 5
        assert verify(dataset).problems == []


def test_a_store_that_is_away_is_one_line_and_leaves_no_row(lab: Path, object_store: S3Server) -> None:
    device = FakeIsp()
    object_store.stop()
    try:
        with Dataset.open(lab, busy_s=0.2) as dataset:
            with pytest.raises(DatasetError, match="check that the object store runs") as told:
                dataset.add_captures(device.info(), [device.process(make_raw(0), make_set(9))], purpose="collect")
            assert len(dataset.captures()) == 4
    finally:
        object_store.start()
    assert "\n" not in str(told.value)
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_SECRET_ACCESS_KEY", "wrong-and-secret", "SignatureDoesNotMatch"),
        ("AWS_ACCESS_KEY_ID", "nobody", "InvalidAccessKeyId"),
    ],
)
def test_credentials_that_are_refused_are_one_line_without_them(
    lab: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    shutil.rmtree(lab / "cache")
    monkeypatch.setenv(name, value)
    device = FakeIsp()
    with Dataset.open(lab) as dataset:
        kept = [capture.output_hash for capture in dataset.captures()]
        for ask in (
            lambda: dataset.blobs.read(kept[0], "png"),
            lambda: list(dataset.blobs.files()),
            lambda: dataset.add_captures(device.info(), [device.process(make_raw(0), make_set(9))], purpose="collect"),
        ):
            with pytest.raises(
                DatasetError, match=rf"^s3://bucket/some/lab\S*: the object store refuses: {said}; check .*AWS_SECRET"
            ) as told:
                ask()
            assert "\n" not in str(told.value)
            assert value not in str(told.value)
            assert SECRET not in str(told.value)
        with pytest.raises(DatasetError, match="the object store refuses: 403"):
            dataset.blobs.size(kept[0], "png")
        assert [capture.output_hash for capture in dataset.captures()] == kept


def test_a_bucket_that_is_not_there_is_named(tmp_path: Path, object_store: S3Server) -> None:
    with Dataset.open(named(tmp_path / "lab", "s3://elsewhere/lab"), create=True) as dataset:
        for ask in (
            lambda: dataset.add_raw(make_raw(0), scene="s", split=Split.TRAIN, name="r"),
            lambda: dataset.blobs.read("0" * 64, "png"),
            lambda: list(dataset.blobs.files()),
        ):
            with pytest.raises(DatasetError, match=r"^s3://elsewhere/lab\S*: there is no such bucket; make it"):
                ask()


def test_the_cache_is_bounded_and_drops_what_was_not_read_for_longest(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, 10_000)
    names = []
    for i in range(30):
        data = bytes([i]) * 1000
        names.append(f"{BlobKey.of(data, 'png').hash}.png")
        cache.put(names[-1], data)
        assert cache.get(names[0]) is not None
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.png")) <= 10_500
    assert cache.get(names[1]) is None
    assert cache.get(names[-1]) is not None


@pytest.mark.parametrize(
    "url", ["s3://key:secret@bucket/lab", "http://bucket/lab", "s3://bucket/lab?key=secret", "s3://"]
)
def test_a_place_that_is_none_is_one_line(tmp_path: Path, url: str) -> None:
    with pytest.raises(LabConfigError, match="must be s3://BUCKET/PREFIX") as told:
        Dataset.open(named(tmp_path / "lab", url))
    assert "secret" not in str(told.value)


def test_what_is_missing_is_named(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(DatasetError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        Dataset.open(lab)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(DatasetError, match="needs obstore, which is not here; run pip install"):
        Dataset.open(lab)
