"""MindEye-bagging: several low-level networks, guided reconstruction from each, and a vote by CLIP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.api import Predictions, Reconstructor, item_seeds
from benchmark.errors import BenchError
from methods._torch import seeded, write_curves

ROI_SETS = {
    "none": (),
    "set1": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4", "FFA-1", "FFA-2", "PPA"),
    "set2": (
        *("EBA", "FBA-1", "FBA-2", "mTL-bodies", "OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
        *("OPA", "PPA", "RSC"),
    ),
    "set3": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
}
SNAPSHOTS = 8  # epochs whose test loss is known afterwards


@dataclass(frozen=True)
class MindEyeBaggingParams:
    """Parameters; the defaults are the document's, with its code where the two differ.

    Attributes
    ----------
    members : tuple of (ROI set, seed, batch size)
        One network each; sets by name, ``none`` for all voxels.
    roi_mode : str
        ``"zero"`` sets the other voxels to zero (as its code does), ``"select"`` leaves them out.
    bootstrap : bool
        Every member trains on training stimuli drawn with replacement.
    hidden, map_channels, blocks : int, int, tuple of int
        Of the network.
    epochs, max_lr, decay : int, float, float
        OneCycle over all epochs; weights of the epoch with the least validation loss.
    validation : float
        Share of the training stimuli, the same for all members, that picks the epoch.
    strength, steps, guidance : float, int, float
        Of the guided reconstruction.
    """

    members: tuple = (("set3", 3, 16), ("set1", 2423, 16), ("set3", 849, 32), ("set3", 1921, 4))
    roi_mode: str = "zero"
    bootstrap: bool = False
    hidden: int = 2048
    map_channels: int = 64
    blocks: tuple[int, ...] = (64, 128, 256)
    epochs: int = 200
    max_lr: float = 5e-4
    decay: float = 1e-2
    validation: float = 0.1
    strength: float = 0.75
    steps: int = 50
    guidance: float = 6.0


class MindEyeBagging(Reconstructor):
    """Responses to latents of a low-level picture; its caption guides a diffusion that starts from it.

    The vote takes, for each test item, the member whose low-level picture is most like its own final picture (CLIP);
    it knows nothing of the target. What it is worth stands on the ladder beside it: every member, the member with the
    least validation loss, a random pick, the mean of the latents, and the best member by the target (an oracle).
    """

    name = "mindeye-bagging"
    Params = MindEyeBaggingParams
    presets = {
        "bootstrap": {"bootstrap": True},
        **{f"roi-{name}": {"members": ((name, 3, 16),)} for name in ROI_SETS},
    }
    profiles = {
        "mini": {
            "members": (("set3", 3, 32), ("set1", 2423, 32), ("set3", 849, 64), ("set3", 1921, 16)),
            "hidden": 256,
            "map_channels": 32,
            "blocks": (16, 32, 32),
            "epochs": 10,
            "max_lr": 2e-3,
            "steps": 12,
            "guidance": 3.0,
        }
    }
    pretrained = ("kl", "captioner", "img2img", "clip")
    paper = "unpublished course project; low-level branch after Scotti et al. 2023, arXiv:2305.18274"
    licence = "MIT"
    resources = {"gpus": 1, "memory_gb": 16, "minutes": 120}

    candidates = "member "  # stages of which the ladder takes the best by the target
    comparisons = (
        ("predicted", "predicted, random pick"),
        ("predicted", "predicted, best member by validation"),
        ("predicted", "predicted, mean of latents"),
    )

    def supports(self, dataset):
        if "reconstruction" not in dataset.tracks or not dataset.has_images:
            return f"{dataset.name} has no pictures to reconstruct"
        wanted = {roi for name, *_ in self.params.members for roi in ROI_SETS[name]}
        if wanted and not wanted & set(dataset.rois):
            return f"{dataset.name} has none of the ROIs of {', '.join(sorted({m[0] for m in self.params.members}))}"
        return None

    def stimulus_features(self, stimuli, models):
        latents = models.extract("kl", "encode", stimuli.images, resized=True)
        return {f"latents {k}": latents for k in range(1, len(self.params.members) + 1)}

    def train(self, train, *, seed, device, workdir):
        p = self.params
        self.seed, self.models, self.device = seed, train.models, device
        table = next(iter(self.stimulus_features(train.stimuli, train.models).values()))
        self.mean_latent = table[np.unique(train.stimulus)].mean(0)
        fit, held = train.holdout(
            p.validation, seed
        )  # the same for every member, so that none saw what another stops by
        data = train.fmri.data
        self.centre, std = data[fit].mean(0), data[fit].std(0)
        self.scale = np.where(std > 0, std, 1).astype(np.float32)
        self.members, curves = [], {}
        for number, (roi_set, member_seed, batch) in enumerate(p.members, 1):
            mask = self._mask(train.fmri.rois, roi_set, data.shape[1])
            seeds = np.random.SeedSequence([seed, member_seed])
            member, curve = self._fit(mask, data, table, train.stimulus, fit, held, batch, seeds)
            self.members.append(member)
            curves[f"member {number}"] = curve
        write_curves(workdir, curves)

    def predict(self, fmri):
        made = super().predict(fmri)
        n = len(fmri)
        more = {"latents 1@mean": np.broadcast_to(self.mean_latent, (n, *self.mean_latent.shape))}
        for number, member in enumerate(self.members, 1):
            for epoch, state in member["snapshots"].items():
                more[f"latents {number}@epoch {epoch}"] = self._latents(member, fmri.data, state)
        notes = dict(made.notes)
        if len(self.members) > 1:
            chosen = int(np.argmin([m["validation"] for m in self.members]))
            notes["best member by validation"] = chosen + 1
            more |= self._alternatives(made, chosen)
        low = self.models.load("kl").decode(self.mean_latent[None])
        more["mean latent"] = np.repeat(low, n, axis=0)
        return Predictions(
            images=made.images,
            captions=made.captions,
            intermediates={**made.intermediates, **more},
            features=made.features,
            notes=notes,
        )

    def _alternatives(self, made, chosen):
        """Return what could have been taken instead of the vote."""
        names, n = [f"member {k}" for k in range(1, len(self.members) + 1)], len(made.images)
        stack = np.stack([made.intermediates[name] for name in names])
        pick = np.random.default_rng(self.seed).integers(len(names), size=n)
        average = np.mean(list(made.features.values()), axis=0)
        return {
            "best member by validation": stack[chosen],
            "random pick": stack[pick, np.arange(n)],
            "mean of latents": self._guided(average, item_seeds(self.seed, n), self.models)[1],
        }

    def predict_features(self, fmri):
        return {f"latents {k}": self._latents(m, fmri.data) for k, m in enumerate(self.members, 1)}

    def generate(self, features, seeds, models):
        done: list[tuple] = []
        for latents in features.values():
            same = next((d for d in done if d[0] is latents or np.array_equal(d[0], latents)), None)
            done.append((latents, *(same[1:] if same else self._guided(latents, seeds, models))))
        low, high = (np.stack([d[i] for d in done]) for i in (1, 2))
        captions = [d[3] for d in done]
        clip = models.load("clip")
        similarity = np.stack(
            [(clip.encode_image(a) * clip.encode_image(b)).sum(1) for a, b in zip(low, high, strict=True)]
        )
        chosen, notes = vote(similarity)
        items = np.arange(len(seeds))
        stages = {f"member {k}": pictures for k, pictures in enumerate(high, 1)} if len(high) > 1 else {}
        return Predictions(
            images=high[chosen, items],
            captions=[captions[k][i] for i, k in enumerate(chosen)],
            intermediates={"low level": low[chosen, items], **stages},
            notes=notes,
        )

    def _guided(self, latents, seeds, models):
        """Return low-level pictures, final pictures and captions of latents."""
        p = self.params
        low = models.load("kl").decode(latents)
        captions = [text.replace("blurry ", "") for text in models.load("captioner").caption(low)]
        return low, models.load("img2img").generate(captions, low, seeds, p.strength, p.steps, p.guidance), captions

    def _mask(self, rois, roi_set, n_voxels):
        names = ROI_SETS[roi_set]
        if not names:
            return np.ones(n_voxels, bool)
        found = [rois[name] for name in names if name in rois]  # a ROI may be missing in a subject
        mask = np.logical_or.reduce(found) if found else np.zeros(n_voxels, bool)
        if not mask.any():
            raise BenchError(f"mindeye-bagging: no voxel is in a ROI of {roi_set}, expected at least one.")
        return mask

    def _inputs(self, mask, data):
        import torch

        x = (data - self.centre) / self.scale
        x = x[:, mask] if self.params.roi_mode == "select" else np.where(mask, x, 0)
        return torch.from_numpy(np.asarray(x, np.float32)).to(self.device)

    def _fit(self, mask, data, table, stimulus, fit, held, batch, seeds):
        import torch
        from torch.nn import functional as F

        from methods._mindeye_net import LowLevel, optimiser

        p = self.params
        rng = np.random.default_rng(seeds)
        if p.bootstrap:
            groups, counts = np.unique(
                rng.choice(np.unique(stimulus[fit]), len(np.unique(stimulus[fit]))), return_counts=True
            )
            times = np.zeros(stimulus.max() + 1, int)
            times[groups] = counts
            fit = np.repeat(fit, times[stimulus[fit]])
        x = self._inputs(mask, data)
        y = torch.from_numpy(np.array(table, np.float32)).to(self.device)
        target = torch.from_numpy(stimulus).to(self.device)
        curve, best, member, snapshots = [], np.inf, {}, {}
        kept_epochs = set(np.linspace(1, p.epochs, min(SNAPSHOTS, p.epochs)).round().astype(int).tolist())
        with seeded(int(seeds.generate_state(1)[0])):
            net = LowLevel(x.shape[1], table.shape[1:], p.hidden, p.map_channels, p.blocks).to(self.device)
            per_epoch = -(-len(fit) // batch)
            adam, cycle = optimiser([net], p.max_lr, p.decay, p.epochs * per_epoch, p.epochs)
            for epoch in range(1, p.epochs + 1):
                net.train()
                total = 0.0
                for rows in torch.from_numpy(rng.permutation(fit)).to(self.device).split(batch):
                    loss = F.l1_loss(net(x[rows]), y[target[rows]])
                    adam.zero_grad(set_to_none=True)
                    loss.backward()
                    adam.step()
                    cycle.step()
                    total += loss.detach() * len(rows)
                value = self._loss(net, x[held], y[target[held]])
                curve.append((epoch, float(total) / len(fit), value))
                state = {k: v.detach().cpu().clone() for k, v in net.state_dict().items()}
                if value < best:
                    best, member = value, {"net": net, "mask": mask, "state": state}
                if epoch in kept_epochs:
                    snapshots[epoch] = state
        return {**member, "validation": best, "snapshots": snapshots}, curve

    def _loss(self, net, x, y, batch=256):
        import torch

        net.eval()
        with torch.no_grad():
            parts = [(net(a) - b).abs().mean((1, 2, 3)) for a, b in zip(x.split(batch), y.split(batch), strict=True)]
        return torch.cat(parts).mean().item()

    def _latents(self, member, data, state=None, batch=256):
        import torch

        net = member["net"]
        net.load_state_dict(state or member["state"])
        net.eval()
        with torch.no_grad():
            parts = [net(x).float().cpu() for x in self._inputs(member["mask"], data).split(batch)]
        return torch.cat(parts).numpy()


def vote(similarity: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Choose one member for each item.

    NaN never wins; ties go to the first of them; where all are NaN, the first member is taken.

    Parameters
    ----------
    similarity : ndarray of shape (n_members, n_items)

    Returns
    -------
    chosen : ndarray of shape (n_items,), int
    notes : dict
        How many items had a tie for the best, no positive similarity, or no number at all.
    """
    numbers = np.where(np.isnan(similarity), -np.inf, similarity)
    best = numbers.max(0)
    tied = (numbers == best).sum(0) > 1
    nothing = ~np.isfinite(best)
    notes = {
        "votes tied": int((tied & ~nothing).sum()),
        "votes without a positive similarity": int(((best <= 0) & ~nothing).sum()),
        "votes without a number": int(nothing.sum()),
    }
    return numbers.argmax(0), {name: count for name, count in notes.items() if count}
