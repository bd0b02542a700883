"""What a tap reads is what its module put out, nothing past the last tap runs, and an edit is all that changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from probekit.api import ProbekitError, read_taps
from probekit.api.taps import Edit, editing


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


def passed(chain: Chain, x: torch.Tensor, **given: object) -> dict[str, torch.Tensor]:
    modules = {name: chain.get_submodule(name) for name in ("first", "second", "last")}
    with torch.no_grad():
        return read_taps(modules, lambda: chain(x), **given)


def edit(layer: str, *images: dict[int, float]) -> Edit:
    channels, values = ([list(get(of)) for of in images] for get in (dict.keys, dict.values))
    return Edit(layer, [np.array(of, dtype=np.int64) for of in channels], [np.array(of) for of in values])


def test_each_image_of_a_batch_goes_on_with_its_own_edit() -> None:
    torch.manual_seed(0)
    chain, x = Chain(), torch.randn(3, 1, 4, 5)
    axes = dict.fromkeys(("first", "second", "last"), 1)
    plain = passed(chain, x, axes=axes)
    # The third image has no edit: a short batch may be filled up.
    with editing(edit("second", {1: 7.0}, {0: -3.0, 1: 2.0}), "chain"):
        edited = passed(chain, x, axes=axes)
    expected = plain["second"].clone()
    expected[0, 1], expected[1, 0], expected[1, 1] = 7.0, -3.0, 2.0
    assert torch.equal(edited["first"], plain["first"])
    assert torch.equal(edited["second"], expected)
    with torch.no_grad():  # what the chain does from there
        after = chain.last(expected + plain["first"].relu())
    torch.testing.assert_close(edited["last"], after)
    assert torch.equal(edited["last"][2], plain["last"][2])
    assert torch.equal(passed(chain, x, axes=axes)["second"], plain["second"])


def test_prefix_tokens_are_never_edited() -> None:
    tokens, after = nn.Identity(), nn.Identity()
    x = torch.arange(24.0).reshape(1, 4, 6)
    with editing(edit("tokens", {2: -1.0}), "vit"):
        maps = read_taps({"tokens": tokens, "after": after}, lambda: after(tokens(x)), {"tokens": 2}, {"tokens": 1})
    expected = x.clone()
    expected[:, 1:, 2] = -1.0
    assert torch.equal(maps["tokens"], expected)
    assert torch.equal(maps["after"], expected)
    assert x[0, 1, 2] == 8.0


def test_the_last_tap_can_be_edited_and_the_pass_ends_there() -> None:
    chain = Chain()
    with editing(edit("first", {0: 5.0}), "chain"), torch.no_grad():
        maps = read_taps({"first": chain.first}, lambda: chain(torch.zeros(1, 1, 2, 2)), {"first": 1})
    assert (maps["first"][0, 0] == 5.0).all()
    assert not chain.reached


def test_an_edit_ends_with_its_block_whatever_happens() -> None:
    chain, x = Chain(), torch.zeros(1, 1, 2, 2)
    with pytest.raises(IndexError), editing(edit("first", {5: 1.0}), "chain"):
        passed(chain, x, axes={"first": 1})
    assert not any(module._forward_hooks for module in chain.modules())
    with torch.no_grad():
        expected = chain.first(x)
    assert torch.equal(passed(chain, x, axes={"first": 1})["first"], expected)


@pytest.mark.parametrize(
    ("layer", "given"),
    [("first", {}), ("first", {"axes": {"second": 1}}), ("elsewhere", {"axes": {"elsewhere": 1}})],
)
def test_an_edit_that_no_pass_made_is_an_error_in_one_line(layer: str, given: dict[str, object]) -> None:
    with pytest.raises(ProbekitError, match=f"^probekit-chain/chain: {layer} cannot be ablated: .*`axes`") as error:  # noqa: SIM117
        with editing(edit(layer, {0: 1.0}), "probekit-chain/chain"):
            passed(Chain(), torch.zeros(1, 1, 2, 2), **given)
    assert "\n" not in str(error.value)
