"""Brain2Word: dense networks from whole-brain responses to a word's vector and its class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from benchmark.api import Method, Predictions
from benchmark.errors import BenchError
from methods._torch import seeded, write_log


@dataclass(frozen=True)
class Brain2WordParams:
    """Parameters; the defaults are the two-hidden-layer network of the paper's text.

    Attributes
    ----------
    variant : str
        ``"base"``: dense blocks of the widths ``hidden``.
    hidden : tuple of int
        (2000, 200) in the paper's text, (2000,) in its public code (preset ``small``).
    heads : str
        ``"combined"`` (both losses in one model), ``"classification"`` or ``"regression"``.
    chained : bool
        The class head reads the vector head instead of standing beside it.
    bn_momentum : float
        Weight of a new batch in the running statistics (.01 is Keras' .99).
    vector_weight, class_weight : float
        1 and 1 in the code's small model, which trains one of the heads at a time; the reproduction
        that trained both in one model does not say.
    class_l2 : float
        Penalty on the chained class head.
    batch : int
        One scan a word; 180 words make the paper's batch.
    epochs, patience, lr : int, int, float
        At most ``epochs``, stopping ``patience`` after the least inner validation loss; the rate falls
        to .3 of itself at epochs 9, 19, ...
    validation : float
        Share of the training subjects (at least one) that stops the training.
    """

    variant: str = "base"
    hidden: tuple[int, ...] = (2000, 200)
    heads: str = "combined"
    chained: bool = False
    dropout: float = 0.4
    bn_momentum: float = 0.01
    vector_weight: float = 1.0
    class_weight: float = 1.0
    class_l2: float = 0.005
    batch: int = 180
    epochs: int = 100
    patience: int = 10
    lr: float = 1e-3
    validation: float = 0.1


class Brain2Word(Method):
    """Shared by all variants: preparation, training, prediction.

    Voxels are z-scored with the statistics of the rows that are fitted. A training subject is held out
    for early stopping (the published selection by the test subject leaks and is not done here).
    """

    tracks = frozenset({"words"})
    Params = Brain2WordParams
    presets = {
        "small": {"hidden": (2000,)},
        "classification": {"heads": "classification"},
        "regression": {"heads": "regression"},
    }
    paper = "Affolter et al. 2020, arXiv:2009.04765"
    licence = "MIT"
    resources = {"gpus": 1, "memory_gb": 8, "minutes": 10}

    @classmethod
    def supports(cls, dataset):
        if not dataset.has_words or "words" not in dataset.tracks:
            return f"{dataset.name} has no words to decode"
        return None if dataset.spaces else f"{dataset.name} has no word vectors"

    def train(self, train, *, seed, device, workdir):
        import torch

        from methods import _brain2word_net as net

        p = self.params
        if p.heads not in ("combined", "classification", "regression"):
            raise BenchError(f"{self.name}: heads must be combined, classification or regression, got {p.heads!r}.")
        if len(np.unique(train.stimulus)) < 2:
            raise BenchError(f"{self.name}: expected at least two words to tell apart, the training set has one.")
        self.space, self.device, self.ids = train.space, device, train.stimuli.ids
        self.closed = train.unit != "stimulus"  # every test word is among the training words
        self.table = np.asarray(train.stimuli.embeddings[train.space], np.float32)
        fit, held = inner_split(train, p.validation, seed)
        seen = np.isin(train.stimulus[held], train.stimulus[fit]).all()
        if p.heads == "classification" and not (self.closed and seen):
            raise BenchError(f"{self.name}: a classification-only head cannot name words it was not trained on.")
        data = train.fmri.data[fit]
        self.mean, std = data.mean(0, dtype=np.float64).astype(np.float32), data.std(0)
        self.scale = np.where(std > 1e-6 * np.abs(self.mean), std, 1).astype(np.float32)
        labels = train.stimuli.ids if train.stimuli.words is None else train.stimuli.words
        label = np.unique(labels, return_inverse=True)[1]
        word = np.asarray(train.stimulus)
        columns = self.table[word], word.astype(np.int64), label[word].astype(np.int64)
        rows = net.Data(self._inputs(train.fmri.data), *(torch.from_numpy(c).to(device) for c in columns))
        with seeded(seed):
            trunk = net.base_trunk(rows.x.shape[1], p.hidden, p.dropout, p.bn_momentum)
            shape = p.hidden[-1], self.table.shape[1], len(self.ids)
            self.net = net.Network(trunk, *shape, p.heads, p.chained, p.dropout, p.bn_momentum).to(device)
            validation = rows.take(held) if len(held) else None
            log = net.fit(self.net, rows.take(fit), validation, p, np.random.default_rng(seed))
        write_log(workdir, log)

    def predict(self, fmri):
        import torch

        self.net.eval()
        with torch.no_grad():
            vector, logits = self.net(self._inputs(fmri.data))
        vector = None if vector is None else vector.cpu().numpy()
        if logits is None or not self.closed:  # scores over training words cannot rank unseen ones
            return Predictions(embeddings={self.space: vector})
        scores = logits.softmax(1).cpu().numpy()
        if vector is not None:
            return Predictions(embeddings={self.space: vector}, class_scores=scores, class_ids=self.ids)
        expected = scores @ self.table  # derived, and named so: the network itself has no vector output
        named = {"expected_vector": expected}
        return Predictions({self.space: expected}, class_scores=scores, class_ids=self.ids, intermediates=named)

    def _inputs(self, data):
        import torch

        x = np.subtract(data, self.mean, dtype=np.float32)
        return torch.from_numpy(np.divide(x, self.scale, out=x)).to(self.device)


class Brain2WordBase(Brain2Word):
    """The base network: 2000 - 200 units, then a vector head and a class head side by side.

    ``mini`` is for far fewer steps (12 batches an epoch, not 39, and fewer epochs): a higher rate,
    running statistics that keep up, and less weight on the class head, which overfits first. All were
    chosen by the inner validation subject.
    """

    name = "brain2word-base"
    profiles = {
        "mini": {
            "hidden": (500, 200),
            "epochs": 16,
            "patience": 5,
            "lr": 3e-3,
            "bn_momentum": 0.1,
            "class_weight": 0.3,
        }
    }
    reported = {
        "original": {"top1": 0.0407, "top5": 0.1166, "pairwise_2v2": 0.8268},
        "reproduction": {"top1": 0.0540, "top5": 0.1567, "pairwise_2v2": 0.8334},
    }


def inner_split(train, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows to fit and rows for early stopping, all from the training side.

    Training subjects are held out where there are several. With one subject, one scan of every word
    is (each has to be learnt), or a share of the words where each has one scan or the split is over words.
    """
    if train.unit != "subject" or len(np.unique(train.fmri.subject)) > 1:
        return train.holdout(fraction, seed)
    if np.unique(train.stimulus, return_counts=True)[1].min() < 2:
        return dataclasses.replace(train, unit="stimulus").holdout(fraction, seed)
    order = np.random.default_rng(seed).permutation(len(train))
    held = order[np.unique(train.stimulus[order], return_index=True)[1]]
    return np.setdiff1d(np.arange(len(train)), held), np.sort(held)
