from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from vision_heads.network import Network  # noqa: E402
from vision_heads.spec import HeadSpec, ModelSpec  # noqa: E402
from vision_heads.training.config import OptimizerConfig  # noqa: E402
from vision_heads.training.muon import RMS, Muon, orthogonal  # noqa: E402
from vision_heads.training.optimizer import make_optimizer  # noqa: E402
from vision_heads.training.state import _flatten, _unflatten  # noqa: E402


@pytest.mark.parametrize("shape", [(16, 16), (32, 288), (128, 16), (1, 9)])
def test_steps_are_nearly_orthogonal_and_keep_their_directions(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, *shape, generator=generator)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    step = orthogonal(matrix * 1e-4)
    assert step.shape == matrix.shape
    along = u.mT @ step @ v.mT
    lengths = along.diagonal(dim1=1, dim2=2)
    assert lengths.min() > 0.3
    assert lengths.max() < 1.3
    # Nothing but the lengths of the singular directions changes.
    assert (along - torch.diag_embed(lengths)).abs().max() < 1e-3


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert not orthogonal(torch.zeros(2, 4, 8)).any()


def test_a_step_is_as_large_as_the_learning_rate_says() -> None:
    weight = torch.nn.Parameter(torch.zeros(32, 8, 3, 3))
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    Muon([{"params": [weight], "matrix": True}], lr=0.01).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.01 * RMS, rel=0.2)


def test_matrices_move_by_nesterovs_momentum_made_orthogonal() -> None:
    generator = torch.Generator().manual_seed(4)
    start, *gradients = torch.randn(4, 6, 10, generator=generator)
    weight = torch.nn.Parameter(start.clone().view(6, 5, 2, 1))
    optimizer = Muon(
        [{"params": [weight], "matrix": True, "weight_decay": 0.3}], lr=0.05, momentum=0.8
    )
    expected, mean = start, torch.zeros(6, 10)
    for gradient in gradients:
        weight.grad = gradient.view_as(weight)
        optimizer.step()
        mean = 0.8 * mean + 0.2 * gradient
        ahead = 0.2 * gradient + 0.8 * mean
        move = 0.05 * RMS * 10**0.5 * orthogonal(ahead[None])[0]
        expected = expected * (1 - 0.05 * 0.3) - move
        torch.testing.assert_close(weight.detach().flatten(1), expected)


def test_matrices_of_one_shape_do_not_mix() -> None:
    generator = torch.Generator().manual_seed(5)
    gradients = torch.randn(2, 4, 6, generator=generator) * torch.tensor([1.0, 1e3]).view(2, 1, 1)
    together = [torch.nn.Parameter(torch.zeros(4, 6)) for _ in range(2)]
    idle = torch.nn.Parameter(torch.ones(4, 6))
    for weight, gradient in zip(together, gradients, strict=True):
        weight.grad = gradient.clone()
    optimizer = Muon([{"params": [*together, idle], "matrix": True, "weight_decay": 0.5}], lr=0.1)
    assert optimizer.step(lambda: 7.0) == 7.0
    for weight, gradient in zip(together, gradients, strict=True):
        alone = -0.1 * RMS * 6**0.5 * orthogonal(gradient[None])[0]
        torch.testing.assert_close(weight.detach(), alone, rtol=1e-3, atol=1e-5)
    assert (idle == 1).all(), "what has no gradient does not decay either"


def test_vectors_move_as_with_adamw() -> None:
    start = torch.randn(20, generator=torch.Generator().manual_seed(2))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    first = Muon([{"params": [ours], "weight_decay": 0.1}], lr=0.01)
    second = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1)
    for step in range(5):
        for parameter, optimizer in ((ours, first), (theirs, second)):
            parameter.grad = (start + 1).sin() * (step - 1.5)
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_saved_and_restored_state_goes_on_bit_for_bit() -> None:
    def made() -> tuple[list[torch.nn.Parameter], Muon]:
        generator = torch.Generator().manual_seed(3)
        shapes = ((8, 4, 3, 3), (8,))
        weights = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
        return weights, Muon(
            [{"params": weights[:1], "matrix": True}, {"params": weights[1:]}], 0.1
        )

    def go(weights: list[torch.nn.Parameter], optimizer: Muon, steps: int) -> None:
        for _ in range(steps):
            for weight in weights:
                weight.grad = weight.detach().sin()
            optimizer.step()

    whole, optimizer = made()
    go(whole, optimizer, 5)
    first, optimizer = made()
    go(first, optimizer, 2)
    tensors, groups = _flatten(optimizer.state_dict())
    second, resumed = made()
    for weight, value in zip(second, first, strict=True):
        weight.data.copy_(value.data)
    resumed.load_state_dict(_unflatten(tensors, groups))
    go(second, resumed, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))


def test_hidden_layers_alone_are_matrices_and_nothing_is_forgotten() -> None:
    network = Network(ModelSpec(heads=(HeadSpec(name="pose", kind="headpose", classes=("head",)),)))
    names = {parameter: name for name, parameter in network.named_parameters()}
    groups = make_optimizer(network, OptimizerConfig(name="muon")).param_groups
    moved = [names[p] for group in groups for p in group["params"]]
    assert sorted(moved) == sorted(names.values())
    matrices = {names[p] for p in groups[-1]["params"]}
    assert groups[-1]["matrix"]
    assert not any(group["matrix"] for group in groups[:-1])
    shapes = {name: dict(network.named_parameters())[name].shape for name in matrices}
    assert all(len(shape) == 4 and shape[1] > 3 for shape in shapes.values())
    assert not {"heads.pose.rotation_branches.p2.2.weight"} & matrices
    assert "heads.pose.rotation_branches.p2.0.1.conv.weight" in matrices
