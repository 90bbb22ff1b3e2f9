"""Brain-Diffuser: ridge to VDVAE latents and CLIP tokens, then Versatile Diffusion from the low-level picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark import ridge
from benchmark.api import Predictions, Reconstructor, item_seeds
from benchmark.errors import BenchError
from methods._torch import write_log

FEATURES = ("vdvae", "image_tokens", "text_tokens")
# Hidden units, rate and weight decay of the regressions that are trained in batches.
NETWORKS = {"mlp": (64, 1e-3, 1e-2), "sgd": (0, 1e-3, 0.1)}
PENALTIES = dict(zip(FEATURES, (50_000.0, 60_000.0, 100_000.0), strict=True))  # the paper's, of z-scored voxels


@dataclass(frozen=True)
class BrainDiffuserParams:
    """Parameters; the defaults are the paper's.

    Attributes
    ----------
    layers, image_tokens : float
        Share of the VDVAE's regressed layers and of the image tokens that are used, the first ones.
    regression : str
        ``"ridge"`` (closed form), ``"sgd"`` (the linear map, trained in batches) or ``"mlp"`` (64 ReLU units).
    penalty : float
        Of the ridge where it is not the paper's of each feature; 0 for those.
    choose_penalty : bool
        Let training data choose among ``ridge.PENALTIES`` instead.
    voxels : float
        Share of the voxels that is used; below 1 the best of three random draws, by held-out training stimuli.
    renormalise : str
        Bring every predicted dimension to the mean and SD of the training targets: ``"out-of-fold"`` measures
        the predictions' own mean and SD on training stimuli left out, ``"test-set"`` on the test set (as published;
        tagged ``transductive``), ``"none"`` leaves predictions as they are.
    strength, steps, guidance, text_weight : float, int, float, float
        Of Versatile Diffusion.
    temperature, draw_pixels : float, bool
        Of the VDVAE's remaining layers and pixels.
    roi_analysis : bool
        Also draw what single ROIs stand for (``roi_analysis.png`` in the run directory).
    """

    layers: float = 1.0
    image_tokens: float = 1.0
    regression: str = "ridge"
    penalty: float = 0.0
    choose_penalty: bool = False
    voxels: float = 1.0
    renormalise: str = "out-of-fold"
    strength: float = 0.75
    steps: int = 50
    guidance: float = 7.5
    text_weight: float = 0.4
    temperature: float = 1.0
    draw_pixels: bool = True
    epochs: int = 200
    patience: int = 10
    roi_analysis: bool = False


class BrainDiffuser(Reconstructor):
    """Stage 1 predicts latents of a coarse picture, stage 2 refines it under predicted image and text tokens."""

    name = "brain-diffuser"
    Params = BrainDiffuserParams
    presets = {
        "full": {},
        "10layer": {"layers": 10 / 31, "image_tokens": 77 / 257},
        "text-only": {"text_weight": 1.0},
        "text-only-055": {"text_weight": 1.0, "strength": 0.55},
        "vision-only": {"text_weight": 0.0},
        "half": {"text_weight": 0.5},
        "mlp": {"regression": "mlp"},
        "sgd-ridge": {"regression": "sgd"},
        "random-voxels": {"voxels": 5224 / 15724, "penalty": 8000.0},
        "published-renormalisation": {"renormalise": "test-set"},
        "roi-analysis": {"roi_analysis": True},
    }
    profiles = {
        "mini": {"choose_penalty": True, "steps": 20, "guidance": 3.0, "temperature": 0.0, "draw_pixels": False}
    }
    pretrained = ("vdvae", "versatile")
    paper = "Ozcelik & VanRullen 2023, doi:10.1038/s41598-023-42891-8"
    licence = "MIT; the published Versatile Diffusion weights have their own"
    resources = {"gpus": 1, "memory_gb": 16, "minutes": 60}

    @property
    def tags(self):
        return ("transductive",) if self.params.renormalise == "test-set" else ()

    def __init__(self, params=None):
        super().__init__(params)
        known = {"regression": ("ridge", *NETWORKS), "renormalise": ("out-of-fold", "none", "test-set")}
        for name, values in known.items():
            if (value := getattr(self.params, name)) not in values:
                raise BenchError(f"brain-diffuser: {name} must be one of {', '.join(values)}, got {value!r}.")

        if self.params.roi_analysis and self.params.regression != "ridge":
            raise BenchError("brain-diffuser: roi_analysis needs the linear maps of regression ridge.")

    def supports(self, dataset):
        if "reconstruction" not in dataset.tracks or not dataset.has_images:
            return f"{dataset.name} has no pictures to reconstruct"
        if self.params.text_weight and not dataset.has_captions:
            return f"{dataset.name} has no captions (vision-only needs none)"
        return None

    def stimulus_features(self, stimuli, models):
        vdvae, clip = models.load("vdvae"), models.load("clip")
        n_layers = max(1, round(vdvae.config.prefix * self.params.layers))
        n_tokens = max(1, round(clip.image_token_count * self.params.image_tokens))
        found = {
            "vdvae": models.extract("vdvae", "encode", stimuli.images, n_layers=n_layers),
            "image_tokens": models.extract("clip", "image_tokens", stimuli.images)[:, :n_tokens],
        }
        if self.params.text_weight:
            found["text_tokens"] = models.extract("clip", "text_tokens", stimuli.captions)
        return found

    def train(self, train, *, seed, device, workdir):
        p = self.params
        self.seed, self.models, self.device = seed, train.models, device
        tables = self.stimulus_features(train.stimuli, train.models)
        self.shapes = {name: table.shape[1:] for name, table in tables.items()}
        targets = {name: _rows(table, train.stimulus) for name, table in tables.items()}
        fit, held = train.holdout(0.1, seed)
        self.columns = self._columns(train, targets, fit, held, seed)
        x = train.fmri.data[:, self.columns]
        if p.regression == "ridge":
            self.model = self._ridge(x, targets, train.stimulus)
            self.wanted, self.own = {}, {}
            for name in targets if p.renormalise != "none" else ():
                unseen = self.model.out_of_fold(name, groups=train.stimulus, seed=seed)
                self.wanted[name] = unseen.target_mean, unseen.target_std
                self.own[name] = unseen.mean, unseen.std
            if p.roi_analysis:
                self._draw_rois(train.fmri.rois, tables, workdir)
            return
        from methods._regression import Network

        targets = {name: np.asarray(y, np.float32).reshape(len(y), -1) for name, y in targets.items()}
        self.model = Network(*NETWORKS[p.regression], p.epochs, p.patience, batch=64)
        write_log(workdir, self.model.fit(x, targets, fit, held, seed, device))
        self.wanted = {k: _moments(y, self.shapes[k]) for k, y in targets.items()}
        self.own = {k: _moments(y, self.shapes[k]) for k, y in self.model.predict(x[held]).items()}

    def predict_features(self, fmri):
        mode = self.params.renormalise
        raw = self.model.predict(fmri.data[:, self.columns])
        raw = {name: np.asarray(y).reshape(len(y), *self.shapes[name]) for name, y in raw.items()}
        if mode == "none":
            return raw
        own = self.own if mode == "out-of-fold" else {name: (y.mean(0), y.std(0)) for name, y in raw.items()}
        return {name: _renormalised(y, own[name], self.wanted[name]) for name, y in raw.items()}

    def generate(self, features, seeds, models):
        p, versatile = self.params, models.load("versatile")
        low = models.load("vdvae").decode(features["vdvae"], seeds, p.temperature, p.draw_pixels)
        text = features.get("text_tokens")
        if text is None:
            text = np.repeat(versatile.unconditional()[1], len(seeds), axis=0)
        pictures = versatile.generate(
            features["image_tokens"], text, seeds, low, p.strength, p.steps, p.guidance, p.text_weight
        )
        return Predictions(images=pictures, intermediates={"stage 1": low})

    def _draw_rois(self, rois, tables, workdir):
        """Draw what the fitted maps make of every ROI alone."""
        from methods import _roi_analysis as analysis

        found = analysis.patterns({name: mask[self.columns] for name, mask in rois.items()})
        if not found:
            return
        on = np.stack(list(found.values())) * self.model.scale + self.model.mean  # z-scored, these are the patterns
        means = {name: np.asarray(table.mean(0, dtype=np.float64)) for name, table in tables.items()}
        stds = {name: np.asarray(table.std(0)) for name, table in tables.items()}
        raw = self.model.predict(on.astype(np.float32))
        rest = self.model.predict(np.asarray(self.model.mean, np.float32)[None])
        features = analysis.features({name: y - rest[name] for name, y in raw.items()}, means, stds)
        made = self.generate(features, item_seeds(self.seed, len(found)), self.models)
        analysis.draw(workdir, dict(zip(found, made.images, strict=True)))

    def _ridge(self, x, targets, groups):
        p = self.params
        if p.choose_penalty:
            return ridge.fit(x, targets, groups=groups, device=self.device)
        penalties = {name: p.penalty or PENALTIES[name] for name in targets}
        return ridge.fit(x, targets, penalties, groups=groups, relative=False, device=self.device)

    def _columns(self, train, targets, fit, held, seed):
        """Return the voxels to use: all, or of three random draws the one that predicts held-out latents best."""
        n = train.fmri.data.shape[1]
        if self.params.voxels >= 1:
            return slice(None)
        rng = np.random.default_rng(seed)
        best, chosen = np.inf, None
        for _ in range(3):
            columns = np.sort(rng.choice(n, max(1, round(n * self.params.voxels)), replace=False))
            x = train.fmri.data[:, columns]
            model = self._ridge(x[fit], {"vdvae": targets["vdvae"][fit]}, train.stimulus[fit])
            error = np.square(model.predict(x[held])["vdvae"] - targets["vdvae"][held]).mean()
            if error < best:
                best, chosen = error, columns
        return chosen


def _rows(table, stimulus):
    """Return the table's row of every response; the table itself, which may be mapped, where they are in its order."""
    return table if np.array_equal(stimulus, np.arange(len(table))) else np.asarray(table[stimulus], np.float32)


def _moments(y, shape):
    return y.mean(0).reshape(shape), y.std(0).reshape(shape)


def _renormalised(y, own, wanted):
    """Bring columns of a mean and SD to those wanted; a column that never varies gets the wanted mean."""
    (mean, std), (to_mean, to_std) = own, wanted
    varies = std > 1e-6 * to_std
    factor = np.where(varies, to_std / np.where(varies, std, 1), 0).astype(np.float32)
    return np.asarray((y - mean) * factor + to_mean, np.float32)
