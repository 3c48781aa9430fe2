from __future__ import annotations

import threading
import weakref
from functools import partial
from typing import Any

import pytest

from drivers import stopping
from drivers.all_cores import cores
from sim.scenes import at_once
from sim.scenes.at_once import AtOnce, Scene, fitting

PATIENCE_S = 60


class Picture:
    """A weak reference to it can be had."""


def test_results_come_in_order_though_work_goes_on_at_once() -> None:
    later = threading.Event()

    def first(name: str) -> str:
        assert later.wait(PATIENCE_S), "the second scene is not worked on meanwhile"
        return f"{name} first"

    def second(name: str) -> str:
        later.set()
        return f"{name} second"

    with AtOnce(2) as pool:
        scenes = [Scene(lambda: "a", [first]), Scene(lambda: "b", [second, second])]
        assert list(pool.results(scenes)) == ["a first", "b second", "b second"]
        assert list(pool.results([])) == []


@pytest.mark.parametrize("count", [1, 3])
def test_few_pictures_are_in_memory_at_a_time(count: int) -> None:
    lock = threading.Lock()
    working = 0
    most_working = most_pictures = 0
    pictures: weakref.WeakSet[Picture] = weakref.WeakSet()

    def draw() -> Picture:
        picture = Picture()
        with lock:
            pictures.add(picture)
        return work(picture)

    def work(picture: Picture) -> Picture:
        nonlocal working, most_working, most_pictures
        with lock:
            working += 1
            most_working = max(most_working, working)
            most_pictures = max(most_pictures, len(pictures))
        with lock:
            working -= 1
        return picture

    def take(number: int, picture: Picture) -> int:
        work(picture)
        return number

    scenes = (Scene(draw, [partial(take, 3 * scene + i) for i in range(1 + scene % 3)]) for scene in range(40))
    with AtOnce(count) as pool:
        assert list(pool.results(scenes)) == [3 * scene + i for scene in range(40) for i in range(1 + scene % 3)]
    assert most_working <= count
    assert most_pictures <= 2 * count  # a thread may not have let go yet of the one before


@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("where", ["picture", "take"])
def test_an_error_is_raised_where_its_result_would_be_taken(where: str, count: int) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("the fourth")

    def scene(number: int) -> Scene[int, int]:
        bad = number in (3, 5)
        take = fail if bad and where == "take" else lambda given: given
        return Scene(fail if bad and where == "picture" else lambda: number, [take, take])

    made: list[int] = []
    with AtOnce(count) as pool, pytest.raises(ValueError, match="the fourth"):
        made.extend(pool.results(map(scene, range(9))))
    assert made == [0, 0, 1, 1, 2, 2]


def test_work_ends_at_its_next_safe_point_where_nobody_waits_any_more() -> None:
    started = threading.Event()

    class StopError(Exception):
        pass

    def stop() -> None:
        if started.is_set():
            raise StopError

    def endless() -> None:
        started.set()
        while True:
            stopping.check()

    def never(_: None) -> None:
        raise AssertionError("a take of a picture that is not there")

    with pytest.raises(StopError), AtOnce(1) as pool, stopping.checked(stop):
        list(pool.results([Scene(endless, [never]), Scene(endless, [never])]))
    assert not any(thread.name.startswith("scene") for thread in threading.enumerate())


def test_as_many_at_once_as_there_are_cores_within_half_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_once, "cores", lambda: 8)
    monkeypatch.setattr(at_once, "_memory", lambda: 16 << 30)
    assert [fitting(each) for each in (0, 1 << 20, 1 << 30, 2 << 30, 100 << 30)] == [8, 8, 8, 4, 1]


def test_the_memory_of_a_container_counts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(at_once, "_CGROUP_LIMIT", limit)
    machine = at_once._memory()
    limit.write_text("max\n")
    assert at_once._memory() == machine
    limit.write_text("1048576\n")
    assert at_once._memory() == 1 << 20
    assert cores() >= 1
