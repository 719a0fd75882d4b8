"""The last layer's MLP for the positions that anything is read from: responses are a fifth of a sample, or less.

Legend: B samples, S positions, M rows that are read, H hidden.
"""

from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import nn


class RowsOnly(AbstractContextManager["RowsOnly"]):
    """While entered, the MLP of a decoder layer is given the rows of a mask (B, S), and adds nothing to the others.

    Exact for the rows themselves, since an MLP sees one position at a time. A layer without an `mlp` runs as it is.
    """

    def __init__(self, layer: nn.Module, rows_BS: torch.Tensor) -> None:
        self.mlp = getattr(layer, "mlp", None)
        self.rows = rows_BS
        self._hooks = ExitStack()

    def __enter__(self) -> "RowsOnly":
        if isinstance(self.mlp, nn.Module):
            self._hooks.callback(self.mlp.register_forward_pre_hook(self._gather).remove)
            self._hooks.callback(self.mlp.register_forward_hook(self._scatter).remove)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._hooks.close()

    def _gather(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (inputs[0][self.rows][None], *inputs[1:])

    def _scatter(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        rows = output[0] if isinstance(output, tuple) else output  # a mixture of experts returns its routing too
        whole = rows.new_zeros(*self.rows.shape, rows.shape[-1])
        whole[self.rows] = rows.reshape(-1, rows.shape[-1])
        return (whole, *output[1:]) if isinstance(output, tuple) else whole
