from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from vision_heads.spec import LEVELS, HeadSpec, ModelSpec  # noqa: E402
from vision_heads.trunk.backbone import Backbone, scale_of  # noqa: E402
from vision_heads.trunk.blocks import DCB, IRDCB, LDown  # noqa: E402
from vision_heads.trunk.hepan import Hepan  # noqa: E402


def one_head(levels: tuple[int, ...], fusion: str = "c2f") -> ModelSpec:
    return ModelSpec(fusion=fusion, heads=(HeadSpec(name="it", classes=("x",), levels=levels),))


def test_dcb_is_a_residual_of_depthwise_layers() -> None:
    block = DCB(16).eval()
    x = torch.rand(2, 16, 9, 7)
    with torch.no_grad():
        assert block(x).shape == x.shape
        block.compress.bn.weight.zero_()
        block.compress.bn.bias.zero_()
        torch.testing.assert_close(block(x), x)
    assert [layer.conv.groups for layer in block.depthwise] == [32, 32]


def test_irdcb_and_ldown_shapes() -> None:
    x = torch.rand(1, 24, 10, 12)
    assert IRDCB(24, 32, 2)(x).shape == (1, 32, 10, 12)
    down = LDown(24, 48)
    assert down(x).shape == (1, 48, 5, 6)
    assert down.depthwise.conv.groups == 24 and down.depthwise.conv.stride == (2, 2)


def test_ldown_downsamples_in_fp32_under_the_cpus_autocast() -> None:
    down = LDown(8, 16).eval()
    x = torch.rand(2, 8, 6, 6).bfloat16()
    halved: list[torch.Tensor] = []
    down.depthwise.register_forward_hook(lambda _module, _inputs, out: halved.append(out))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = down(x)
        plain = down.pointwise(down.depthwise(x.float()))
    assert out.dtype == torch.bfloat16
    inside_autocast, expected = halved[1], down.depthwise(x.float())
    assert inside_autocast.dtype == torch.bfloat16
    assert halved[0].dtype == torch.float32
    torch.testing.assert_close(halved[0], expected)
    torch.testing.assert_close(out, plain, atol=0.02, rtol=0.02)
    # Without autocast, weights and picture share their type, whatever it is.
    assert down.bfloat16()(x).dtype == torch.bfloat16


@pytest.mark.parametrize("size", ["n", "s", "m"])
def test_backbone_strides_and_channels(size: str) -> None:
    scale = scale_of(size)
    with torch.no_grad():
        maps = Backbone(scale)(torch.rand(2, 3, 64, 96))
    for level in LEVELS:
        expected = (2, scale.channels[level], 64 // 2**level, 96 // 2**level)
        assert maps[level].shape == expected


@pytest.mark.parametrize("fusion", ["c2f", "irdcb"])
@pytest.mark.parametrize("levels", [(2, 3, 4, 5), (3, 4, 5), (2, 3), (2,), (5,), (4, 5)])
def test_neck_gives_the_levels_asked_for(fusion: str, levels: tuple[int, ...]) -> None:
    scale = scale_of("n")
    neck = Hepan(scale, one_head(levels, fusion))
    maps = {lv: torch.rand(2, scale.channels[lv], 64 // 2**lv, 64 // 2**lv) for lv in LEVELS}
    pyramid = neck(maps)["it"]
    assert tuple(pyramid) == levels
    for level in levels:
        assert pyramid[level].shape == maps[level].shape


def test_neck_for_coarse_levels_never_touches_p2() -> None:
    scale = scale_of("n")
    neck = Hepan(scale, one_head((3, 4, 5)))
    assert "p2" not in neck.down_stages
    maps = {lv: torch.rand(2, scale.channels[lv], 64 // 2**lv, 64 // 2**lv) for lv in LEVELS}
    maps[2].requires_grad_(True)
    maps[3].requires_grad_(True)
    sum(m.sum() for m in neck(maps)["it"].values()).backward()
    assert maps[2].grad is None and maps[3].grad is not None


def test_cross_level_connection_reaches_the_way_up() -> None:
    """The backbone's P4 is fused twice: on the way down and, directly, on the way up."""
    scale = scale_of("n")
    neck = Hepan(scale, one_head((2, 3, 4, 5)))
    width = neck.up_stages["p4"].fuse.cv1.conv.in_channels
    lower, slim, backbone = scale.channels[3], scale.channels[3], scale.channels[4]
    assert width == lower + slim + backbone
    assert neck.up_stages["p5"].fuse.cv1.conv.in_channels == 2 * scale.channels[4]
