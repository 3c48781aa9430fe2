"""Training on several processes (torch.distributed): all draw the same batches, each takes its share of every one.

What a process computes of its share is added up over all of them, so that the gradients, the weights and the losses are
those of one process at the same batch, within rounding, and the same in every process. Without a process group there is
one process, and nothing is added up.
"""

from __future__ import annotations

import datetime
import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

DEADLINE_S = 300.0
"""What a process waits for the others at most."""
T = TypeVar("T")


def join() -> None:
    """Join the process group that torch's launcher tells of in the environment: NCCL between GPUs, else Gloo.

    Raises:
        RuntimeError: the others were not reached in :data:`DEADLINE_S`.
    """
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=datetime.timedelta(seconds=DEADLINE_S))


def leave() -> None:
    """Leave the group, if there is one."""
    if world() > 1:
        dist.destroy_process_group()


def world() -> int:
    """How many processes train."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0; the first one writes what is kept."""
    return dist.get_rank() if world() > 1 else 0


def share(count: int) -> slice:
    """This process's part of so many things; the parts are as equal as can be, and follow one another."""
    return slice(count * rank() // world(), count * (rank() + 1) // world())


def agree(value: T) -> T:
    """What the first process has."""
    if world() == 1:
        return value
    told = [value]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def add_up(*figures: float) -> list[float]:
    """Each figure's sum over all processes."""
    if world() == 1:
        return list(figures)
    where = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    total = torch.tensor(figures, dtype=torch.float64, device=where)
    dist.all_reduce(total)
    return [float(figure) for figure in total]


def add_gradients(network: nn.Module) -> None:
    """The gradients of all processes, added up in place; every process has some of the same weights."""
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    if world() == 1 or not gradients:
        return
    # At once: the networks are small, a step is short, and a message costs the same whatever its size.
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


class OtherDoneError(Exception):
    """A process other than the first has done its share; the first one goes on alone."""
