"""A device's server in a thread of the test."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def in_thread(serve: Callable[..., None], *arguments: Any, **options: Any) -> Iterator[str]:
    """Serve until the block ends; gives the URL.

    Args:
        serve: called with these arguments and options, with ``ready``, which takes the URL, and ``stop``.
    """
    stop, urls = threading.Event(), queue.Queue[str]()
    options = {"ready": urls.put, "stop": stop, **options}
    thread = threading.Thread(target=serve, args=arguments, kwargs=options)
    thread.start()
    try:
        yield urls.get(timeout=60)
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"
