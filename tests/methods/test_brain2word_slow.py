"""Brain2Word at the paper's size, and what mean regularisation does on the generated words (minutes)."""

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from scipy import stats

from benchmark import parcels
from benchmark.api import Responses, Stimuli, TrainSet
from benchmark.data import prepare, splits, synthetic_words
from methods.brain2word import (
    Brain2WordAutoencoder,
    Brain2WordBase,
    Brain2WordMeanReg,
    Brain2WordRoi,
    code_consistency,
)

pytestmark = pytest.mark.slow


def full_size(n_words=180, n_scans=2):
    """Noise in the published layout: 65,730 columns in 333 ROIs, two subjects."""
    rng = np.random.default_rng(0)
    sizes, _ = parcels.tables()
    edges = np.cumsum(sizes)
    column = np.arange(edges[-1])
    rois = {
        f"p{k}": (column >= end - size) & (column < end) for k, (end, size) in enumerate(zip(edges, sizes, strict=True))
    }
    word = np.tile(np.arange(n_words), n_scans)
    data = rng.standard_normal((len(word), len(column)), np.float32)
    ids = np.array([f"w{i:03d}" for i in range(n_words)])
    stimuli = Stimuli(ids, words=ids, embeddings={"glove": rng.standard_normal((n_words, 300), np.float32)})
    fmri = Responses(data, np.repeat(["a", "b"], len(word) // 2), rois)
    return TrainSet(fmri, word, stimuli, np.full(len(word), ""), frozenset({"words"}), "glove", "subject")


def one_epoch(cls, workdir):
    """Train for an epoch; return seconds, peak megabytes of the process, sizes, finiteness."""
    import torch

    torch.set_num_threads(1)
    train = full_size()
    method = cls(
        cls.make_params("full", "default", {"epochs": 1, "rounds": cls.Params().rounds and 1, "round_epochs": 1})
    )
    began = time.process_time()
    method.train(train, seed=0, device="cpu", workdir=workdir)
    seconds = time.process_time() - began
    p = method.predict(train.fmri.take(np.arange(10)))
    finite = all(np.isfinite(v).all() for v in (*p.embeddings.values(), p.class_scores, *p.intermediates.values()))
    trunk = method.net.trunk
    sizes = None if trunk.roi is None else (trunk.roi.n_in, trunk.roi.n_out)
    return (
        seconds,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        sizes,
        p.intermediates["code"].shape,
        finite,
    )


@pytest.mark.parametrize("cls", [Brain2WordBase, Brain2WordRoi, Brain2WordAutoencoder, Brain2WordMeanReg])
def test_an_epoch_at_full_size_on_the_cpu(cls, tmp_path, capsys):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:  # its peak memory is its own
        seconds, peak, sizes, code, finite = pool.submit(one_epoch, cls, tmp_path).result()
    with capsys.disabled():
        print(f"\n{cls.name}: {seconds:.0f} s of CPU, peak {peak:.0f} MB")
    assert finite
    assert sizes == (None if cls is Brain2WordBase else (65_730, 3_221))
    assert code == (10, 3_221 if cls is Brain2WordRoi else 200)
    assert peak < 8000


def consistency(cls, fold, workdir):
    """The code's consistency of the test subject with the training subjects, mean over its scans."""
    train = prepare.train_set(fold, frozenset({"words"}), synthetic_words.SPACE)
    method = cls(cls.make_params("mini", "default"))
    method.train(train, seed=prepare.fold_seed(0, fold), device="cpu", workdir=workdir)
    p = method.predict(prepare.test_responses(fold))
    word = [list(method.ids).index(w) for w in prepare.truth(fold).ids]
    return code_consistency(p.intermediates["word_code_r"], np.array(word)).mean()


def test_mean_regularisation_raises_the_consistency_of_the_code_between_subjects(tmp_path, capsys):
    dataset = synthetic_words.load(None, tmp_path)
    split = splits.builtin(synthetic_words.SPLIT)
    folds = [fold for s in synthetic_words.SUBJECTS for fold in prepare.folds(dataset, split, s)]
    plain, drawn = (
        np.array([consistency(cls, fold, tmp_path) for fold in folds])
        for cls in (Brain2WordAutoencoder, Brain2WordMeanReg)
    )
    interval = stats.ttest_rel(drawn, plain).confidence_interval(0.95)
    with capsys.disabled():
        print(f"\nconsistency {plain.mean():.4f} -> {drawn.mean():.4f}, 95 % of the difference {interval}")
    assert (plain > 0).all()
    assert interval.low > 0
