"""What a tap reads is what its module put out, and nothing past the last tap runs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from probekit.api import read_taps


class Chain(nn.Module):
    """The activation and the sum change in place what the modules before them put out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second, self.last = (
            nn.Conv2d(1, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2, 2, 1),
            nn.Conv2d(2, 2, 1),
        )
        self.reached = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.first(x))
        y = self.second(x)
        y += x
        y = self.last(y)
        self.reached = True
        return y


def test_a_tensor_that_is_changed_in_place_later_is_read_as_it_was() -> None:
    torch.manual_seed(0)
    chain, x = Chain(), torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        together = read_taps({"last": chain.last, "second": chain.second, "first": chain.first}, lambda: chain(x))
        for name in ("first", "second", "last"):
            alone = read_taps({name: chain.get_submodule(name)}, lambda: chain(x))
            assert torch.equal(together[name], alone[name]), name
    assert (together["first"] < 0).any()


def test_the_pass_ends_at_the_last_tap_and_the_hooks_are_gone() -> None:
    chain, x = Chain(), torch.zeros(1, 1, 2, 2)
    read_taps({"first": chain.first}, lambda: chain(x))
    assert not chain.reached
    chain(x)
    assert chain.reached
    with pytest.raises(RuntimeError, match="does not reach other"):
        read_taps({"first": chain.first, "other": nn.Identity()}, lambda: chain(x))
    assert not any(module._forward_hooks for module in chain.modules())
