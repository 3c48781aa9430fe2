"""Batches drawn ahead are those of drawing in turn, and what goes wrong in drawing one is said when it is taken."""

import threading
from collections.abc import Sequence
from contextlib import closing

import pytest
import torch
from toy_task import ToyData

from drivers.next_ahead import Ahead
from predictor.training import Example, TrainingData, _batches

COUNT, BATCH = 5, 4


def ahead(data: TrainingData, count: int) -> closing[Ahead[tuple[Sequence[Example], torch.Tensor]]]:
    return closing(Ahead(_batches(data, BATCH, generator(), count)))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def same(ones: Sequence[Example], others: Sequence[Example]) -> bool:
    return all(torch.equal(a.planes, b.planes) for a, b in zip(ones, others, strict=True))


def test_batches_are_those_of_drawing_in_turn_and_its_state_goes_on_from_any() -> None:
    in_turn, data = generator(), ToyData()
    with ahead(data, COUNT) as batches:
        for _ in range(COUNT):
            taken, state = next(batches)
            assert same(taken, data.draw(BATCH, in_turn))
            assert torch.equal(state, in_turn.get_state())


def test_the_next_batch_is_drawn_before_it_is_asked_for_and_no_batch_too_many() -> None:
    drawn = threading.Semaphore(0)

    class Counted(ToyData):
        times = 0

        def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
            self.times += 1
            drawn.release()
            return super().draw(batch, generator)

    data = Counted()
    with ahead(data, 2) as batches:
        next(batches)
        assert drawn.acquire(timeout=60)
        assert drawn.acquire(timeout=60), "the second is drawn though only one was asked for"
        next(batches)
    assert data.times == 2


def test_nothing_is_drawn_where_no_batch_is_needed() -> None:
    class Forbidden(ToyData):
        def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
            raise AssertionError("drawn")

    with ahead(Forbidden(), 0):
        pass


def test_what_a_draw_raised_is_raised_where_its_batch_is_taken() -> None:
    class Broken(ToyData):
        times = 0

        def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
            self.times += 1
            if self.times == 2:
                raise OSError("the disk is gone")
            return super().draw(batch, generator)

    with ahead(Broken(), COUNT) as batches:
        next(batches)
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)


def test_drawing_leaves_the_threads_of_the_steps_alone() -> None:
    before, within = torch.get_num_threads(), list[int]()

    class Telling(ToyData):
        def draw(self, batch: int, generator: torch.Generator) -> list[Example]:
            within.append(torch.get_num_threads())
            return super().draw(batch, generator)

    with ahead(Telling(), 1) as batches:
        next(batches)
    assert within == [1]
    assert torch.get_num_threads() == before
