"""A two-layer perceptron from principal components of the responses to an embedding, with a cosine loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.api import Method, Predictions
from benchmark.errors import BenchError
from methods._outputs import needs_vectors
from methods._torch import seeded, write_log


@dataclass(frozen=True)
class CosineMLPParams:
    """Parameters.

    Attributes
    ----------
    components : int
        Principal components of the responses, fitted on train; fewer where the data have fewer.
    loss : str
        ``"cosine"`` (1 - cosine of the match, no negatives) or ``"infonce"`` (symmetric, in the batch).
    centred : bool
        Learn the target minus the training mean; the mean is added back to the predictions.
    allow_degenerate : bool
        Train even where every training target is the same vector; the row is tagged and never ranked.
    """

    components: int = 50
    hidden: int = 512
    lr: float = 1e-3
    batch: int = 128
    epochs: int = 20
    loss: str = "cosine"
    temperature: float = 0.07
    centred: bool = False
    validation: float = 0.1
    allow_degenerate: bool = False


class CosineMLP(Method):
    """Linear - ReLU - Linear on standardised components, targets of unit length.

    The loss says nothing about length, so predictions get the mean length of the training targets.
    With positive pairs only they all lean towards the training mean: look at ``collapse`` and at
    ``cosine_centred`` beside ``cosine``. The rows held out of train serve the loss curve only.
    """

    name = "cosine-mlp"
    tracks = frozenset({"words", "embedding"})
    Params = CosineMLPParams
    presets = {
        "contrastive": {"loss": "infonce"},
        "centred": {"centred": True},
        "allow-degenerate": {"allow_degenerate": True},
    }
    paper = "unpublished; only a training loss was reported"
    licence = "MIT"
    resources = {"gpus": 0, "memory_gb": 1, "minutes": 1}

    supports = staticmethod(needs_vectors)

    @property
    def tags(self):
        return ("degenerate",) if self.params.allow_degenerate else ()

    def train(self, train, *, seed, device, workdir):
        import torch
        from sklearn.decomposition import PCA

        p = self.params
        target = train.target()
        if not p.allow_degenerate and np.allclose(target, target[0]):
            raise BenchError(
                f"cosine-mlp: all {len(target)} training targets in {train.space!r} are the same vector, "
                "expected at least two (allow_degenerate=true trains on them all the same)."
            )
        fit, held = train.holdout(p.validation, seed)
        if not len(fit) > 1:
            raise BenchError(f"cosine-mlp: expected at least 2 training rows to fit on, got {len(fit)}.")
        self.space, self.device = train.space, device
        self.pca = PCA(min(p.components, len(fit) - 1, train.fmri.data.shape[1]), random_state=seed)
        components = self.pca.fit_transform(train.fmri.data[fit])
        self.kept = self.pca.explained_variance_ratio_ > 1e-6  # rank-deficient data: the rest is rounding
        self.scale = components[:, self.kept].std(0)
        y = _unit(target)
        self.centre = y[fit].mean(0) if p.centred else np.zeros(y.shape[1], np.float32)
        offset = y - self.centre
        self.length = np.linalg.norm(target[fit], axis=1).mean()
        self.radius = np.linalg.norm(offset[fit], axis=1).mean()
        y = torch.from_numpy(_unit(offset)).to(device)
        x = self._inputs(train.fmri.data)
        stimulus = torch.tensor(train.stimulus, device=device)
        rng = np.random.default_rng(seed)
        log = []
        with seeded(seed):
            layers = torch.nn.Linear(x.shape[1], p.hidden), torch.nn.ReLU(), torch.nn.Linear(p.hidden, y.shape[1])
            self.net = torch.nn.Sequential(*layers).to(device)
            optimiser = torch.optim.Adam(self.net.parameters(), lr=p.lr)
            for epoch in range(1, p.epochs + 1):
                order, losses = rng.permutation(fit), []
                for start in range(0, len(fit), p.batch):
                    rows = order[start : start + p.batch]
                    loss = _loss(self.net(x[rows]), y[rows], stimulus[rows], p)
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
                    losses.append(loss.item() * len(rows))
                with torch.no_grad():
                    val = _loss(self.net(x[held]), y[held], stimulus[held], p).item() if len(held) else None
                log.append((epoch, sum(losses) / len(fit), val))
        write_log(workdir, log)

    def predict(self, fmri):
        import torch

        with torch.no_grad():
            raw = self.net(self._inputs(fmri.data)).cpu().numpy()
        vectors = _unit(raw) * self.radius + self.centre
        return Predictions(embeddings={self.space: (vectors * self.length).astype(np.float32)})

    def _inputs(self, data):
        import torch

        components = self.pca.transform(data)[:, self.kept] / self.scale
        return torch.from_numpy(components.astype(np.float32)).to(self.device)


def _unit(vectors):
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norm == 0, 1, norm)


def _loss(predicted, target, stimulus, params):
    import torch
    from torch.nn import functional as F

    if params.loss == "cosine":
        return F.cosine_embedding_loss(predicted, target, torch.ones(len(target), device=target.device))
    if params.loss != "infonce":
        raise BenchError(f"cosine-mlp: loss must be 'cosine' or 'infonce', got {params.loss!r}.")
    logits = F.normalize(predicted, dim=1) @ target.T / params.temperature
    same = stimulus[:, None] == stimulus[None]  # another scan of the same stimulus is no negative
    logits = logits.masked_fill(same & ~torch.eye(len(same), dtype=torch.bool, device=same.device), -torch.inf)
    match = torch.arange(len(same), device=same.device)
    return (F.cross_entropy(logits, match) + F.cross_entropy(logits.T, match)) / 2
