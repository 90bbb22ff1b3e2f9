"""Brain2Word's ROI layer and tied decoder against naive loops; their published sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from benchmark import parcels
from methods import _brain2word_net as net

SIZES, WIDTHS = (3, 1, 9, 4, 9, 2), (2, 1, 3, 1, 2, 1)


def blocks(layer, sizes, widths):
    """The weight of every ROI, cut out of the padded groups by the reading order the layer states."""
    found = {}
    for g, weight in enumerate(layer.weights):
        inputs, outputs = getattr(layer, f"in_{g}"), getattr(layer, f"out_{g}")
        for row in range(len(weight)):
            i, o = inputs[row][inputs[row] < layer.n_in], outputs[row][outputs[row] < layer.n_out]
            found[int(i[0])] = i, o, weight[row, : len(i), : len(o)]
    return [found[start] for start in np.cumsum(sizes) - sizes]


def roi_layer(sizes=SIZES, widths=WIDTHS, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return net.RoiLayer(sizes, widths)


def test_published_sizes_and_widths():
    sizes, widths = parcels.tables()
    assert (len(sizes), sizes.sum(), widths.sum()) == (333, 65_730, 3_221)
    assert (sizes.min(), np.median(sizes), sizes.max()) == (14, 148, 1194)
    layer = net.RoiLayer(sizes, parcels.widths(sizes))
    assert sum(int((w != 0).sum()) for w in layer.weights) == (sizes * widths).sum() == 1_030_889
    assert layer.bias.numel() == 3_221
    assert sum(w.numel() for w in layer.weights) < 3 * 1_030_889  # what padding costs


def test_other_sizes_get_a_unit_for_every_twenty_voxels():
    assert parcels.widths([1, 20, 21, 400]).tolist() == [1, 1, 2, 20]
    assert parcels.widths([1, 20, 21, 400], 4).tolist() == [1, 5, 6, 100]
    sizes, published = parcels.tables()
    assert parcels.widths(sizes, 10).tolist() == np.ceil(sizes / 10).tolist()
    assert parcels.widths(sizes).tolist() == published.tolist() != parcels.widths(sizes[::-1]).tolist()[::-1]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5)), min_size=1, max_size=12), st.integers(0, 9))
def test_roi_layer_equals_a_loop_over_rois_and_its_transpose_too(rois, seed):
    sizes, widths = np.array(rois).T
    layer = roi_layer(sizes, widths, seed)
    generator = torch.Generator().manual_seed(seed)
    x, h = torch.randn(3, sizes.sum(), generator=generator), torch.randn(3, widths.sum(), generator=generator)
    layer.bias.data = torch.randn(layer.n_out, generator=generator)
    there, back = [], []
    start_in, start_out = np.cumsum(sizes) - sizes, np.cumsum(widths) - widths
    for k, (i, o, weight) in enumerate(blocks(layer, sizes, widths)):
        assert i.tolist() == list(range(start_in[k], start_in[k] + sizes[k]))
        assert o.tolist() == list(range(start_out[k], start_out[k] + widths[k]))
        there.append(x[:, i] @ weight + layer.bias[o])
        back.append(h[:, o] @ weight.T)
    torch.testing.assert_close(layer(x), torch.cat(there, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.transposed(h), torch.cat(back, 1), rtol=1e-4, atol=1e-5)


def test_initial_weights_are_glorot_uniform_by_each_rois_own_size():
    sizes, widths = np.array([300, 40, 290, 33]), np.array([15, 20, 2, 2])
    for (_, _, weight), size, width in zip(blocks(roi_layer(sizes, widths), sizes, widths), sizes, widths, strict=True):
        limit = np.sqrt(6 / (size + width))
        assert 0.9 * limit < weight.abs().max() <= limit
        assert abs(weight.std().item() - limit / np.sqrt(3)) < 0.1 * limit


def test_padding_stays_zero_under_adam_in_both_directions():
    layer = roi_layer()
    before = [w.detach().clone() for w in layer.weights]
    padding = [w == 0 for w in before]
    assert sum(int(p.sum()) for p in padding) > 0
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1, amsgrad=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        x = torch.randn(7, sum(SIZES), generator=generator) + 3
        optimiser.zero_grad()
        (layer.transposed(torch.tanh(layer(x))) - x).square().mean().backward()
        optimiser.step()
    for weight, old, pad in zip(layer.weights, before, padding, strict=True):
        assert (weight[pad] == 0).all()
        assert (weight[~pad] != old[~pad]).all()


def trained_statistics(module):
    """Give every BatchNorm and bias a value of its own, so that no step of a formula can be left out unseen."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            for values in (part.running_mean, part.weight.data, part.bias.data):
                values.copy_(torch.randn(len(values), generator=generator))
            part.running_var.copy_(torch.rand(len(part.running_var), generator=generator) + 0.5)
    for name, p in module.named_parameters():
        if "bias" in name and p.ndim == 1:
            p.data.copy_(torch.randn(p.shape, generator=generator))
    return module.eval()


def batch_norm(x, layer):
    return (x - layer.running_mean) / torch.sqrt(layer.running_var + 1e-3) * layer.weight + layer.bias


def lrelu(x):
    return torch.where(x > 0, x, 0.3 * x)


def test_autoencoder_equals_the_formula_step_by_step():
    trunk = net.Trunk(sum(SIZES), (5,), (SIZES, WIDTHS))
    network = trained_statistics(net.Network(trunk, 7, 4, "combined", True, True))
    x = torch.randn(6, sum(SIZES), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = network(x)
        concat = batch_norm(lrelu(trunk.roi(x)), trunk.roi_norm[1])
        dense = trunk.dense[0](batch_norm(concat, trunk.entry[0]))
        code = batch_norm(lrelu(dense), trunk.after[0][1])
        vector = network.vector(code)
        logits = network.classes(batch_norm(lrelu(vector), network.link[1]))
        decoder = network.decoder
        back = code @ trunk.dense[0].weight + decoder.biases[0]
        back = batch_norm(lrelu(back), decoder.after[0][1])
        back = batch_norm(lrelu(trunk.roi.transposed(back) + decoder.bias), decoder.last[1])
        for given_, expected in (
            (out.hidden["concat"], concat),
            (out.hidden["dense"], dense),
            (out.code, code),
            (out.vector, vector),
            (out.logits, logits),
            (network.reconstruct(out.code), back),
        ):
            torch.testing.assert_close(given_, expected, rtol=1e-4, atol=1e-5)
    assert out.code.shape == (6, 5)
    assert out.hidden["concat"].shape == (6, sum(WIDTHS))


def test_dropout_stands_where_the_paper_puts_it():
    trunk = net.Trunk(sum(SIZES), (5,), (SIZES, WIDTHS))
    network = net.Network(trunk, 7, 4, "combined", True, True)
    names = [name for name, m in network.named_modules() if isinstance(m, torch.nn.Dropout)]
    assert names == ["trunk.entry.1", "trunk.after.0.2", "link.2", "decoder.after.0.2"]
    roi = net.Trunk(sum(SIZES), (), (SIZES, WIDTHS))
    assert [type(m).__name__ for m in (*roi.roi_norm, *roi.entry)] == ["LeakyReLU", "BatchNorm1d", "Dropout"]


def test_decoder_has_no_weights_of_its_own():
    network = net.Network(net.Trunk(sum(SIZES), (5,), (SIZES, WIDTHS)), 7, 4, "combined", True, True)
    sizes = sorted(p.numel() for name, p in network.decoder.named_parameters() if p.ndim > 1)
    assert sizes == []
    (-network.reconstruct(torch.randn(4, 5)).square().mean()).backward()
    assert all(w.grad is not None for w in (network.trunk.dense[0].weight, *network.trunk.roi.weights))


def test_reconstruction_loss_is_minus_the_mean_cosine():
    a, b = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    expected = -np.mean([F.cosine_similarity(p, q, dim=0).item() for p, q in zip(a, b, strict=True)])
    assert net.reconstruction_loss(a, b).item() == pytest.approx(expected, abs=1e-6)
    assert net.reconstruction_loss(2 * b, b).item() == pytest.approx(-1)
