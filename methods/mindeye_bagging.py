"""MindEye-bagging: several low-level networks, guided reconstruction from each, and a vote by CLIP."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.api import Predictions, Reconstructor, item_seeds
from benchmark.errors import BenchError
from methods._torch import PRECISIONS, Pace, seeded, write_curves

ROI_SETS = {
    "none": (),
    "set1": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4", "FFA-1", "FFA-2", "PPA"),
    "set2": (
        *("EBA", "FBA-1", "FBA-2", "mTL-bodies", "OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
        *("OPA", "PPA", "RSC"),
    ),
    "set3": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
}
ABLATION = tuple((name, 3, batch) for name in ROI_SETS for batch in (16, 32, 64))


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
    hidden, map_channels, blocks, dropout : int, int, tuple of int, (float, float)
        Of the network; dropout after the first layer and in the blocks.
    epochs, max_lr, decay : int, float, float
        OneCycle over all epochs; weights of the epoch with the least validation loss.
    validation : float
        Share of the training stimuli, the same for all members, that picks the epoch.
    strength, steps, guidance : float, int, float
        Of the guided reconstruction.
    draw : str
        Members that are drawn: ``"vote"`` all, for the vote; ``"best"`` the one with the least validation loss.
    snapshots : int
        Epochs whose weights are kept on disk until the prediction, so that their test loss is known as well.
    similarity : int
        Training and validation stimuli in ``similarity.csv``; 0 leaves the table out.
    precision : str
        ``"bf16"`` (CUDA only, other devices stay at float32) or ``"float32"``.
    compile : bool
        Train through ``torch.compile``.
    """

    members: tuple = (("set3", 3, 16), ("set1", 2423, 16), ("set3", 849, 32), ("set3", 1921, 4))
    roi_mode: str = "zero"
    bootstrap: bool = False
    hidden: int = 2048
    map_channels: int = 64
    blocks: tuple[int, ...] = (64, 128, 256)
    dropout: tuple[float, float] = (0.5, 0.3)
    epochs: int = 200
    max_lr: float = 5e-4
    decay: float = 1e-2
    validation: float = 0.1
    strength: float = 0.75
    steps: int = 50
    guidance: float = 6.0
    draw: str = "vote"
    snapshots: int = 8
    similarity: int = 100
    precision: str = "bf16"
    compile: bool = False


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
        "roi-ablation": {"members": ABLATION, "epochs": 50, "draw": "best", "snapshots": 3},
    }
    profiles = {
        "mini": {
            "members": (("set3", 3, 32), ("set1", 2423, 32), ("set3", 849, 64), ("set3", 1921, 16)),
            "hidden": 256,
            "map_channels": 32,
            "blocks": (16, 32, 32),
            "dropout": (0.1, 0.05),
            "epochs": 8,
            "max_lr": 1e-3,
            "steps": 12,
            "guidance": 3.0,
            "precision": "float32",
        }
    }
    pretrained = ("kl", "captioner", "img2img", "clip")
    paper = "unpublished course project; low-level branch after Scotti et al. 2023, arXiv:2305.18274"
    licence = "MIT"
    resources = {"gpus": 1, "memory_gb": 16, "minutes": 120}

    comparisons = (
        ("predicted", "predicted, random pick"),
        ("predicted", "predicted, best member by validation"),
        ("predicted", "predicted, mean of latents"),
    )

    def __init__(self, params=None):
        super().__init__(params)
        p = self.params
        known = {"roi_mode": ("zero", "select"), "draw": ("vote", "best"), "precision": PRECISIONS}
        for name, values in known.items():
            if (value := getattr(p, name)) not in values:
                raise BenchError(f"mindeye-bagging: {name} must be one of {', '.join(values)}, got {value!r}.")
        if unknown := sorted({name for name, *_ in p.members} - set(ROI_SETS)):
            raise BenchError(f"mindeye-bagging: unknown ROI set {unknown[0]!r}, expected {', '.join(ROI_SETS)}.")

    @classmethod
    def make_params(cls, profile, preset, overrides=None):
        few = {"epochs": 4} if (profile, preset) == ("mini", "roi-ablation") else {}
        return super().make_params(profile, preset, few | dict(overrides or {}))

    @property
    def candidates(self):
        """Stages of which the ladder takes the best by the target; none where a single member is drawn."""
        return "member " if self.params.draw == "vote" and len(self.params.members) > 1 else ""

    def supports(self, dataset):
        if "reconstruction" not in dataset.tracks or not dataset.has_images:
            return f"{dataset.name} has no pictures to reconstruct"
        wanted = {name: set(ROI_SETS[name]) for name, *_ in self.params.members}
        if absent := sorted(name for name, rois in wanted.items() if rois and not rois & set(dataset.rois)):
            return f"{dataset.name} has none of the ROIs of {', '.join(absent)}"
        return None

    def stimulus_features(self, stimuli, models):
        latents = models.extract("kl", "encode", stimuli.images, resized=True)
        names = [f"latents {k}" for k in range(1, len(self.params.members) + 1)]
        return dict.fromkeys(["chosen", *names] if self.params.draw == "best" else names, latents)

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
        self.members, curves, pace = [], {}, Pace()
        self.snapshots = workdir / "snapshots"
        shutil.rmtree(self.snapshots, ignore_errors=True)
        self.snapshots.mkdir()
        for number, (roi_set, member_seed, batch) in enumerate(p.members, 1):
            mask = self._mask(train.fmri.rois, roi_set, data.shape[1])
            seeds = np.random.SeedSequence([seed, member_seed])
            member = self._fit(number, mask, data, table, train.stimulus, fit, held, batch, seeds)
            self.members.append(member)
            curves[f"member {number} {roi_set} batch {batch}"] = member["curve"]
            pace.steps, pace.seconds = pace.steps + member["pace"].steps, pace.seconds + member["pace"].seconds
        self.training = {"networks": len(self.members), **pace.facts(device, p.precision, p.compile)}
        write_curves(workdir, curves)
        if p.similarity:
            self._write_similarity(workdir / "similarity.csv", train, fit, held)

    def predict(self, fmri):
        made = super().predict(fmri)
        n = len(fmri)
        more = {"latents 1@mean": np.broadcast_to(self.mean_latent, (n, *self.mean_latent.shape))}
        more |= self._at_epochs(fmri.data)
        notes = dict(made.notes)
        if len(self.members) > 1:
            notes["best member by validation"] = self._best() + 1
        if self.candidates:
            more |= self._alternatives(made, self._best())
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

    def _best(self):
        return int(np.argmin([member["validation"] for member in self.members]))

    def _at_epochs(self, data):
        """Return the latents of the epochs kept on disk, and delete these."""
        import torch

        from methods._mindeye_fit import predicted

        found = {}
        for number, member in enumerate(self.members, 1):
            x = self._inputs(member["mask"], data)
            for path in sorted(self.snapshots.glob(f"{number}-*.pt")):
                state = torch.load(path, map_location=self.device, weights_only=True)
                found[f"latents {number}@epoch {int(path.stem.partition('-')[2])}"] = predicted(member["net"], x, state)
        shutil.rmtree(self.snapshots, ignore_errors=True)
        return found

    def predict_features(self, fmri):
        found = {f"latents {k}": self._latents(member, fmri.data) for k, member in enumerate(self.members, 1)}
        return {"chosen": found[f"latents {self._best() + 1}"], **found} if self.params.draw == "best" else found

    def generate(self, features, seeds, models):
        done: list[tuple] = []
        for latents in [features["chosen"]] if self.params.draw == "best" else features.values():
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

    def _fit(self, number, mask, data, table, stimulus, rows, held, batch, seeds):
        import torch

        from methods._mindeye_fit import Plan, fit
        from methods._mindeye_net import LowLevel

        p = self.params
        rng = np.random.default_rng(seeds)
        if p.bootstrap:
            rows = _resampled(rows, stimulus, rng)
        x, target = self._inputs(mask, data), torch.from_numpy(stimulus).to(self.device)
        y = torch.from_numpy(np.array(table, np.float32)).to(self.device)
        kept = set(np.linspace(1, p.epochs, min(p.snapshots, p.epochs)).round().astype(int).tolist())

        def keep(epoch, net):
            if epoch in kept:
                torch.save(net.state_dict(), self.snapshots / f"{number}-{epoch:04d}.pt")

        plan = Plan(p.epochs, batch, p.max_lr, p.decay, p.precision, p.compile)
        with seeded(int(seeds.generate_state(1)[0])):
            net = LowLevel(x.shape[1], table.shape[1:], p.hidden, p.map_channels, p.blocks, p.dropout).to(self.device)
            done = fit(net, x, y, target, rows, held, plan, rng, keep)
        return {"net": net, "mask": mask, **vars(done)}

    def _latents(self, member, data):
        from methods._mindeye_fit import predicted

        return predicted(member["net"], self._inputs(member["mask"], data))

    def _write_similarity(self, path: Path, train, fit, held):
        """Write, for every member, errors and the CLIP similarity of low-level pictures and stimuli on both sides.

        The chance similarity is that of the same pictures with the stimuli of others.
        """
        import torch

        from methods._mindeye_fit import error, predicted

        stimulus, kl, clip = train.stimulus, self.models.load("kl"), self.models.load("clip")
        table = torch.from_numpy(np.array(next(iter(self.stimulus_features(train.stimuli, self.models).values()))))
        y, target = table.to(self.device), torch.from_numpy(stimulus).to(self.device)
        sides = {}
        for name, rows in (("train", fit), ("validation", held)):
            _, first = np.unique(stimulus[rows], return_index=True)  # one response of each stimulus
            few = np.sort(np.random.default_rng(self.seed).permutation(rows[first])[: self.params.similarity])
            sides[name] = torch.from_numpy(rows), few, clip.encode_image(train.stimuli.images[stimulus[few]])
        lines = []
        for number, (member, asked) in enumerate(zip(self.members, self.params.members, strict=True), 1):
            line = {"member": number, **dict(zip(("rois", "seed", "batch"), asked, strict=True))}
            line["epoch"] = member["epoch"]
            x = self._inputs(member["mask"], train.fmri.data)
            for name, (rows, few, seen) in sides.items():
                alike = clip.encode_image(kl.decode(predicted(member["net"], x[few]))) @ seen.T
                n = len(few)
                line |= {
                    f"{name} L1": error(member["net"], x, y, target, rows.to(self.device)),
                    f"{name} similarity": float(np.trace(alike) / n),
                    f"{name} chance": float((alike.sum() - np.trace(alike)) / max(1, n * n - n)),
                    f"{name} stimuli": n,
                }
            lines.append({k: round(v, 5) if isinstance(v, float) else v for k, v in line.items()})
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


def _resampled(rows, stimulus, rng):
    """Return the rows of stimuli drawn with replacement."""
    own = np.unique(stimulus[rows])
    times = np.bincount(rng.choice(own, len(own)), minlength=stimulus.max() + 1)
    return np.repeat(rows, times[stimulus[rows]])


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
