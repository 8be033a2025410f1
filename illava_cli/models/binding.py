"""Giving one module instance another forward, without touching its class.

A subclass or a changed `__class__` breaks loading and accelerate's hooks (weights stay random, the
hook calls the old forward); an instance's forward breaks neither.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import nn


def stock_forward(module: nn.Module) -> Callable:
    """The forward that `replace_forward` would replace; under accelerate's hook if there is one."""
    return module._old_forward if hasattr(module, "_hf_hook") else module.forward


def replace_forward(module: nn.Module, forward: Callable) -> None:
    """Let `forward(...)` run where `module(...)` is called, inside accelerate's hook if there is one."""
    setattr(module, "_old_forward" if hasattr(module, "_hf_hook") else "forward", forward)


def bind(module: nn.Module, forward: Callable) -> None:
    """`replace_forward` by one that takes the module as its first argument."""
    replace_forward(module, types.MethodType(forward, module))


def at_hand(module: nn.Module) -> AbstractContextManager:
    """Meanwhile a module's own parameters are on its device: they may be offloaded."""
    if not hasattr(module, "_hf_hook"):
        return nullcontext()
    from accelerate.utils import align_module_device

    return align_module_device(module)
