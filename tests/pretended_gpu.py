"""A GPU on machines that have none: tensors that lie on the CPU, say they lie on a GPU, and refuse what a GPU would.

What runs under :func:`pretended_gpu` gives the CPU's numbers, and fails as on a GPU where tensors of both sides meet,
or numpy is given one of the GPU. Threads beside the one that entered it make no tensors there, but may work on them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
_aten = torch.ops.aten
_MOVES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {_aten.index.Tensor, _aten.index_put_.default, _aten._index_put_impl_.default}
# Autograd alone calls it, with zeros that it makes where torch itself believes the tensors to be.
_OF_AUTOGRAD = {_aten.index_put.default}


class OnGpu(Tensor):
    """A tensor that says it lies on a GPU; ``held`` is what it holds, on the CPU."""

    held: Tensor
    made = 0

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        made: OnGpu = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=CPU,  # for torch's own C++ code, which would look for a driver
            requires_grad=held.requires_grad,
        )
        return made

    def __init__(self, held: Tensor) -> None:
        super().__init__()
        self.held = held
        OnGpu.made += 1

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    def __deepcopy__(self, memo: object) -> Tensor:
        copy = self.detach().clone()
        is_weight = isinstance(self, torch.nn.Parameter)
        return torch.nn.Parameter(copy, self.requires_grad) if is_weight else copy.requires_grad_(self.requires_grad)

    def numpy(self, *arguments: Any, **named: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def cpu(self, *arguments: Any, **named: Any) -> Tensor:
        return self.to(CPU)

    def cuda(self, *arguments: Any, **named: Any) -> Tensor:
        return self

    def new_tensor(self, *arguments: Any, **named: Any) -> Tensor:
        return OnGpu(self.held.new_tensor(*arguments, **named))

    def to(self, *arguments: Any, **named: Any) -> Tensor:
        dtype, device = named.pop("dtype", None), named.pop("device", None)
        for argument in arguments:
            if isinstance(argument, torch.dtype):
                dtype = argument
            elif isinstance(argument, Tensor):
                device, dtype = argument.device, argument.dtype
            elif isinstance(argument, (str, torch.device)):
                device = argument
        if device is not None and torch.device(device).type == "cpu":
            moved: Tensor = _ToCpu.apply(self, dtype or self.dtype)  # type: ignore[no-untyped-call]
            return moved
        with torch._C.DisableTorchFunctionSubclass():
            return Tensor.to(self, dtype or self.dtype, **named)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.to and not isinstance(args[0], OnGpu):  # to where another tensor lies
            return args[0].to(args[1].device, args[1].dtype)
        if func is torch.nn.functional.one_hot:  # asks in C++ where its tensor lies
            return OnGpu(func(args[0].held, *args[1:], **kwargs))
        return torch._C._disabled_torch_function_impl(func, types, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _called(func, args, kwargs or {})


class _ToCpu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: OnGpu, dtype: torch.dtype) -> Tensor:
        ctx.dtype = tensor.dtype
        return tensor.held.to(dtype, copy=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return OnGpu(gradient.to(ctx.dtype)), None


class _Everywhere(TorchDispatchMode):
    """Sees the calls that have no tensor of the GPU among their arguments, such as a move there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _called(func, args, kwargs or {})


def _called(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [isinstance(tensor, OnGpu) for tensor in tensors]
    if any(there) and func not in _MOVES | _OF_AUTOGRAD:
        # A GPU takes a number of the CPU, and indices.
        apart = [t for t, on_gpu in zip(tensors, there, strict=True) if not on_gpu and t.dim()]
        if func in _INDEXING and there[0]:
            apart = [t for t in apart if t.is_floating_point()]
        if apart:
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found cuda:0 and cpu")
    asked = kwargs.get("device")
    if asked is not None and torch.device(asked).type == "cuda":
        kwargs, on_gpu = {**kwargs, "device": CPU}, True
    else:
        on_gpu = there[0] if func is _aten.copy_.default else any(there)
    result = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    return return_and_correct_aliasing(func, args, kwargs, tree_map(_put, result)) if on_gpu else result


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, OnGpu) else leaf


def _put(leaf: Any) -> Any:
    return OnGpu(leaf) if isinstance(leaf, Tensor) and not isinstance(leaf, OnGpu) else leaf


@contextlib.contextmanager
def pretended_gpu() -> Iterator[None]:
    """A block in which torch finds a GPU.

    Raises:
        AssertionError: nothing was put on it.
    """
    before, own = OnGpu.made, torch.__future__.get_overwrite_module_params_on_conversion()
    lifted: bool = torch._C._only_lift_cpu_tensors()

    def autocast(device_type: str, *arguments: Any, **named: Any) -> Any:
        return torch.amp.autocast_mode.autocast("cpu", *arguments, **named)

    with (
        patch("torch.accelerator.is_available", lambda: True),
        patch("torch.accelerator.current_accelerator", lambda: GPU),
        patch("torch.cuda._lazy_init", lambda: None),
        patch("torch.autocast", autocast),
        _Everywhere(),  # type: ignore[no-untyped-call]
    ):
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        torch._C._set_only_lift_cpu_tensors(True)
        try:
            yield
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(own)
            torch._C._set_only_lift_cpu_tensors(lifted)
    assert OnGpu.made > before, "nothing was put on the GPU"
