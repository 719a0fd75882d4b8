"""A decoder's memory-bound steps as one kernel each, by `torch.compile`: RMS norms and rotary embeddings.

In eager mode they take a third of the time of the matrix products. Only these are compiled: linears keep their hooks, which
recorders read, and whatever length a batch has, nothing is compiled again.
"""

import sys
from collections.abc import Callable
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import nn

from liit.engine.models import anatomy

Function = Callable[..., Any]


def fuse(model: nn.Module) -> nn.Module:
    """The same model, in place. Values may differ in the last bit, since what stays inside a kernel is not rounded in between.

    The rotary embedding is a function of the module that the model's family is written in, so it is compiled for every model of
    that family in this process. Needs a C compiler, like anything that `torch.compile` makes.
    """
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = MethodType(_compiled(type(module).forward), module)
    for home in {type(part).__module__ for layer in anatomy.decoder_layers(model) for part in layer.modules()}:
        functions = vars(sys.modules[home])
        for name in [name for name in functions if name.startswith("apply_") and name.endswith("rotary_pos_emb")]:
            functions[name] = _compiled(functions[name])
    return model


@cache
def _compiled(function: Function) -> Function:
    if function in _made:
        return function
    compiled: Function = torch.compile(function, dynamic=True)
    _made.add(compiled)
    return compiled


_made: set[Function] = set()
