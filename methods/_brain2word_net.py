"""Networks, losses, batches and the training loop of the Brain2Word family (imports torch).

Sources: Affolter et al. 2020 (arXiv 2009.04765) and the facts of its public code. Keras semantics are
kept: BatchNorm momentum .99 is torch's .01, epsilon 1e-3, LeakyReLU slope .3, Glorot-uniform weights.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def activation(n: int, dropout: float, momentum: float) -> tuple[nn.Module, ...]:
    """Return LeakyReLU - BatchNorm - Dropout."""
    return nn.LeakyReLU(0.3), nn.BatchNorm1d(n, eps=1e-3, momentum=momentum), nn.Dropout(dropout)


def dense(n_in: int, n_out: int) -> nn.Linear:
    """Return a linear layer with Glorot-uniform weights and zero bias."""
    layer = nn.Linear(n_in, n_out)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Network(nn.Module):
    """A trunk and its heads: word vector (linear) and word class (logits).

    Parameters
    ----------
    trunk : nn.Module
        From responses to a code of ``n_code`` values.
    n_code, n_vector, n_words : int
    heads : str
        ``"combined"``, ``"classification"`` or ``"regression"``.
    chained : bool
        The class head reads the vector head's output (the autoencoder's arrangement) instead of the
        code (the base network's, two parallel heads).
    dropout, momentum : float
        Of the layers between chained heads.
    """

    def __init__(self, trunk, n_code, n_vector, n_words, heads, chained, dropout=0.4, momentum=0.01):
        super().__init__()
        self.trunk = trunk
        vector, classes = heads != "classification", heads != "regression"
        self.chained = chained
        self.vector = dense(n_code, n_vector) if vector or chained else None
        self.link = nn.Sequential(*activation(n_vector, dropout, momentum)) if chained and classes else None
        self.classes = dense(n_vector if chained else n_code, n_words) if classes else None
        self.has_vector = vector

    def forward(self, x):
        """Return the word vector and the class logits, None for a head that is absent."""
        code = self.trunk(x)
        vector = None if self.vector is None else self.vector(code)
        logits = None
        if self.classes is not None:
            logits = self.classes(self.link(vector) if self.chained else code)
        return (vector if self.has_vector else None), logits


def base_trunk(n_voxels: int, hidden: tuple[int, ...], dropout: float = 0.4, momentum: float = 0.01) -> nn.Sequential:
    """Return the trunk of the base variant: Dense - LeakyReLU - BatchNorm - Dropout for every hidden width."""
    layers = []
    for n_in, n_out in pairwise((n_voxels, *hidden)):
        layers += dense(n_in, n_out), *activation(n_out, dropout, momentum)
    return nn.Sequential(*layers)


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


def balanced_batches(word: np.ndarray, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return an epoch of batches in which no word occurs twice.

    Every word gives one row to every round; words with fewer rows than the most frequent one repeat
    theirs. A round of more than ``size`` words is cut into equal batches.

    Parameters
    ----------
    word : ndarray of shape (n,), int
    size : int
        Largest batch.

    Returns
    -------
    list of ndarray of int
        Row indices.
    """
    counts = np.unique(word, return_counts=True)[1]
    order = np.lexsort((rng.random(len(word)), word))  # rows by word, in random order within a word
    starts = np.cumsum(counts) - counts
    batches = []
    for i in range(counts.max()):
        rows = order[starts + i % counts]
        batches += np.array_split(rng.permutation(rows), -(-len(rows) // size))
    return batches


@dataclass(frozen=True)
class Data:
    """Rows to fit or to validate on, on the device."""

    x: torch.Tensor
    vector: torch.Tensor
    word: torch.Tensor
    label: torch.Tensor

    def take(self, rows) -> Data:
        """Return the given rows."""
        rows = torch.as_tensor(rows, device=self.x.device)
        return Data(self.x[rows], self.vector[rows], self.word[rows], self.label[rows])


def losses(network: Network, data: Data) -> dict[str, torch.Tensor]:
    """Return the loss of every head that is present, ``vector`` first, and ``top5``, the share of hits."""
    vector, logits = network(data.x)
    found = {}
    if vector is not None:
        found["vector"] = mean_distance_loss(vector, data.vector, data.label)
    if logits is not None:
        found["class"] = F.cross_entropy(logits, data.word)
        hits = logits.topk(min(5, logits.shape[1])).indices == data.word[:, None]
        found["top5"] = hits.any(1).float().mean().detach()
    return found


def fit(network: Network, data: Data, held: Data | None, params, rng: np.random.Generator) -> list[tuple]:
    """Train with Adam (amsgrad), the stepped rate and early stopping; restore the best checkpoint.

    The vector head's loss on the held-out rows stops the training and picks the checkpoint. Without
    that head the class loss stops it and top-5 accuracy picks: cross-entropy soon rises by
    overconfidence while the ranking still improves, in the combined model too.

    Parameters
    ----------
    held : Data or None
        Inner validation rows; None trains for all epochs.

    Returns
    -------
    list of (epoch, train loss, validation loss or None)
        Of the head that stops the training.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=params.lr, amsgrad=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: 0.3 ** ((1 + epoch) // 10))
    weights = {"vector": params.vector_weight, "class": params.class_weight}
    watched = "vector" if network.has_vector else "class"
    word = data.word.cpu().numpy()
    least, stale, best, best_state, log = np.inf, 0, np.inf, None, []
    for epoch in range(1, params.epochs + 1):
        network.train()
        curve = []
        for rows in balanced_batches(word, params.batch, rng):
            parts = losses(network, data.take(rows))
            total = sum(weights[k] * parts[k] for k in weights if k in parts)
            if network.link is not None:
                total = total + params.class_l2 * sum(w.square().sum() for w in network.classes.parameters())
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            curve.append(parts[watched].detach())
        schedule.step()
        log.append((epoch, torch.stack(curve).mean().item(), None))
        if held is None:
            continue
        network.eval()
        with torch.no_grad():
            parts = losses(network, held)
        value = parts[watched].item()
        log[-1] = (*log[-1][:2], value)
        score = value if network.has_vector else -parts["top5"].item()
        if score < best:
            best, best_state = score, copy.deepcopy(network.state_dict())
        stale = 0 if value < least else stale + 1
        least = min(least, value)
        if stale >= params.patience:
            break
    if best_state is not None:
        network.load_state_dict(best_state)
    return log
