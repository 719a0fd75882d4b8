"""What stands in for DeepSpeed's engine where it is not installed: one device, weights and gradients kept in float32."""

from typing import Any

import torch
from torch import nn


class PlainEngine:
    """Called, told of a boundary, sent backward and stepped as DeepSpeed's engine is.

    The model's own weights keep their dtype; AdamW moves copies of them in float32, and gradients of micro-batches are added in
    float32, as DeepSpeed does with `grad_accum_dtype: fp32`.
    """

    def __init__(self, module: nn.Module, rate: float, device: str, clip: float = 1.0) -> None:
        self.module, self.device, self.clip = module, torch.device(device), clip
        self.weights: list[torch.Tensor] = [weight for weight in module.parameters() if weight.requires_grad]
        self.masters = [nn.Parameter(weight.detach().float().clone()) for weight in self.weights]
        self.optimizer = torch.optim.AdamW(self.masters, lr=rate, weight_decay=0.0, fused=True)
        for weight, master in zip(self.weights, self.masters, strict=True):
            master.grad = torch.zeros_like(master)
            weight.register_post_accumulate_grad_hook(self._adder(master))

    def _adder(self, master: nn.Parameter) -> Any:
        def add(weight: torch.Tensor) -> None:
            assert master.grad is not None
            assert weight.grad is not None
            master.grad += weight.grad
            weight.grad = None

        return add

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        return self.module(*args, **inputs)

    def set_gradient_accumulation_boundary(self, last: bool) -> None:
        """Nothing is reduced over ranks, so nothing depends on it."""

    def backward(self, loss: torch.Tensor, scale_wrt_gas: bool = False) -> None:
        loss.backward()

    def finish(self) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self.masters, self.clip, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        with torch.no_grad():
            torch._foreach_copy_(self.weights, list[torch.Tensor](self.masters))
        return float(norm)
