"""Brain2CLIP: the Brain2Word autoencoder with a CLIP head, and pictures from the predicted embedding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark import ridge
from benchmark.api import Predictions, Reconstructor, item_seeds
from benchmark.errors import BenchError
from methods._blocks import fit_blocks
from methods._torch import seeded, write_log

SCHEMES = {  # what each stage of training minimises: reconstruction of the responses, regression on the embedding
    "base": (("regression",),),
    "pretrain": (("reconstruction",), ("regression only",)),
    "pretrain-joint": (("reconstruction",), ("reconstruction", "regression")),
    "joint": (("reconstruction", "regression"),),
}


@dataclass(frozen=True)
class Brain2CLIPParams:
    """Parameters; epochs and rates are those of Brain2Word, where the source says nothing.

    Attributes
    ----------
    scheme : str
        ``"joint"`` (both losses from scratch), ``"base"`` (no autoencoder), ``"pretrain"`` (autoencoder first, then
        the regression layer alone) or ``"pretrain-joint"`` (autoencoder first, then both losses).
    augment : bool
        Four copies of every training row, whose pictures are flipped, cropped, brightened and blurred at random.
    hidden, voxels_per_unit, dropout, bn_momentum : tuple of int, int, float, float
        Of the network.
    batch, epochs, patience, lr, validation : int, int, int, float, float
    steps, guidance, text_weight : int, float, float
        Of Versatile Diffusion.
    """

    scheme: str = "joint"
    augment: bool = False
    hidden: tuple[int, ...] = (200,)
    voxels_per_unit: int = 20
    dropout: float = 0.4
    bn_momentum: float = 0.01
    batch: int = 180
    epochs: int = 100
    patience: int = 10
    lr: float = 1e-3
    validation: float = 0.1
    steps: int = 50
    guidance: float = 7.5
    text_weight: float = 0.5


class Brain2CLIP(Reconstructor):
    """Blocks of ROIs to a code, the code to a CLIP embedding and, by transposed weights, back to the responses.

    The target of an image is the embedding of that caption of its own which is closest to it in CLIP space; without
    captions, of the image itself. Text embeddings lie apart from image embeddings, so predictions are moved by the
    difference of the two training means where images are retrieved. Pictures: a linear map, fitted on training
    stimuli alone, makes image and text tokens of the embedding, which guide Versatile Diffusion from noise. Beside
    them stand the nearest training caption and the picture it belongs to.
    """

    name = "brain2clip"
    tracks = frozenset({"embedding", "reconstruction"})
    Params = Brain2CLIPParams
    presets = {
        **{name: {"scheme": name} for name in ("base", "pretrain", "pretrain-joint")},
        "augmented": {"augment": True},
    }
    profiles = {
        "mini": {
            "voxels_per_unit": 8,
            "bn_momentum": 0.1,
            "batch": 90,
            "epochs": 20,
            "patience": 5,
            "lr": 2e-3,
            "steps": 10,
            "guidance": 3.0,
        }
    }
    pretrained = ("clip", "versatile")
    paper = "unpublished; after Affolter et al. 2020, arXiv:2009.04765"
    licence = "MIT"
    resources = {"gpus": 1, "memory_gb": 8, "minutes": 30}

    def __init__(self, params=None):
        super().__init__(params)
        if self.params.scheme not in SCHEMES:
            raise BenchError(f"brain2clip: scheme must be one of {', '.join(SCHEMES)}, got {self.params.scheme!r}.")

    def supports(self, dataset):
        if not dataset.has_images or "clip" not in dataset.spaces:
            return f"{dataset.name} has no pictures, so no CLIP embeddings"
        return None

    def stimulus_features(self, stimuli, models):
        found = {
            "embedding": _targets(stimuli, models)[0],
            "image_tokens": models.extract("clip", "image_tokens", stimuli.images),
        }
        if stimuli.captions is not None:
            found["text_tokens"] = models.extract("clip", "text_tokens", stimuli.captions)
        return found

    def train(self, train, *, seed, device, workdir):
        self.seed, self.models, self.device, self.asked = seed, train.models, device, train.tracks
        self.space, self.images = train.space or "clip", train.stimuli.images
        tables = self.stimulus_features(train.stimuli, train.models)
        self.targets, self.captions = _targets(train.stimuli, train.models)
        seen = np.unique(train.stimulus)
        own = np.asarray(train.models.extract("clip", "encode_image", train.stimuli.images))
        self.shift = own[seen].mean(0) - self.targets[seen].mean(0)
        self.shapes = {name: table.shape[1:] for name, table in tables.items() if name != "embedding"}
        tokens = {name: np.asarray(tables[name], np.float32).reshape(len(own), -1)[seen] for name in self.shapes}
        self.to_tokens = ridge.fit(self.targets[seen], tokens, device=device) if tokens else None
        fit, held = train.holdout(self.params.validation, seed)
        self.blocks, _ = fit_blocks(train.fmri.data, fit, train.fmri.rois, self.params.voxels_per_unit)
        targets, rows = self.targets[train.stimulus], fit
        if self.params.augment:
            targets, rows, fit = self._augmented(train, fit, targets, seed)
        data = train.fmri.data if not self.params.augment else train.fmri.data[rows]
        write_log(workdir, self._fit(self.blocks(data), targets, fit, held, seed))

    def predict(self, fmri):
        features = self.predict_features(fmri)
        vectors = features["embedding"]
        nearest = np.argmax(vectors @ self.targets.T, axis=1)
        captions = None if self.captions is None else [self.captions[i] for i in nearest]
        found = {self.space: _unit(vectors + self.shift)} if "embedding" in self.asked else {}
        if "reconstruction" not in self.asked:
            return Predictions(embeddings=found, captions=captions)
        made = self.generate(features, item_seeds(self.seed, len(fmri)), self.models)
        pictures = {"nearest image": np.asarray(self.images)[nearest]}
        return Predictions(found, made.images, captions=captions, intermediates=pictures, features=features)

    def predict_features(self, fmri):
        import torch

        self.net.eval()
        with torch.no_grad():
            x = torch.from_numpy(self.blocks(fmri.data)).to(self.device)
            vectors = _unit(self.net(x).vector.cpu().numpy())
        tokens = self.to_tokens.predict(vectors)
        found = {name: tokens[name].reshape(len(vectors), *shape) for name, shape in self.shapes.items()}
        return {"embedding": vectors, **found}

    def generate(self, features, seeds, models):
        p, versatile = self.params, models.load("versatile")
        text, weight = features.get("text_tokens"), p.text_weight
        if text is None:
            text, weight = np.repeat(versatile.unconditional()[1], len(seeds), axis=0), 0.0
        options = {"steps": p.steps, "guidance": p.guidance, "text_weight": weight}
        return Predictions(images=versatile.generate(features["image_tokens"], text, seeds, **options))

    def _fit(self, x, targets, fit, held, seed):
        """Run the stages of the scheme; return the curve of all of them."""
        import torch

        from methods import _brain2word_net as net

        p, stages = self.params, SCHEMES[self.params.scheme]
        x, y = torch.from_numpy(x).to(self.device), torch.from_numpy(targets).to(self.device)
        with seeded(seed):
            trunk = net.Trunk(x.shape[1], p.hidden, self.blocks.rois, p.dropout, p.bn_momentum)
            tied = any("reconstruction" in stage for stage in stages)
            shape = y.shape[1], 1
            self.net = net.Network(trunk, *shape, "regression", False, tied, p.dropout, p.bn_momentum).to(self.device)
            log = []
            for losses in stages:
                curve = self._stage(x, y, fit, held, losses, np.random.default_rng(seed))
                log += [(len(log) + i, *rest) for i, rest in enumerate(curve, 1)]
        return log

    def _stage(self, x, y, fit, held, losses, rng):
        """Train until the last named loss stops falling on the held-out rows; keep the best epoch."""
        import torch

        from methods._brain2word_net import reconstruction_loss

        p, watched = self.params, losses[-1]

        def loss_of(rows):
            out = self.net(x[rows])
            parts = []
            if "reconstruction" in losses:
                parts.append(reconstruction_loss(self.net.reconstruct(out.code), x[rows]) + 1)
            if watched != "reconstruction":
                parts.append((1 - torch.cosine_similarity(out.vector, y[rows])).mean())
            return parts

        alone = watched == "regression only"
        chosen = self.net.vector.parameters() if alone else self.net.parameters()
        optimiser = torch.optim.Adam(chosen, lr=p.lr, amsgrad=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: 0.3 ** ((1 + epoch) // 10))
        best, stale, curve, state = np.inf, 0, [], None
        for _ in range(p.epochs):
            self.net.train()
            if alone:  # what the frozen layers have learnt about their inputs stays, too
                self.net.trunk.eval()
            total = 0.0
            for rows in np.array_split(rng.permutation(fit), -(-len(fit) // p.batch)):
                parts = loss_of(torch.from_numpy(rows).to(x.device))
                optimiser.zero_grad()
                sum(parts).backward()
                optimiser.step()
                total += parts[-1].item() * len(rows)
            schedule.step()
            self.net.eval()
            with torch.no_grad():
                value = loss_of(torch.from_numpy(held).to(x.device))[-1].item()
            curve.append((total / len(fit), value))
            stale = 0 if value < best else stale + 1
            if value < best:
                best, state = value, {k: v.detach().clone() for k, v in self.net.state_dict().items()}
            if stale >= p.patience:
                break
        self.net.load_state_dict(state)
        return curve

    def _augmented(self, train, fit, targets, seed):
        """Add four copies of every row to fit, with the embedding of a changed picture as target.

        Returns
        -------
        targets : ndarray
            Of the rows as they were, then of the copies.
        rows : ndarray of int
            Row of the training set that each of them has its response from.
        fit : ndarray of int
            Which of them to fit on.
        """
        rng, copies = np.random.default_rng(seed), np.tile(fit, 4)
        pictures = _changed(np.asarray(train.stimuli.images)[train.stimulus[copies]], seed)
        embedded = self.models.load("clip").encode_image(pictures)
        if self.captions is not None:  # among the image's own captions, the closest to the changed picture
            texts, owner = _texts(train.stimuli.captions)
            table = self.models.extract("clip", "encode_text", texts)
            score = embedded @ table.T
            score[owner[None] != train.stimulus[copies][:, None]] = -np.inf
            embedded = table[score.argmax(1)]
        first = len(targets)
        rows = np.concatenate([np.arange(first), copies])
        order = rng.permutation(np.concatenate([fit, np.arange(first, first + len(copies))]))
        return np.concatenate([targets, embedded]), rows, order


def _targets(stimuli, models) -> tuple[np.ndarray, list[str] | None]:
    """Return the target embedding of every stimulus, and its caption where it is one."""
    own = np.array(models.extract("clip", "encode_image", stimuli.images))
    if stimuli.captions is None:
        return own, None
    texts, owner = _texts(stimuli.captions)
    if not texts:
        return own, None
    table = np.asarray(models.extract("clip", "encode_text", texts))
    score = (table * own[owner]).sum(1)
    order = np.lexsort((-score, owner))  # by stimulus, the closest caption first
    with_caption, first = np.unique(owner[order], return_index=True)
    own[with_caption] = table[order[first]]
    chosen = dict(zip(with_caption.tolist(), order[first].tolist(), strict=True))
    return own, [texts[chosen[i]] if i in chosen else "" for i in range(len(own))]


def _texts(captions) -> tuple[list[str], np.ndarray]:
    """Return all captions that are not empty, and the stimulus of each."""
    pairs = [(text, i) for i, several in enumerate(captions) for text in several if text.strip()]
    return [text for text, _ in pairs], np.array([i for _, i in pairs], int)


def _changed(images: np.ndarray, seed: int) -> np.ndarray:
    """Return pictures flipped, cropped, brightened, contrasted and blurred at random."""
    import torch
    from torchvision.transforms import v2

    size = images.shape[1:3]
    change = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.9, 1.1), antialias=True),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
            v2.GaussianBlur(3, sigma=(0.1, 1.0)),
        ]
    )
    with seeded(seed):
        changed = [change(image) for image in torch.from_numpy(images).permute(0, 3, 1, 2)]
    return torch.stack(changed).permute(0, 2, 3, 1).contiguous().numpy()


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
