"""Batches, losses and the stages of training of the Brain2Word family (imports torch)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from methods._brain2word_net import Network, mean_distance_loss, reconstruction_loss


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
    """Rows to fit or to validate on, on the device; scans without words have ``x`` only."""

    x: torch.Tensor
    vector: torch.Tensor | None = None
    word: torch.Tensor | None = None
    label: torch.Tensor | None = None

    def take(self, rows) -> Data:
        """Return the given rows."""
        rows = torch.as_tensor(rows, device=self.x.device)
        columns = (self.x, self.vector, self.word, self.label)
        return Data(*(None if c is None else c[rows] for c in columns))

    def words(self) -> np.ndarray:
        """Return the word of every row; a scan without one counts as a word of its own."""
        return np.arange(len(self.x)) if self.word is None else self.word.cpu().numpy()


@dataclass(frozen=True)
class Stage:
    """One call of ``fit``: its losses and how long it may take.

    Attributes
    ----------
    weights : mapping
        Weight by loss: ``vector``, ``class``, ``reconstruction``, ``concat``, ``dense``; the others are not computed.
    watched : str
        The loss that stops the training.
    epochs : int
    means : mapping
        Word means of the hidden outputs, (n_words, width) each, targets of ``concat`` and ``dense``.
    """

    weights: Mapping[str, float]
    watched: str
    epochs: int
    means: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass
class Best:
    """The best checkpoint so far, over one stage or several."""

    score: float = np.inf
    state: dict | None = None

    def offer(self, score: float, network: Network) -> None:
        """Keep the network's state if its score is the least so far."""
        if score < self.score:
            self.score, self.state = score, copy.deepcopy(network.state_dict())


def losses(network: Network, data: Data, names, means: Mapping[str, torch.Tensor] | None = None):
    """Return the named losses, without weights, those of absent heads left out; and the logits or None."""
    out = network(data.x, heads=data.word is not None)
    found = {}
    if out.vector is not None and "vector" in names:
        found["vector"] = mean_distance_loss(out.vector, data.vector, data.label)
    if out.logits is not None and "class" in names:
        found["class"] = F.cross_entropy(out.logits, data.word)
    if network.decoder is not None and "reconstruction" in names:
        found["reconstruction"] = reconstruction_loss(network.reconstruct(out.code), data.x)
    for name in ("concat", "dense"):
        if name in names and name in (means or {}):
            found[name] = mean_distance_loss(out.hidden[name], means[name][data.word], data.label)
    return found, out.logits


def judge(network: Network, held: Data, watched: str) -> tuple[float, float]:
    """Return the watched loss of held-out rows, and what the best checkpoint has least of.

    That is the watched loss, but minus top-5 accuracy where it is the class loss: cross-entropy soon rises by
    overconfidence while the ranking still improves.
    """
    network.eval()
    with torch.no_grad():
        found, logits = losses(network, held, (watched,))
    value = found[watched].item()
    if watched != "class":
        return value, value
    hits = logits.topk(min(5, logits.shape[1])).indices == held.word[:, None]
    return value, -hits.any(1).float().mean().item()


def fit(network: Network, data: Data, held: Data | None, params, rng, stage: Stage, best: Best) -> list[tuple]:
    """Train with Adam (amsgrad), the stepped rate and early stopping.

    The network is left as the last epoch made it; the caller decides which checkpoint to load.

    Parameters
    ----------
    held : Data or None
        Inner validation rows; None trains for all epochs and offers no checkpoint.
    rng : numpy Generator
    best : Best
        Is offered every epoch's state.

    Returns
    -------
    list of (epoch, train loss, validation loss or None)
        Of the loss that stops the training.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=params.lr, amsgrad=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: 0.3 ** ((1 + epoch) // 10))
    word, least, stale, log = data.words(), np.inf, 0, []
    for epoch in range(1, stage.epochs + 1):
        network.train()
        curve = []
        for rows in balanced_batches(word, params.batch, rng):
            parts, _ = losses(network, data.take(rows), stage.weights, stage.means)
            total = sum(stage.weights[k] * value for k, value in parts.items())
            if network.link is not None and "class" in parts:
                total = total + params.class_l2 * sum(w.square().sum() for w in network.classes.parameters())
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            curve.append(parts[stage.watched].detach())
        schedule.step()
        log.append((epoch, torch.stack(curve).mean().item(), None))
        if held is None:
            continue
        value, score = judge(network, held, stage.watched)
        log[-1] = (*log[-1][:2], value)
        best.offer(score, network)
        stale = 0 if value < least else stale + 1
        least = min(least, value)
        if stale >= params.patience:
            break
    return log


def load_best(network: Network, best: Best) -> None:
    """Load the best checkpoint, if there was anything to judge by."""
    if best.state is not None:
        network.load_state_dict(best.state)


def word_means(network: Network, data: Data, n_words: int, batch: int = 512) -> dict[str, torch.Tensor]:
    """Return the means of code and hidden outputs over the rows of every word.

    Returns
    -------
    dict of str to Tensor of shape (n_words, width)
        ``code``, ``concat``, ``dense``, as far as the trunk has them; zeros for a word without rows.
    """
    network.eval()
    sums: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for rows in torch.arange(len(data.x), device=data.x.device).split(batch):
            out = network(data.x[rows])
            for name, value in {"code": out.code, **out.hidden}.items():
                empty = value.new_zeros(n_words, value.shape[1])
                sums.setdefault(name, empty).index_add_(0, data.word[rows], value)
    counts = torch.bincount(data.word, minlength=n_words).clamp(min=1)[:, None]
    return {name: value / counts for name, value in sums.items()}


def fit_stages(network: Network, data: Data, held: Data | None, scans, params, rng) -> list[tuple]:
    """Run all stages of a variant and leave the network at its best checkpoint.

    Scans without words come first (the autoencoder only: no gradient reaches the heads), then the words, then the
    rounds of mean regularisation: their targets are the word means of the hidden outputs, from the second round on
    averaged with the former targets. The best checkpoint of all rounds counts, judged as in the stage before.

    Parameters
    ----------
    data, held : Data
        Rows to fit and for validation, the latter may be None.
    scans : tuple of two Data, or None
        Scans without words, to fit and for validation.

    Returns
    -------
    list of (epoch, train loss, validation loss or None)
        Of all stages in turn, the epochs numbered throughout; of pre-training it is the reconstruction loss.
    """
    log = []
    if scans is not None:
        best = Best()
        log += fit(network, *scans, params, rng, Stage({"reconstruction": 1.0}, "reconstruction", params.epochs), best)
        load_best(network, best)
    weights = {"vector": params.vector_weight, "class": params.class_weight}
    weights |= {"reconstruction": params.reconstruction_weight} if network.decoder is not None else {}
    watched = "vector" if network.has_vector else "class"
    best = Best()
    log += fit(network, data, held, params, rng, Stage(weights, watched, params.epochs), best)
    load_best(network, best)
    means: dict[str, torch.Tensor] = {}
    more = {"concat": params.concat_weight, "dense": params.dense_weight}
    best = Best()
    for _ in range(params.rounds):
        now = word_means(network, data, network.n_words)
        means = {name: (means[name] + now[name]) / 2 if name in means else now[name] for name in more}
        stage = Stage(weights | more, watched, params.round_epochs, means)
        log += fit(network, data, held, params, rng, stage, best)
    load_best(network, best)
    return [(number, *rest) for number, (_, *rest) in enumerate(log, 1)]
