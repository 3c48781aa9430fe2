from __future__ import annotations

import threading

import pytest

from drivers import all_cores
from drivers.all_cores import cores, on_all_cores


def test_results_come_in_order_and_no_more_pieces_are_worked_on_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_cores, "cores", lambda: 8)
    together, at_work, most, lock = threading.Barrier(3, timeout=60), 0, 0, threading.Lock()

    def work(piece: int) -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        together.wait()
        with lock:
            at_work -= 1
        return -piece

    assert on_all_cores(work, range(9), 3) == [-piece for piece in range(9)]
    assert most == 3


def test_where_nothing_is_gained_the_caller_works_itself() -> None:
    here = threading.get_ident()
    for pieces, at_most in ((range(1), 8), (range(5), 1), (range(0), 8)):
        assert set(on_all_cores(lambda piece: threading.get_ident(), pieces, at_most)) <= {here}


def test_what_a_piece_raises_comes_through() -> None:
    def work(piece: int) -> None:
        raise ValueError(f"piece {piece}")

    for at_most in (1, 2):
        with pytest.raises(ValueError, match="piece 0"):
            on_all_cores(work, range(3), at_most)
    assert cores() >= 1
