"""The built-in methods: where each adapter is, and what may be said without importing it."""

_ALL = ("words", "embedding", "reconstruction")


def _control(target: str, summary: str, **more) -> dict:
    return {"target": target, "summary": summary, "tracks": _ALL, "control": True, **more}


METHODS = {
    "chance": _control("methods.chance:Chance", "the target of a random training item"),
    "mean": _control("methods.mean:Mean", "the mean of the training targets"),
    "shuffled": _control("methods.shuffled:Shuffled", "ridge trained on permuted pairs"),
    "noise-input": _control("methods.noise_input:NoiseInput", "ridge on Gaussian noise instead of responses"),
    "nearest-train": _control(
        "methods.nearest_train:NearestTrain", "the target of the training item whose response correlates most"
    ),
    "oracle": _control("methods.oracle:Oracle", "the truth itself", oracle=True),
    "ridge": {
        "target": "methods.ridge:Ridge",
        "summary": "linear ridge regression to the target vectors and to pixels",
        "tracks": _ALL,
    },
    "cosine-mlp": {
        "target": "methods.cosine_mlp:CosineMLP",
        "summary": "two-layer network on 50 principal components with the cosine loss",
        "tracks": ("words", "embedding"),
    },
    "brain2word-base": {
        "target": "methods.brain2word:Brain2WordBase",
        "summary": "Brain2Word, dense network with word-vector and word-class heads",
        "tracks": ("words",),
    },
    "brain2word-roi": {
        "target": "methods.brain2word:Brain2WordRoi",
        "summary": "Brain2Word, a dense layer for each ROI, word-vector and word-class heads",
        "tracks": ("words",),
    },
    "brain2word-autoencoder": {
        "target": "methods.brain2word:Brain2WordAutoencoder",
        "summary": "Brain2Word, ROI layer and tied-weight autoencoder, word-vector and word-class heads",
        "tracks": ("words",),
    },
    "brain2word-meanreg": {
        "target": "methods.brain2word:Brain2WordMeanReg",
        "summary": "Brain2Word, autoencoder with mean regularisation",
        "tracks": ("words",),
    },
    "brain2clip": {
        "target": "methods.brain2clip:Brain2CLIP",
        "summary": "Brain2Word's autoencoder on ROIs with a CLIP head, pictures by Versatile Diffusion",
        "tracks": ("embedding", "reconstruction"),
    },
    "brain-diffuser": {
        "target": "methods.brain_diffuser:BrainDiffuser",
        "summary": "ridge to VDVAE latents and CLIP tokens, pictures by Versatile Diffusion",
        "tracks": ("reconstruction",),
    },
    "mindeye-bagging": {
        "target": "methods.mindeye_bagging:MindEyeBagging",
        "summary": "low-level networks on several ROI sets, guided reconstruction, a vote by CLIP",
        "tracks": ("reconstruction",),
    },
    "mindeye": {
        "target": "methods.mindeye:MindEye",
        "summary": "contrastive residual network to CLIP tokens, diffusion prior, pictures by Versatile Diffusion",
        "tracks": ("embedding", "reconstruction"),
    },
}
