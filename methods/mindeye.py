"""MindEye: contrastive tokens for retrieval, a diffusion prior for pictures, optionally a low-level branch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmark.api import Predictions, Reconstructor, item_seeds
from methods._torch import Pace, autocast, seeded, write_curves, write_log


@dataclass(frozen=True)
class MindEyeParams:
    """Parameters; the defaults are the published ones.

    Attributes
    ----------
    hidden, n_blocks, projector : int
        Of the residual perceptron and of the retrieval submodule.
    depth, heads, timesteps, prior_steps : int
        Of the diffusion prior, and its steps when sampling.
    prior_weight : float
        Of the prior's loss (tokens in units of their mean square) beside the contrastive one.
    prior_rows : int
        Rows of a batch that the prior is trained on; 0 for all.
    batch, epochs, max_lr, decay : int, int, float, float
    mixco_share : float
        First share of the epochs that mixes responses (BiMixCo); SoftCLIP after it.
    mixco_temperature, softclip_temperatures : float, (float, float)
        The latter goes from the first to the second along a cosine.
    samples : int
        Pictures drawn for each item; the one whose CLIP tokens are most like the retrieval submodule's is kept.
    steps, guidance : int, float
        Of Versatile Diffusion, under image tokens alone.
    low_level : bool
        Train the low-level branch as well; pictures then start from its picture, not from noise.
    low_hidden, low_map, low_blocks, low_dropout, low_epochs, low_batch, low_lr
        Of the low-level network, as in MindEye-bagging.
    strength : float
        Share of the steps that are run from the low-level picture.
    precision : str
        ``"bf16"`` (CUDA only, other devices stay at float32) or ``"float32"``.
    compile : bool
        Train through ``torch.compile``.
    """

    hidden: int = 4096
    n_blocks: int = 4
    projector: int = 2048
    depth: int = 6
    heads: int = 12
    timesteps: int = 100
    prior_steps: int = 20
    prior_weight: float = 30.0
    prior_rows: int = 0
    dropout: tuple[float, float] = (0.5, 0.15)
    batch: int = 32
    epochs: int = 240
    max_lr: float = 3e-4
    decay: float = 1e-2
    mixco_share: float = 0.33
    mixco_temperature: float = 0.006
    softclip_temperatures: tuple[float, float] = (0.004, 0.0075)
    validation: float = 0.1
    samples: int = 16
    steps: int = 20
    guidance: float = 3.5
    low_level: bool = False
    low_hidden: int = 4096
    low_map: int = 64
    low_blocks: tuple[int, ...] = (64, 128, 256)
    low_dropout: tuple[float, float] = (0.5, 0.25)
    low_epochs: int = 120
    low_batch: int = 8
    low_lr: float = 5e-4
    strength: float = 0.85
    precision: str = "bf16"
    compile: bool = False


class MindEye(Reconstructor):
    """Residual perceptron to CLIP's image tokens; retrieval by the projected ones, pictures by the prior's.

    The epoch with the least validation loss is kept. Pictures start from noise, or from a low-level picture (preset
    ``with-low-level``). DDIM takes UniPC's place. The embedding track gets the class token of the retrieval submodule.
    """

    name = "mindeye"
    tracks = frozenset({"embedding", "reconstruction"})
    Params = MindEyeParams
    presets = {"one-sample": {"samples": 1}, "with-low-level": {"low_level": True}}
    profiles = {
        "mini": {
            "hidden": 512,
            "n_blocks": 2,
            "projector": 192,
            "depth": 2,
            "heads": 4,
            "prior_steps": 10,
            "prior_rows": 24,
            "prior_weight": 10.0,
            "batch": 100,
            "epochs": 20,
            "max_lr": 2e-3,
            "mixco_temperature": 0.05,
            "softclip_temperatures": (0.03, 0.06),
            "samples": 4,
            "steps": 5,
            "guidance": 3.0,
            "low_hidden": 256,
            "low_map": 32,
            "low_blocks": (16, 32, 32),
            "low_epochs": 10,
            "low_batch": 32,
            "low_lr": 2e-3,
            "precision": "float32",
        }
    }
    pretrained = ("clip", "versatile")
    paper = "Scotti et al. 2023, arXiv:2305.18274"
    licence = "MIT"
    resources = {"gpus": 1, "memory_gb": 40, "minutes": 1440}

    def __init__(self, params=None):
        super().__init__(params)
        autocast("cpu", self.params.precision)  # an unknown precision is an error here
        if self.params.low_level:
            self.pretrained = (*type(self).pretrained, "kl")

    def supports(self, dataset):
        if not dataset.has_images:
            return f"{dataset.name} has no pictures"
        if "embedding" in dataset.tracks and "clip" not in dataset.spaces:
            return f"{dataset.name} has no CLIP space"
        return None

    def stimulus_features(self, stimuli, models):
        tokens = models.extract("clip", "image_tokens", stimuli.images)
        found = {"prior": tokens, "retrieval": tokens}
        if self.params.low_level:
            found["latents"] = models.extract("kl", "encode", stimuli.images, resized=True)
        return found

    def train(self, train, *, seed, device, workdir):
        import torch

        from methods import _mindeye_net as net

        p = self.params
        self.seed, self.models, self.device = seed, train.models, device
        self.asked, self.space = train.tracks, train.space
        tables = self.stimulus_features(train.stimuli, train.models)
        table = torch.from_numpy(np.array(tables["prior"])).to(device)
        fit, held = train.holdout(p.validation, seed)
        data = train.fmri.data
        self.centre, std = data[fit].mean(0), data[fit].std(0)
        self.scale = np.where(std > 0, std, 1).astype(np.float32)
        x = self._inputs(data)
        target = torch.from_numpy(train.stimulus).to(device)
        draw = _repeats(train, self._inputs)
        with seeded(seed):
            shape = tuple(table.shape[1:])
            self.backbone = net.Backbone(x.shape[1], shape, p.hidden, p.n_blocks, p.projector, p.dropout).to(device)
            self.prior = net.Prior(shape, p.depth, p.heads, p.timesteps).to(device)
            both = torch.nn.ModuleList([self.backbone, self.prior])
            per_epoch = -(-len(fit) // p.batch)
            adam, cycle = net.optimiser([both], p.max_lr, p.decay, p.epochs * per_epoch, p.epochs)
            rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
            log, best, pace = [], np.inf, Pace()
            if p.compile:
                self.backbone.compile()
                self.prior.compile()
            for epoch in range(1, p.epochs + 1):
                both.train()
                total = torch.zeros((), device=device)
                with pace(per_epoch):
                    for rows in np.array_split(rng.permutation(fit), per_epoch):
                        y = table[target[torch.from_numpy(rows).to(device)]]
                        loss = self._loss(net, draw(rows, rng, x), y, epoch, generator)
                        adam.zero_grad(set_to_none=True)
                        loss.backward()
                        adam.step()
                        cycle.step()
                        total += loss.detach() * len(rows)
                    trained = total.item() / len(fit)
                both.eval()
                with torch.no_grad():  # the last temperature throughout, so that epochs can be compared
                    value = self._loss(net, x[held], table[target[held]], p.epochs, None).item()
                log.append((epoch, trained, value))
                if value < best:
                    best, state = value, {k: v.detach().clone() for k, v in both.state_dict().items()}
            both.load_state_dict(state)
            both.eval()
        self.training = pace.facts(device, p.precision, p.compile)
        self.low, self.mean_latent = None, None
        if not (p.low_level and "reconstruction" in train.tracks):
            write_log(workdir, log)
            return
        self.mean_latent = tables["latents"][np.unique(train.stimulus)].mean(0)
        low = self._fit_low(x, tables["latents"], target, fit, held, seed)
        self.training["low level"] = low.pace.facts(device, p.precision, p.compile)
        write_curves(workdir, {"high level": log, "low level": low.curve})

    def _fit_low(self, x, latents, target, fit, held, seed):
        import torch

        from methods import _mindeye_fit as low
        from methods._mindeye_net import LowLevel

        p = self.params
        plan = low.Plan(p.low_epochs, p.low_batch, p.low_lr, p.decay, p.precision, p.compile)
        with seeded(seed):
            shape, sizes = latents.shape[1:], (p.low_hidden, p.low_map, p.low_blocks, p.low_dropout)
            self.low = LowLevel(x.shape[1], shape, *sizes).to(self.device)
            y = torch.from_numpy(np.array(latents, np.float32)).to(self.device)
            return low.fit(self.low, x, y, target, fit, held, plan, np.random.default_rng(seed))

    def predict(self, fmri):
        features = self.predict_features(fmri)
        vectors = {self.space: features["retrieval"][:, 0]} if "embedding" in self.asked else {}
        if "reconstruction" not in self.asked:
            return Predictions(embeddings=vectors)
        made = self.generate(features, item_seeds(self.seed, len(fmri)), self.models)
        stages = dict(made.intermediates)
        if self.mean_latent is not None:
            stages["latents@mean"] = np.broadcast_to(self.mean_latent, (len(fmri), *self.mean_latent.shape))
        return Predictions(vectors, made.images, intermediates=stages, features=features, notes=made.notes)

    def predict_features(self, fmri, batch=64):
        import torch

        x, found = self._inputs(fmri.data), {"prior": [], "retrieval": []}
        noise = np.random.default_rng(self.seed).standard_normal((len(x), *self.backbone.tokens), np.float32)
        with torch.no_grad():
            for rows in torch.arange(len(x)).split(batch):
                condition, projected = self.backbone(x[rows])
                start = torch.from_numpy(noise[rows.numpy()]).to(self.device)
                found["prior"].append(self.prior.sample(condition, start, self.params.prior_steps))
                norm = projected[:, :1].norm(dim=-1, keepdim=True)
                found["retrieval"].append(projected / norm)
        features = {name: torch.cat(parts).float().cpu().numpy() for name, parts in found.items()}
        if self.low is not None:
            from methods._mindeye_fit import predicted

            features["latents"] = predicted(self.low, x)
        return features

    def generate(self, features, seeds, models):
        p, versatile, clip = self.params, models.load("versatile"), models.load("clip")
        text = np.repeat(versatile.unconditional()[1], len(seeds), axis=0)
        low = models.load("kl").decode(features["latents"]) if "latents" in features else None
        drawn = []
        for number in range(p.samples):
            own = [int(np.random.SeedSequence([s, number]).generate_state(1)[0]) for s in seeds]
            options = {"steps": p.steps, "guidance": p.guidance, "text_weight": 0.0}
            if low is not None:
                options |= {"start": low, "strength": p.strength}
            drawn.append(versatile.generate(features["prior"], text, own, **options))
        wanted = _unit(features["retrieval"].reshape(len(seeds), -1))
        found = [(_unit(clip.image_tokens(x).reshape(len(seeds), -1)) * wanted).sum(1) for x in drawn]
        chosen = np.argmax(found, axis=0)
        pictures = np.stack(drawn)[chosen, np.arange(len(seeds))]
        stages = {"low level": low} if low is not None else {}
        stages |= {"first sample": drawn[0]} if p.samples > 1 else {}
        return Predictions(images=pictures, intermediates=stages)

    def _loss(self, net, x, y, epoch, generator):
        from torch.nn import functional as F

        p = self.params
        mixing = generator is not None and epoch <= p.mixco_share * p.epochs
        if mixing:
            x, partner, weight = net.mixed(x, generator)
        with autocast(self.device, p.precision):
            tokens, projected = (t.float() for t in self.backbone(x))
        predicted, target = (F.normalize(t.flatten(1), dim=1) for t in (projected, y))
        if mixing:
            contrast = net.bimixco(predicted, target, partner, weight, p.mixco_temperature)
        else:
            first, last = p.softclip_temperatures
            done = (epoch - p.mixco_share * p.epochs) / max(1, p.epochs * (1 - p.mixco_share))
            contrast = net.softclip(predicted, target, last + (first - last) * (1 + math.cos(math.pi * done)) / 2)
        some = slice(None, p.prior_rows or None)  # rows are in random order
        with autocast(self.device, p.precision):
            return contrast + p.prior_weight * self.prior.loss(tokens[some], y[some])

    def _inputs(self, data):
        import torch

        return torch.from_numpy(np.asarray((data - self.centre) / self.scale, np.float32)).to(self.device)


def _repeats(train, inputs):
    """Return a function that draws responses of rows: one random repeat of each, where there are repeats."""
    if train.repeats is None:
        return lambda rows, rng, x: x[rows]
    order = np.argsort(train.repeat_row, kind="stable")
    counts = np.bincount(train.repeat_row, minlength=len(train))
    first = np.cumsum(counts) - counts
    trials = train.repeats.data

    def draw(rows, rng, x):
        return inputs(trials[order[first[rows] + (rng.random(len(rows)) * counts[rows]).astype(int)]])

    return draw


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
