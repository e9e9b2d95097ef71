"""The measurement seen through a decoder: values, derivatives, levels and previews."""

from contextlib import contextmanager

import pytest
import torch
from latent_codecs import NOISE, Curved, Fused, Mixing, blur

from undegrade.models.codec import IDENTITY, preview
from undegrade.nodes.comfyui.wall import left
from undegrade.nodes.watched import WatchedCodec
from undegrade.pipelines.level import level_operator
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.operators.decode import ThroughDecoder, difference, push
from undegrade.pipelines.operators.hdr import HDRClip
from undegrade.pipelines.operators.jpeg import JPEG


@pytest.mark.parametrize("operator", [blur(), HDRClip(), JPEG(quality=60)])
def test_derivatives_of_the_chain_are_those_of_the_dense_jacobian(draw, operator):
    through, z = ThroughDecoder(Curved(), operator), 0.3 * draw(1, 12, 4, 4)
    v, u = draw(1, 12, 4, 4), draw(1, 3, 8, 8)
    dense = torch.func.jacfwd(through.surrogate)(z).reshape(u.numel(), v.numel())
    forward = (dense @ v.flatten()).reshape(u.shape)
    assert torch.allclose(through.jvp(z, v), forward, atol=1e-4)
    if not isinstance(operator, JPEG):  # its backward pass is kornia's, and not its stand-in's
        y, pullback = through.vjp(z)
        assert torch.equal(y, through(z))
        dense = torch.func.jacfwd(through.forward)(z).reshape(u.numel(), v.numel())
        assert torch.allclose(pullback(u).flatten(), u.flatten() @ dense, atol=1e-4)


def test_forward_mode_goes_around_fused_attention(draw):
    codec, z, v = Fused(), draw(2, 12, 3, 4), draw(2, 12, 3, 4)
    with pytest.raises(NotImplementedError):
        torch.func.jvp(codec.decode, (z,), (v,))
    with torch.inference_mode(), left():
        x, tangent = push(codec, z, v)
        about = difference(codec.decode, z, v)
    exact = (codec.decode(z.double() + 1e-5 * v) - codec.decode(z.double() - 1e-5 * v)) / 2e-5
    assert (x - codec.decode(z)).abs().max() < 1e-5
    assert (tangent - exact).norm() < 1e-5 * exact.norm()
    assert (about - exact).norm() < 1e-2 * exact.norm()


def test_any_order_of_memory_has_its_forward_mode(draw):
    """Latents of several samples come out of a network channels last."""

    class Normed(Curved):
        def decode(self, z):
            return super().decode(torch.nn.functional.group_norm(z, 3))

    z, v = draw(2, 12, 3, 4), draw(2, 12, 3, 4)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in (z, v)]
    for ours, usual in zip(push(Normed(), *last), push(Normed(), z, v), strict=True):
        assert torch.allclose(ours, usual, atol=1e-5)


def test_a_decoder_without_forward_mode_gets_differences(draw):
    class Refusing(Curved):
        def decode(self, z):
            if torch.autograd.forward_ad._current_level >= 0:
                raise NotImplementedError
            return super().decode(z)

    z, v = draw(2, 12, 3, 4), draw(2, 12, 3, 4)
    v[1] *= 1e4
    exact = push(Curved(), z, v)[1]
    error = (push(Refusing(), z, v)[1] - exact).flatten(1).norm(dim=1)
    assert (error < 5e-3 * exact.flatten(1).norm(dim=1)).all()
    assert not push(Refusing(), z, 0 * v)[1].any()


def test_gain_is_the_largest_eigenvalue(draw):
    z = draw(2, 12, 3, 4)
    assert torch.allclose(ThroughDecoder(Mixing(3.0), blur()).gain(z), torch.tensor(9.0))
    dense = torch.func.jacfwd(Curved().decode)(0.3 * z[:1]).reshape(144, 144)
    largest = torch.linalg.svdvals(dense)[0] ** 2
    found = ThroughDecoder(Curved(), blur()).gain(0.3 * z, 60)
    assert found[0] == pytest.approx(largest.item(), rel=1e-2)


def test_levels_decode_then_enlarge_then_crop(draw):
    codec, z = Mixing(), draw(2, 12, 10, 8)
    m = Measurement(draw(2, 3, 37, 31), blur(), NOISE)
    x = codec.decode(z).repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = blur()(x[..., :37, :31])
    assert torch.allclose(level_operator(m, (40, 32), 2, codec)(z), expected, atol=1e-5)
    at = level_operator(m, (40, 32), 1, codec)
    assert at.input_size(37, 31) == (18, 15) and not at.linear
    assert level_operator(m, (37, 31), 1, IDENTITY) is m.operator


def test_watching_keeps_what_a_codec_offers():
    class Own(Fused):
        used = 0

        def preview(self, z):
            return z[:, 3:6]

        @contextmanager
        def plain_attention(self):
            self.used += 1
            yield

    own, z = Own(), torch.ones(1, 12, 2, 2)
    assert torch.equal(preview(WatchedCodec(own), z), z[:, 3:6])
    push(WatchedCodec(own), z, z)
    assert own.used == 1
    push(WatchedCodec(Mixing()), z, z)


def test_preview_is_the_codecs_own_or_three_channels(draw):
    z = draw(2, 12, 4, 4)

    class Own(Mixing):
        def preview(self, z):
            return z[:, 3:6]

    assert torch.equal(preview(Own(), z), z[:, 3:6])
    assert preview(IDENTITY, z) is z
    plain = preview(Mixing(), 7 + 9 * z)
    assert plain.shape == (2, 3, 4, 4) and plain.abs().max() < 2.5
    assert preview(Mixing(), z[:, :1]).shape == (2, 3, 4, 4)
    assert torch.isfinite(preview(Mixing(), 0 * z)).all()
