"""A folded network says what the unfolded one says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from probekit.api.folding import fold_batch_norm, fold_batch_norms


class Net(nn.Module):
    """Two convolutions with norms, a norm alone, and a convolution that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, groups=4), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.alone = nn.BatchNorm2d(8)
        self.twice, self.bn2 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, affine=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.alone(self.block(self.bn1(self.conv1(x)).relu()))
        return self.bn2(self.twice(self.twice(x)))


def network() -> Net:
    torch.manual_seed(0)
    net = Net()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("bias", [False, True])
def test_one_pair(bias: bool) -> None:
    torch.manual_seed(1)
    conv, norm = nn.Conv2d(4, 6, 3, bias=bias), nn.BatchNorm2d(6)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.eval()
    x = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        wanted = norm(conv(x))
        fold_batch_norm(conv, norm)
        torch.testing.assert_close(conv(x), wanted, rtol=1e-5, atol=1e-5)


def test_pairs_are_folded_what_is_tapped_or_shared_is_not_and_the_output_stays() -> None:
    net, x = network(), torch.randn(1, 3, 12, 12)
    wanted = net(x)
    error = fold_batch_norms(net, lambda: net(x), {"end": net.bn2, "first": net.conv1}, (nn.BatchNorm2d,))
    left = [name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == ["bn1", "alone", "bn2"]
    assert error < 1e-5
    torch.testing.assert_close(net(x), wanted, rtol=1e-4, atol=1e-5)


class Twice(nn.Module):
    """Uses its convolution's output beside its norm, which no hook on a module sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.end = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Identity()
        self.norm.running_mean.fill_(2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.end(self.norm(x) + x)


def test_a_fold_that_changes_the_features_is_a_bug() -> None:
    net = Twice().eval().requires_grad_(False)
    with pytest.raises(RuntimeError, match="relative error"):
        fold_batch_norms(net, lambda: net(torch.ones(1, 3, 2, 2)), {"end": net.end}, (nn.BatchNorm2d,))
