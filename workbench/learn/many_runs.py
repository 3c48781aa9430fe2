"""Many runs that do not depend on each other: one after another here, or at once as tasks of a Ray cluster.

Every host of the cluster sees the lab under the same path, so a run of a task is in the lab as from one process.
A task whose worker or host is lost is started again, and takes up the run of its name where that was kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from workbench.errors import RunError

if TYPE_CHECKING:
    from workbench.lab.runs import RunFolder

RETRIES = 3
"""Times that a task is started again after its worker was lost."""
WAIT_S = 1.0


def run_on_cluster(
    cluster: str, train: Callable[..., RunFolder], jobs: Mapping[Any, Mapping[str, Any]], on_done: Callable[[int], None]
) -> dict[Any, RunFolder]:
    """The finished run of each job.

    Args:
        cluster: ``auto`` for the one that this host is part of, ``local`` for one of this host's processes, or an
            address such as ``ray://head.example:10001``.
        train: makes a run; called on the cluster with a job's options. It has one GPU where the cluster has any.
        jobs: options by key.
        on_done: called with how many are done, every second at least.

    Raises:
        RunError: Ray is not installed, there is no such cluster, or a run's host was lost again and again.
        WorkbenchError: what a run raised.
    """
    try:
        import ray
    except ImportError as error:
        raise RunError(
            f"--cluster needs Ray ({error}); `pip install 'isp-workbench[cluster]'`, or leave it out"
        ) from None
    from ray.exceptions import RayError, RayTaskError

    from workbench.lab.runs import RunFolder

    try:
        ray.init(address=cluster, logging_level=logging.ERROR, log_to_driver=False, ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        told = str(error).splitlines()[0]
        raise RunError(f"--cluster {cluster}: no Ray cluster there ({told}); `ray start --head` starts one") from None
    waiting: dict[Any, Any] = {}
    done: dict[Any, RunFolder] = {}
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_path_of)
        waiting = {task.remote(train, dict(job)): key for key, job in jobs.items()}
        on_done(0)
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=WAIT_S)
            for reference in ready:
                try:
                    done[waiting[reference]] = RunFolder.open(ray.get(reference))
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
    return {key: done[key] for key in jobs}


def _path_of(train: Callable[..., RunFolder], options: dict[str, Any]) -> Any:
    return train(**options).path
