"""Brain2Word: networks from whole-brain responses to a word's vector and its class."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from benchmark import parcels
from benchmark.api import Method, Predictions
from benchmark.errors import BenchError
from methods._blocks import fit_blocks
from methods._torch import seeded, write_log

HEADS = ("combined", "classification", "regression")
SELECTIONS = ("inner", "published-leaky")
RANKINGS = ("classes", "mixed")
# Shares of the class head that mixed scores may have.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Brain2WordParams:
    """Parameters of every variant; the defaults are the base network of the paper's text.

    Attributes
    ----------
    roi_layer : bool
        A dense layer of its own for every ROI comes first.
    voxels_per_unit : int
        A hidden unit for each so many voxels of a ROI.
    hidden : tuple of int
        Widths of the dense blocks: (2000, 200) in the paper's text, (2000,) in its public code (preset ``small``).
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
    reconstruction_weight : float
        Above 0: the tied-weight autoencoder, and pre-training on scans without words where there are some.
    rounds, round_epochs : int
        Rounds of mean regularisation after the training proper, and the most epochs of each.
    concat_weight, dense_weight : float
        Of the distance of the ROI layer's and the dense layer's output to their means over a word's scans.
    batch : int
        One scan a word; 180 words make the paper's batch.
    epochs, patience, lr : int, int, float
        At most ``epochs``, stopping ``patience`` after the least inner validation loss; the rate falls
        to .3 of itself at epochs 9, 19, ...
    validation : float
        Share of the training subjects (at least one) that stops the training.
    ranking : str
        How the combined heads rank words: ``"classes"``, by the class head as published, or ``"mixed"``, by the
        sum of both heads' standardised scores; the inner validation chooses the class head's share.
    selection : str
        ``"inner"``, or ``"published-leaky"``: the test subject itself stops the training, as in the public code.
    """

    roi_layer: bool = False
    voxels_per_unit: int = parcels.VOXELS_PER_UNIT
    hidden: tuple[int, ...] = (2000, 200)
    heads: str = "combined"
    chained: bool = False
    dropout: float = 0.4
    bn_momentum: float = 0.01
    vector_weight: float = 1.0
    class_weight: float = 1.0
    class_l2: float = 0.005
    reconstruction_weight: float = 0.0
    rounds: int = 0
    round_epochs: int = 50
    concat_weight: float = 2.2
    dense_weight: float = 2.0
    batch: int = 180
    epochs: int = 100
    patience: int = 10
    lr: float = 1e-3
    validation: float = 0.1
    ranking: str = "mixed"
    selection: str = "inner"


@dataclass(frozen=True)
class RoiParams(Brain2WordParams):
    """The ROI network: no dense block, the heads read all ROIs' units."""

    roi_layer: bool = True
    hidden: tuple[int, ...] = ()
    vector_weight: float = 1.8


@dataclass(frozen=True)
class AutoencoderParams(RoiParams):
    """The autoencoder: a code of 200 values under the ROI layer, reconstruction, and chained heads."""

    hidden: tuple[int, ...] = (200,)
    chained: bool = True
    class_weight: float = 1.5
    reconstruction_weight: float = 1.0


@dataclass(frozen=True)
class MeanRegParams(AutoencoderParams):
    """The autoencoder with the stages of mean regularisation."""

    rounds: int = 5


class Brain2Word(Method):
    """Shared by all variants: preparation, training, prediction.

    Voxels are z-scored with the statistics of the rows that are fitted. A training subject is held out
    for early stopping; the published selection by the test subject leaks, and rows that do it say so.
    """

    tracks = frozenset({"words"})
    Params = Brain2WordParams
    presets = {
        "classification": {"heads": "classification"},
        "regression": {"heads": "regression"},
        "published-leaky": {"selection": "published-leaky"},
    }
    paper = "Affolter et al. 2020, arXiv:2009.04765"
    licence = "MIT"
    resources = {"gpus": 1, "memory_gb": 8, "minutes": 10}
    needs_rois = False

    def __init__(self, params=None):
        super().__init__(params)
        p = self.params
        for name, known in (("heads", HEADS), ("ranking", RANKINGS), ("selection", SELECTIONS)):
            if (value := getattr(p, name)) not in known:
                raise BenchError(f"{self.name}: {name} must be one of {', '.join(known)}, got {value!r}.")
        # only the leaky selection is given the truth
        self.oracle = p.selection == "published-leaky"
        self.tags = ("leaky selection",) if self.oracle else ()

    def supports(self, dataset):
        if not dataset.has_words or "words" not in dataset.tracks:
            return f"{dataset.name} has no words to decode"
        if not dataset.spaces:
            return f"{dataset.name} has no word vectors"
        if self.needs_rois and not dataset.rois:
            return f"{dataset.name} has no ROIs, and the network is a layer of ROIs"
        if dataset.unit == "stimulus" and self.params.heads == "classification":
            return "a classification-only head cannot name words it was not trained on"
        if dataset.unit == "stimulus" and self.oracle:
            return "the published selection scores a test subject on words it was trained on"
        return None

    def train(self, train, *, seed, device, workdir):
        if len(np.unique(train.stimulus)) < 2:
            raise BenchError(f"{self.name}: expected at least two words to tell apart, the training set has one.")
        self.space, self.device, self.ids = train.space, device, train.stimuli.ids
        self.closed = train.unit != "stimulus"  # every test word is among the training words
        self.table = np.asarray(train.stimuli.embeddings[train.space], np.float32)
        labels = train.stimuli.ids if train.stimuli.words is None else train.stimuli.words
        self.label = np.unique(labels, return_inverse=True)[1]
        if self.oracle:  # the test subject takes the inner validation's place, so nothing can be fitted yet
            self.rest = train, seed, workdir
            return
        fit, held = inner_split(train, self.params.validation, seed)
        seen = np.isin(train.stimulus[held], train.stimulus[fit]).all()
        if self.params.heads == "classification" and not (self.closed and seen):
            raise BenchError(f"{self.name}: a classification-only head cannot name words it was not trained on.")
        self._fit(train, fit, (train.fmri.data[held], train.stimulus[held]), seed, workdir)

    def predict(self, fmri, truth=None):
        """Predict; ``truth`` is given with the published selection only, which stops the training by it."""
        if self.oracle:
            self._fit_by(fmri, truth)
        code, vector, scores = self._outputs(self._tensor(self.blocks(fmri.data)))
        more = {"code": code, "word_code_r": correlation(code, self.word_codes)}
        if scores is None or not self.closed:  # scores over training words cannot rank unseen ones
            return Predictions(embeddings={self.space: vector}, intermediates=more)
        if vector is None:  # derived, and named so: the network itself has no vector output
            vector = more["expected_vector"] = scores @ self.table
        elif self.share < 1:
            more["class_probability"] = scores
            scores = self._mixed(vector, scores, self.share)
        return Predictions({self.space: vector}, class_scores=scores, class_ids=self.ids, intermediates=more)

    def _outputs(self, x):
        """Return code, vector and class probabilities of scaled responses as arrays, None for an absent head."""
        import torch

        self.net.eval()
        with torch.no_grad():
            out = self.net(x)
        scores = None if out.logits is None else out.logits.softmax(1)
        return tuple(None if v is None else v.cpu().numpy() for v in (out.code, out.vector, scores))

    def _mixed(self, vector, probability, share):
        """Return the class head's log-probabilities and the vector's correlations, standardised by row and added."""
        log = np.log(np.maximum(probability, np.finfo(np.float32).tiny))
        return share * _standardised(log) + (1 - share) * _standardised(correlation(vector, self.table))

    def _choose_share(self, held):
        """Return the class head's share that gives the validation rows the highest mean reciprocal rank."""
        both = self.params.heads == "combined" and self.params.ranking == "mixed"
        if not both or held is None or not self.closed:
            return 1.0
        _, vector, probability = self._outputs(held.x)
        word = held.word.cpu().numpy()
        return max(SHARES, key=lambda share: reciprocal_rank(self._mixed(vector, probability, share), word))

    def _fit(self, train, fit, held, seed, workdir):
        """Fit on the rows ``fit``; ``held`` is the validation's responses and words."""
        from methods import _brain2word_fit as training
        from methods import _brain2word_net as net

        p = self.params
        masks = train.fmri.rois if p.roi_layer else None
        if self.needs_rois and not any(mask.any() for mask in masks.values()):
            raise BenchError(f"{self.name}: expected at least one ROI with voxels, the training set has none.")
        self.blocks, x = fit_blocks(train.fmri.data, fit, masks, p.voxels_per_unit)
        scans = self._scans(train, fit)
        rng = np.random.default_rng(seed)
        with seeded(seed):
            trunk = net.Trunk(x.shape[1], p.hidden, self.blocks.rois, p.dropout, p.bn_momentum)
            sizes = self.table.shape[1], len(self.ids)
            reconstructs = p.reconstruction_weight > 0
            network = net.Network(trunk, *sizes, p.heads, p.chained, reconstructs, p.dropout, p.bn_momentum)
            self.net = network.to(self.device)
            data = self._data(x, train.stimulus[fit])
            held = self._data(self.blocks(held[0]), held[1])
            log = training.fit_stages(self.net, data, held, scans, p, rng)
        self.share = self._choose_share(held)
        self.word_codes = training.word_means(self.net, data, len(self.ids))["code"].cpu().numpy()
        write_log(workdir, log)

    def _fit_by(self, fmri, truth):
        """Fit with the test subject for validation, as the public code does."""
        if truth is None:
            raise BenchError(f"{self.name}: selection published-leaky needs the truth, predict was given none.")
        train, seed, workdir = self.rest
        if len(unseen := np.setdiff1d(truth.ids, self.ids)):
            raise BenchError(f"{self.name}: selection published-leaky cannot judge by {unseen[0]}, a word not seen.")
        row = {word: i for i, word in enumerate(self.ids)}
        word = np.array([row[w] for w in truth.ids])
        self._fit(train, np.arange(len(train)), (fmri.data, word), seed, workdir)

    def _scans(self, train, fit):
        """Return scans without words to pre-train on and to stop by, or None where there are none.

        Those of subjects whose words are not fitted stop it; without such subjects, every tenth scan does.
        """
        from methods._brain2word_fit import Data

        if train.unlabelled is None or not self.params.reconstruction_weight or len(train.unlabelled) < 2:
            return None
        held = ~np.isin(train.unlabelled.subject, train.fmri.subject[fit])
        if not held.any() or held.all():
            held = np.arange(len(held)) % 10 == 0
        x = self.blocks(train.unlabelled.data)
        return tuple(Data(self._tensor(x[rows])) for rows in (~held, held))

    def _data(self, x, word):
        """Return scaled rows with their targets, None without rows."""
        from methods._brain2word_fit import Data

        if not len(x):
            return None
        columns = x, self.table[word], np.asarray(word, np.int64), self.label[word].astype(np.int64)
        return Data(*map(self._tensor, columns))

    def _tensor(self, values):
        import torch

        return torch.from_numpy(values).to(self.device)


# For few steps (12 batches an epoch, not 39, and few epochs) and small parcels (10 voxels, not 200): a higher rate,
# running statistics that keep up, a unit for every two voxels, little weight on the class head, which overfits first.
# All were chosen by the inner validation subject.
MINI = {"voxels_per_unit": 2, "epochs": 16, "patience": 5, "lr": 1e-2, "bn_momentum": 0.1, "class_weight": 0.05}

# Alone beside the reconstruction and the penalty, the class head has its published weight in every profile.
CLASSES_ALONE = {"classification": {"heads": "classification", "class_weight": 1.5}}


class Brain2WordBase(Brain2Word):
    """The base network: 2000 - 200 units, then a vector head and a class head side by side."""

    name = "brain2word-base"
    presets = {"small": {"hidden": (2000,)}, **Brain2Word.presets}
    profiles = {"mini": MINI | {"hidden": (500, 200)}}
    reported = {
        "original": {"top1": 0.0407, "top5": 0.1166, "pairwise_2v2": 0.8268},
        "reproduction": {"top1": 0.0540, "top5": 0.1567, "pairwise_2v2": 0.8334},
    }


class Brain2WordRoi(Brain2Word):
    """The ROI network: a small dense layer for each of the 333 parcels, then two heads side by side."""

    name = "brain2word-roi"
    Params = RoiParams
    profiles = {"mini": MINI}
    needs_rois = True
    reported = {
        "original": {"top1": 0.0425, "top5": 0.1185, "pairwise_2v2": 0.8336},
        "reproduction": {"top1": 0.0593, "top5": 0.1704, "pairwise_2v2": 0.7786},
    }


class Brain2WordAutoencoder(Brain2Word):
    """The autoencoder with tied weights: ROI layer, code of 200 values, vector head and class head in a chain."""

    name = "brain2word-autoencoder"
    Params = AutoencoderParams
    presets = Brain2Word.presets | CLASSES_ALONE
    profiles = {"mini": MINI}
    reported = {
        "original": {"top1": 0.0481, "top5": 0.1296, "pairwise_2v2": 0.8411},
        "reproduction": {"top1": 0.0500, "top5": 0.1630, "pairwise_2v2": 0.7363},
    }


class Brain2WordMeanReg(Brain2Word):
    """The autoencoder trained further towards what each word's scans have in common."""

    name = "brain2word-meanreg"
    Params = MeanRegParams
    presets = Brain2Word.presets | CLASSES_ALONE
    profiles = {"mini": MINI | {"epochs": 10, "rounds": 2, "round_epochs": 4}}
    reported = {
        "original": {"top1": 0.0555, "top5": 0.1314, "pairwise_2v2": 0.8464},
        "reproduction": {"top1": 0.0565, "top5": 0.1665, "pairwise_2v2": 0.7890},
        "original, abstract": {"top1": 0.0522, "top5": 0.1359},
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


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Pearson's r of every row of ``a`` (n, d) with every row of ``b`` (m, d), 0 for a constant row."""
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (a, b))
    return a @ b.T


def _standardised(scores: np.ndarray) -> np.ndarray:
    scores = scores - scores.mean(1, keepdims=True)
    return scores / np.maximum(scores.std(1, keepdims=True), 1e-12)


def reciprocal_rank(scores: np.ndarray, word: np.ndarray) -> float:
    """Return the mean of 1 / rank of the true column; ties count against it."""
    own = scores[np.arange(len(word)), word][:, None]
    return float(np.mean(1 / np.count_nonzero(scores >= own, axis=1)))


def code_consistency(word_code_r: np.ndarray, word: np.ndarray) -> np.ndarray:
    """Return how much more a scan's code is like its own word's in the training subjects than like other words'.

    Parameters
    ----------
    word_code_r : ndarray of shape (n, n_words)
        ``Predictions.intermediates["word_code_r"]``: Pearson's r of the scan's code with every word's mean
        code over the training rows.
    word : ndarray of shape (n,), int
        True column of every scan.

    Returns
    -------
    ndarray of shape (n,)
        r with the own word minus the mean r with the others; 0 is chance.
    """
    own = word_code_r[np.arange(len(word)), word]
    others = (word_code_r.sum(1) - own) / (word_code_r.shape[1] - 1)
    return own - others
