"""The built-in datasets: loader, what to look for under ``--data``, and where it comes from.

``"splits"`` names a function ``split(name, root, cache)`` that returns a split's content, where the ids
come from the dataset's own tables instead of a file of the package. ``"prepare"`` names what
``bench data prepare`` calls.
"""

DATASETS = {
    "synthetic-scenes": {
        "target": "benchmark.data.synthetic_scenes:load",
        "summary": "generated pictures with captions; early-visual and semantic voxels; built in",
        "generated": True,
    },
    "synthetic-words": {
        "target": "benchmark.data.synthetic_words:load",
        "summary": "180 generated concepts in three paradigms, six subjects, 333 parcels; built in",
        "generated": True,
    },
    "digits69": {
        "target": "benchmark.data.digits69:load",
        "check": "benchmark.data.digits69:check",
        "marker": "digit69_28x28.mat",
        "summary": "handwritten sixes and nines, V1-V3 of one subject (van Gerven et al. 2010)",
        "source": "Donders Repository, collection DSC_2018.00112_485, under its data use agreement",
    },
    "miyawaki2008": {
        "target": "benchmark.data.miyawaki2008:load",
        "check": "benchmark.data.miyawaki2008:check",
        "marker": "V1_mean_figure.mat",
        "summary": "10 x 10 shapes and letters, V1 of two subjects (Miyawaki et al. 2008)",
        "source": "Kamitani Lab, repositories VBCCA and NeuralCodeConverter, ODC-BY",
    },
    "pereira2018": {
        "target": "benchmark.data.pereira2018:load",
        "check": "benchmark.data.pereira2018:check",
        "marker": "*/*_180concepts_*.mat",
        "summary": "180 concepts in three paradigms, 333 parcels of fifteen subjects (Pereira et al. 2018)",
        "source": "the authors' page of Pereira et al. 2018 and OSF project crwz7, one folder per participant",
    },
    "bold5000": {
        "target": "benchmark.data.bold5000:load",
        "check": "benchmark.data.bold5000:check",
        "splits": "benchmark.data.bold5000:split",
        "marker": "BOLD5000_Stimuli",
        "summary": "4916 pictures of COCO, ImageNet and scenes, ten ROIs of four subjects (Chang et al. 2019)",
        "source": "bold5000-dataset.github.io: release 2.0, the stimuli, and the ROI masks of OpenNeuro ds001499",
    },
    "nsd": {
        "target": "benchmark.data.nsd:load",
        "check": "benchmark.data.nsd:check",
        "splits": "benchmark.data.nsd:split",
        "prepare": "benchmark.data.nsd_prepare:prepare_nsd",
        "marker": "nsd.json",
        "summary": "natural scenes, 7 T, nsdgeneral of eight subjects (Allen et al. 2022)",
        "source": "bench data prepare nsd, from the files at naturalscenesdataset.org under NSD's terms",
    },
    "algonauts2023": {
        "target": "benchmark.data.algonauts2023:load",
        "check": "benchmark.data.algonauts2023:check",
        "splits": "benchmark.data.algonauts2023:split",
        "marker": "subj0*/training_split",
        "summary": "natural scenes of NSD, visual cortex on fsaverage of eight subjects (Gifford et al. 2023)",
        "source": "algonauts.csail.mit.edu/2023, the training split of the challenge, under NSD's terms",
    },
}
