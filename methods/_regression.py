"""Regressions from responses to several feature tables that are no ridge in closed form (imports torch)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from methods._torch import seeded


class Network:
    """One network for each feature table, on standardised responses and standardised targets.

    Parameters
    ----------
    hidden : int
        Units of the ReLU layer; 0 for a linear map.
    decay : float
        Weight decay of Adam's decoupled kind.
    epochs, patience : int
        At most ``epochs``, stopping ``patience`` epochs after the least validation loss, whose weights are kept.
    """

    def __init__(self, hidden: int, lr: float, decay: float, epochs: int, patience: int, batch: int) -> None:
        self.hidden, self.lr, self.decay, self.epochs = hidden, lr, decay, epochs
        self.patience, self.batch = patience, batch

    def fit(self, x: np.ndarray, targets: Mapping[str, np.ndarray], fit, held, seed: int, device: str) -> list[tuple]:
        """Train on rows ``fit``, stop by rows ``held``; return (epoch, train, validation) of the summed losses."""
        self.device = device
        self.mean, std = x[fit].mean(0), x[fit].std(0)
        self.scale = np.where(std > 0, std, 1).astype(np.float32)
        inputs, self.models, self.moments, curves = self._inputs(x), {}, {}, []
        for name, table in targets.items():
            mean, spread = table[fit].mean(0), table[fit].std(0)
            self.moments[name] = mean, np.where(spread > 1e-6, spread, 1).astype(np.float32)
            y = torch.from_numpy((table - mean) / self.moments[name][1]).to(device)
            with seeded(seed):
                curves.append(self._train(name, inputs, y, fit, held, np.random.default_rng(seed)))
        longest = max(map(len, curves))
        padded = [c + [c[-1]] * (longest - len(c)) for c in curves]  # a table that stopped keeps its last loss
        return [(i + 1, *np.mean([c[i] for c in padded], axis=0)) for i in range(longest)]

    def predict(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the predicted tables."""
        inputs = self._inputs(x)
        with torch.no_grad():
            raw = {name: model(inputs).cpu().numpy() for name, model in self.models.items()}
        return {name: values * self.moments[name][1] + self.moments[name][0] for name, values in raw.items()}

    def _inputs(self, x):
        return torch.from_numpy(np.asarray((x - self.mean) / self.scale, np.float32)).to(self.device)

    def _train(self, name, x, y, fit, held, rng) -> list[tuple[float, float]]:
        sizes = (x.shape[1], self.hidden, y.shape[1]) if self.hidden else (x.shape[1], y.shape[1])
        layers = [nn.Linear(sizes[0], sizes[1])]
        if self.hidden:
            layers += nn.ReLU(), nn.Linear(sizes[1], sizes[2])
        model = self.models[name] = nn.Sequential(*layers).to(self.device)
        optimiser = torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=self.decay)
        curve, best, kept = [], np.inf, {k: v.clone() for k, v in model.state_dict().items()}
        best_epoch = 0
        for epoch in range(self.epochs):
            losses = []
            for rows in torch.from_numpy(rng.permutation(fit)).split(self.batch):
                loss = nn.functional.mse_loss(model(x[rows]), y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item() * len(rows))
            with torch.no_grad():
                value = nn.functional.mse_loss(model(x[held]), y[held]).item()
            curve.append((sum(losses) / len(fit), value))
            if value < best:
                best, best_epoch = value, epoch
                kept = {k: v.clone() for k, v in model.state_dict().items()}
            elif epoch - best_epoch >= self.patience:
                break
        model.load_state_dict(kept)
        return curve
