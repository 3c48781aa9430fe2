"""Many runs that do not depend on each other, at once as tasks of a Ray cluster.

Every host of the cluster sees the lab under the same path, so a run of a task is in the lab as from one process.
A task whose worker or host is lost is started again, and takes up the run of its name where that was kept. A board is a
resource of Ray with its name in ``lab.toml``: a task that needs it runs on a host that offers it, one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError

if TYPE_CHECKING:
    from workbench.lab.runs import RunFolder

RETRIES = 3
"""Times that a task is started again after its worker was lost."""
WAIT_S = 1.0


@dataclass(frozen=True)
class Task:
    """What is called on the cluster.

    Attributes:
        options: of the call.
        gpu: whether it has one GPU where the cluster has any.
        boards: names of boards that it needs for itself.
    """

    options: Mapping[str, Any]
    gpu: bool = True
    boards: tuple[str, ...] = ()


def run_on_cluster(
    cluster: str, train: Callable[..., RunFolder], jobs: Mapping[Any, Mapping[str, Any]], on_done: Callable[[int], None]
) -> dict[Any, RunFolder]:
    """The finished run of each job; see :func:`call_on_cluster`.

    Args:
        train: makes a run; called on the cluster with a job's options, with a GPU where there are any.
        jobs: options by key.

    Raises:
        RunError: as there.
        WorkbenchError: what a run raised.
    """
    from workbench.lab.runs import RunFolder

    tasks = {key: Task({"train": train, "options": dict(job)}) for key, job in jobs.items()}
    paths = call_on_cluster(cluster, _path_of, tasks, on_done)
    return {key: RunFolder.open(path) for key, path in paths.items()}


def call_on_cluster(
    cluster: str, function: Callable[..., Any], tasks: Mapping[Any, Task], on_done: Callable[[int], None]
) -> dict[Any, Any]:
    """What a function gives of each task's options, each call in a process of its own.

    Args:
        cluster: ``auto`` for the one that this host is part of, ``local`` for one of this host's processes, which may
            reach every board, or an address such as ``ray://head.example:10001``.
        function: can be imported on every host; so can what it gives.
        tasks: by key.
        on_done: called with how many are done, every second at least.

    Raises:
        RunError: Ray is not installed, there is no such cluster, no host of it offers a board, or a task's host was
            lost again and again.
        WorkbenchError: what a call raised.
    """
    try:
        import ray
    except ImportError as error:
        raise RunError(
            f"--cluster needs Ray ({error}); `pip install 'isp-workbench[cluster]'`, or leave it out"
        ) from None
    from ray.exceptions import RayError, RayTaskError

    boards = sorted({board for task in tasks.values() for board in task.boards})
    own = {"resources": dict.fromkeys(boards, 1)} if cluster == "local" else {}
    try:
        ray.init(address=cluster, logging_level=logging.ERROR, log_to_driver=False, ignore_reinit_error=True, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        told = str(error).splitlines()[0]
        raise RunError(f"--cluster {cluster}: no Ray cluster there ({told}); `ray start --head` starts one") from None
    waiting: dict[Any, Any] = {}
    done: dict[Any, Any] = {}
    try:
        offered = ray.cluster_resources()
        if absent := [board for board in boards if not offered.get(board)]:
            raise RunError(
                f"--cluster {cluster}: no host of it offers the board {absent[0]}; start Ray on the host that reaches "
                f"it with `ray start … --resources '{{\"{absent[0]}\": 1}}'`"
            )
        # A worker of its own for each call: what one leaves behind in its process is not the next one's.
        remote = ray.remote(num_cpus=1, max_retries=RETRIES, max_calls=1)(function)
        for key, task in tasks.items():
            gpus = 1 if task.gpu and offered.get("GPU") else 0
            call = remote.options(num_gpus=gpus, resources=dict.fromkeys(task.boards, 1))
            waiting[call.remote(**task.options)] = key
        on_done(0)
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=WAIT_S)
            for reference in ready:
                try:
                    done[waiting[reference]] = ray.get(reference)
                except RayTaskError as error:
                    raise error.cause from None  # as it would have been here
                except RayError as error:
                    raise RunError(f"--cluster {cluster}: {str(error).splitlines()[0]}; run it again") from None
                del waiting[reference]
            on_done(len(done))
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
        ray.shutdown()
    return {key: done[key] for key in tasks}


def _path_of(train: Callable[..., RunFolder], options: dict[str, Any]) -> Any:
    return train(**options).path
