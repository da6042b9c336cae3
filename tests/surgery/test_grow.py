"""Room for new heads: what stays, what is copied, and what is refused."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.surgery.models import (  # noqa: E402
    BRANCHES,
    assert_same_bits,
    assert_same_outputs,
    built,
    model_of,
    pictures,
    spec_of,
)
from vision_heads.errors import UserError  # noqa: E402
from vision_heads.spec import HeadSpec  # noqa: E402
from vision_heads.surgery.grow import grow  # noqa: E402
from vision_heads.surgery.model import stored_state  # noqa: E402
from vision_heads.training.optimizer import Ema  # noqa: E402
from vision_heads.training.partial import freeze, grown_network, rest_frozen_norms  # noqa: E402


def _head(levels=(2, 3, 4, 5), name="new") -> HeadSpec:
    return HeadSpec(name=name, classes=("p", "q", "r"), levels=levels)


@pytest.mark.parametrize("branch", [None, "down_p4", "up_p4"])
@pytest.mark.parametrize("like", ["a", "c"])
def test_the_old_heads_stand_and_the_new_one_starts_where_its_guide_is(branch, like) -> None:
    base = model_of(spec_of(branches=BRANCHES))
    growth = grow(base, [_head()], branch=branch, like=like)
    assert_same_bits(base.state, growth.start)
    network = grown_network(growth).eval()
    names = {name: name for name in "abc"}
    assert_same_outputs(built(base), network, names, pictures())
    with torch.no_grad():
        maps = network.features(pictures())
    for level in growth.spec.head(like).levels:
        assert torch.equal(maps["new"][level], maps[like][level])
    own = [n for n in stored_state(network) if n not in base.state and n.startswith("neck")]
    # c has no way up beyond P3: its follower's has nothing to start from, but is there.
    assert bool(own) == (branch is not None or like == "c")


def test_only_what_is_new_is_trained() -> None:
    base = model_of(spec_of({"a": (2, 3, 4, 5)}))
    network = grown_network(growth := grow(base, [_head((3, 4, 5))], branch="up_p4"))
    freeze(network, growth)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trained and all(
        name.startswith(("heads.new.", "neck.up_stages.p4_1.", "neck.up_stages.p5_1."))
        for name in trained
    )
    network.train()
    rest_frozen_norms(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    raw = network(pictures(), {"new": torch.tensor([0, 1])})
    sum(value.square().mean() for value in raw["new"].values()).backward()
    moved = {n for n, v in network.state_dict().items() if not torch.equal(v, before[n])}
    assert moved and not moved & set(base.state)  # statistics of new batch norms alone
    assert all(p.grad is None for n, p in network.named_parameters() if n not in trained)


def test_averaging_leaves_what_stays_alone() -> None:
    network = torch.nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(-0.0)
        network.bias.fill_(1)
    ema = Ema(network, 0.9999, {"weight"})
    ema.updates = 10**6  # long past the start, when averages move little
    with torch.no_grad():
        network.bias.fill_(2)
    ema.update(network)
    assert torch.signbit(ema.network.weight).all()  # -0 and 0 are equal, but not the same bits
    assert 1 < float(ema.network.bias) < 1.001


def test_several_heads_have_branches_of_their_own() -> None:
    base = model_of(spec_of({"a": (2, 3, 4, 5)}))
    growth = grow(base, [_head(), _head(name="newer")], branch="up_p5")
    assert growth.spec.branches == {"up_p5": (("a",), ("new",), ("newer",))}
    assert growth.added == ("new", "newer")


def test_a_neck_that_turns_lower_than_its_heads_keeps_doing_so() -> None:
    base = model_of(spec_of({"a": (3, 4, 5)}, lowest=2))
    growth = grow(base, [_head((4, 5))])
    assert growth.spec.low == 2
    with_p2 = grow(base, [_head((2, 3))])
    assert with_p2.spec.lowest is None
    assert_same_outputs(built(base), grown_network(with_p2).eval(), {"a": "a"}, pictures())


def test_provenance_says_what_was_added() -> None:
    base = model_of(spec_of({"a": (3, 4)}, provenance={"terms": "T1", "seed": "0"}))
    new = {"terms": "T2", "data": "new: boats (3 pictures)", "seed": "7"}
    found = grow(base, [_head((3, 4))], provenance=new).spec.provenance
    assert found == {
        "terms": "T1; T2",
        "seed": "0",
        "added new": "seed: 7",
        "data": "new: boats (3 pictures)",
        "history": "added new to m.safetensors",
    }


@pytest.mark.parametrize(
    ("levels", "how", "message"),
    [
        (
            {"a": (3, 4, 5)},
            {},
            r"heads\.new\.levels: reads P2, but the neck .* turns at P3.*from 3",
        ),
        ({"new": (2, 3)}, {}, "has a head 'new' already"),
        ({"a": (2, 3)}, {"branch": "up_p9"}, "--branch up_p9: no stage.*down_p4"),
        ({"a": (2, 3)}, {"branch": "up_p4"}, "--branch up_p4: no stage"),
        ({"a": (2, 3)}, {"like": "z"}, "no head 'z'"),
    ],
)
def test_what_cannot_be_added(levels, how, message) -> None:
    with pytest.raises(UserError, match=message):
        grow(model_of(spec_of(levels)), [_head()], **how)


def test_a_branch_that_the_head_does_not_pass() -> None:
    with pytest.raises(UserError, match="does not come through it, only through down_p4"):
        grow(model_of(spec_of({"a": (2, 3, 4, 5)})), [_head((2, 3))], branch="up_p5")


def test_in_a_model_with_branches_somebody_must_lead() -> None:
    with pytest.raises(UserError, match=r"--like says whose .* out of a, b, c"):
        grow(model_of(spec_of(branches=BRANCHES)), [_head()])
