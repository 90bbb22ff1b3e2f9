"""Networks and losses of the Brain2Word family (imports torch).

Sources: Affolter et al. 2020 (arXiv 2009.04765) and the facts of its public code. Keras semantics are
kept: BatchNorm momentum .99 is torch's .01, epsilon 1e-3, LeakyReLU slope .3, Glorot-uniform weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

EPS = 1e-3


class Dropout(nn.Dropout):
    """Dropout by uniform draws; on a CPU they cost a quarter of torch's Bernoulli draws."""

    def forward(self, x):
        """Zero a share ``p`` of the values while training."""
        if not self.training or self.p == 0:
            return x
        return x * (torch.rand_like(x) >= self.p) / (1 - self.p)


def normalised(n: int, momentum: float) -> tuple[nn.Module, ...]:
    """Return LeakyReLU - BatchNorm."""
    return nn.LeakyReLU(0.3), nn.BatchNorm1d(n, eps=EPS, momentum=momentum)


def activation(n: int, dropout: float, momentum: float) -> tuple[nn.Module, ...]:
    """Return LeakyReLU - BatchNorm - Dropout."""
    return *normalised(n, momentum), Dropout(dropout)


def dense(n_in: int, n_out: int) -> nn.Linear:
    """Return a linear layer with Glorot-uniform weights and zero bias."""
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class RoiLayer(nn.Module):
    """A dense layer of its own for every ROI, all at once: padded batched products.

    ROIs are sorted into groups of at most twofold size, each padded to its largest ROI. Inputs are padded with
    zeros and outputs of the padding are never read, so weights in the padding are zero and get no gradient.

    Parameters
    ----------
    sizes, widths : sequence of n_rois ints
        Inputs and outputs of every ROI. The input holds the ROIs' voxels one ROI after the other, the output
        their units in the same way.
    """

    def __init__(self, sizes, widths):
        super().__init__()
        sizes, widths = np.asarray(sizes), np.asarray(widths)
        self.n_in, self.n_out = int(sizes.sum()), int(widths.sum())
        first_in, first_out = np.cumsum(sizes) - sizes, np.cumsum(widths) - widths
        group = np.ceil(np.log2(sizes)).astype(int)
        self.weights, self.n_groups = nn.ParameterList(), len(np.unique(group))
        order = {"in": [], "out": []}
        for g, members in enumerate(np.flatnonzero(group == value) for value in np.unique(group)):
            size, width = sizes[members], widths[members]
            real = _real(size)[:, :, None] & _real(width)[:, None]
            limit = torch.from_numpy(np.sqrt(6 / (size + width)).astype(np.float32))[:, None, None]
            weight = (2 * torch.rand(real.shape) - 1) * limit * torch.from_numpy(real)
            self.weights.append(nn.Parameter(weight))
            for side, first, length, pad in (("in", first_in, size, self.n_in), ("out", first_out, width, self.n_out)):
                index = first[members][:, None] + np.arange(length.max())
                index = np.where(_real(length), index, pad)
                order[side].append(index.ravel())
                self.register_buffer(f"{side}_{g}", torch.from_numpy(index), persistent=False)
        for side, n in (("in", self.n_in), ("out", self.n_out)):
            place = np.full(n + 1, -1)
            padded = np.concatenate(order[side])
            place[padded] = np.arange(len(padded))
            self.register_buffer(f"{side}_place", torch.from_numpy(place[:n]), persistent=False)
        self.bias = nn.Parameter(torch.zeros(self.n_out))

    def forward(self, x):
        """Map (n, n_in) to (n, n_out)."""
        return self._product(x, "in", "out", self.weights) + self.bias

    def transposed(self, h):
        """Map (n, n_out) back to (n, n_in) by the transposed weights, without a bias."""
        return self._product(h, "out", "in", [w.transpose(1, 2) for w in self.weights])

    def _product(self, x, source, target, weights):
        x = F.pad(x, (0, 1))  # what padding reads
        parts = []
        for g, weight in enumerate(weights):
            index = getattr(self, f"{source}_{g}")
            rows = x.index_select(1, index.ravel()).view(len(x), *index.shape).transpose(0, 1)
            parts.append(torch.bmm(rows, weight).transpose(0, 1).reshape(len(x), -1))
        return torch.cat(parts, 1).index_select(1, getattr(self, f"{target}_place"))


def _real(lengths: np.ndarray) -> np.ndarray:
    """Return which places of rows padded to the longest are real, shape (n, longest)."""
    return np.arange(lengths.max()) < lengths[:, None]


class Trunk(nn.Module):
    """From responses to a code: the ROI layer where there is one, then dense blocks.

    A block is Dense - LeakyReLU - BatchNorm - Dropout. The ROI layer is followed by LeakyReLU, BatchNorm for
    each unit, once more BatchNorm if dense blocks follow, and Dropout.

    Parameters
    ----------
    n_in : int
        Inputs; those of the ROI layer if there is one.
    hidden : tuple of int
        Widths of the dense blocks.
    rois : tuple of (sizes, widths) or None
    """

    def __init__(self, n_in, hidden, rois=None, dropout=0.4, momentum=0.01):
        super().__init__()
        self.roi = None
        if rois is not None:
            self.roi = RoiLayer(*rois)
            n_in = self.roi.n_out
            self.roi_norm = nn.Sequential(*normalised(n_in, momentum))
            again = [nn.BatchNorm1d(n_in, eps=EPS, momentum=momentum)] if hidden else []
            self.entry = nn.Sequential(*again, Dropout(dropout))
        self.dense = nn.ModuleList(dense(a, b) for a, b in pairwise((n_in, *hidden)))
        self.after = nn.ModuleList(nn.Sequential(*activation(n, dropout, momentum)) for n in hidden)
        self.n_code = hidden[-1] if hidden else n_in

    def forward(self, x):
        """Return the code and the hidden outputs that mean regularisation looks at, by name."""
        hidden = {}
        if self.roi is not None:
            hidden["concat"] = x = self.roi_norm(self.roi(x))
            x = self.entry(x)
        for layer, after in zip(self.dense, self.after, strict=True):
            hidden["dense"] = x = layer(x)
            x = after(x)
        return x, hidden


class Decoder(nn.Module):
    """From a code back to responses, by the transposed weights of a trunk with a ROI layer and biases of its own."""

    def __init__(self, trunk, dropout=0.4, momentum=0.01):
        super().__init__()
        widths = [layer.in_features for layer in trunk.dense]
        n = trunk.roi.n_in
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(n)) for n in widths)
        self.after = nn.ModuleList(nn.Sequential(*activation(n, dropout, momentum)) for n in widths)
        self.bias = nn.Parameter(torch.zeros(n))
        self.last = nn.Sequential(*normalised(n, momentum))

    def forward(self, trunk, code):
        """Return the reconstructed input of the ROI layer."""
        for layer, bias, after in reversed(list(zip(trunk.dense, self.biases, self.after, strict=True))):
            code = after(F.linear(code, layer.weight.T, bias))
        return self.last(trunk.roi.transposed(code) + self.bias)


@dataclass(frozen=True)
class Outputs:
    """What a network says about n rows; None for a head that is absent."""

    vector: torch.Tensor | None
    logits: torch.Tensor | None
    code: torch.Tensor
    hidden: dict[str, torch.Tensor]


class Network(nn.Module):
    """A trunk and its heads: word vector (linear), word class (logits), reconstruction.

    Parameters
    ----------
    trunk : Trunk
    n_vector, n_words : int
    heads : str
        ``"combined"``, ``"classification"`` or ``"regression"``.
    chained : bool
        The class head reads the vector head's output (the autoencoder's arrangement) instead of the
        code (the base network's, two parallel heads).
    reconstructs : bool
        With the tied decoder.
    dropout, momentum : float
        Of the layers between chained heads and of the decoder.
    """

    def __init__(self, trunk, n_vector, n_words, heads, chained, reconstructs=False, dropout=0.4, momentum=0.01):
        super().__init__()
        self.trunk = trunk
        vector, classes = heads != "classification", heads != "regression"
        self.chained = chained
        self.vector = dense(trunk.n_code, n_vector) if vector or chained else None
        self.link = nn.Sequential(*activation(n_vector, dropout, momentum)) if chained and classes else None
        self.classes = dense(n_vector if chained else trunk.n_code, n_words) if classes else None
        self.decoder = Decoder(trunk, dropout, momentum) if reconstructs else None
        self.has_vector, self.n_words = vector, n_words

    def forward(self, x, heads=True):
        """Return the ``Outputs`` of n rows, on request without the heads (whose BatchNorm would learn from them)."""
        code, hidden = self.trunk(x)
        if not heads:
            return Outputs(None, None, code, hidden)
        vector = None if self.vector is None else self.vector(code)
        logits = None
        if self.classes is not None:
            logits = self.classes(self.link(vector) if self.chained else code)
        return Outputs(vector if self.has_vector else None, logits, code, hidden)

    def reconstruct(self, code):
        """Return the responses that a code stands for."""
        return self.decoder(self.trunk, code)


def mean_distance_loss(predicted: torch.Tensor, target: torch.Tensor, word: torch.Tensor) -> torch.Tensor:
    """Return the mean over rows of -cos(match) + mean cos(mismatches).

    The mismatches of a row are the predictions of the other rows of the batch whose word differs. (The
    formula printed in the reproduction has the opposite sign and no mean; neither trains.)

    Parameters
    ----------
    predicted, target : Tensor of shape (n, d)
    word : Tensor of shape (n,)
        Label of every row.
    """
    cosine = F.normalize(target, dim=1) @ F.normalize(predicted, dim=1).T
    other = word[:, None] != word[None]
    mismatch = (cosine * other).sum(1) / other.sum(1).clamp(min=1)
    return (mismatch - cosine.diagonal()).mean()


def reconstruction_loss(reconstructed: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the mean over scans of -cos(scan, its reconstruction)."""
    return -F.cosine_similarity(reconstructed, x, dim=1).mean()
