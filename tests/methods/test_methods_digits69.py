"""Ridge and the shuffled control on a real recording: 100 handwritten digits, voxels of V1-V3."""

import numpy as np
import pytest
from scipy.io import loadmat

from benchmark.api import Responses, Stimuli, TrainSet
from methods.ridge import Ridge, RidgeParams
from methods.shuffled import Shuffled


@pytest.fixture(scope="module")
def digits(test_data):
    data = loadmat(test_data / "digit69" / "digit69_28x28.mat")

    def side(name, ids):
        images = data[f"stim{name}"].reshape(-1, 28, 28, 1).transpose(0, 2, 1, 3)  # column-major in the file
        n = len(images)
        fmri = Responses(data[f"fmri{name}"].astype(np.float32), np.full(n, "S1"))
        return fmri, Stimuli(np.array([f"{ids}{i:02d}" for i in range(n)]), images=images)

    fmri, stimuli = side("Trn", "train")
    train = TrainSet(fmri, np.arange(90), stimuli, np.full(90, ""), frozenset({"reconstruction"}))
    return train, *side("Test", "test")


def scores(cls, digits, seed, params=None):
    train, fmri, truth = digits
    method = cls(params)
    method.train(train, seed=seed, device="cpu", workdir=None)
    images = method.predict(fmri).images
    r = np.corrcoef(truth.images.reshape(10, -1), images.reshape(10, -1))[:10, 10:]
    below, tied = (r < np.diag(r)).sum(0), (r == np.diag(r)).sum(0) - 1
    return np.mean((below + tied / 2) / 9), np.diag(r).mean()


def test_ridge_reaches_the_published_baseline(digits):
    two_way, pixcorr = scores(Ridge, digits, 0)
    assert two_way >= 0.90
    assert pixcorr >= 0.70


def test_shuffled_is_at_chance(digits):
    two_way = [scores(Shuffled, digits, seed)[0] for seed in range(5)]
    assert all(0.38 <= value <= 0.66 for value in two_way)
    assert 0.44 <= np.mean(two_way) <= 0.56


def test_shuffled_is_at_chance_on_average_when_it_cannot_shrink_to_the_mean(digits):
    # The penalty chosen on permuted pairs is the largest, so the control above predicts nearly the mean.
    params = RidgeParams(penalties=(1.0,))
    two_way = [scores(Shuffled, digits, seed, params)[0] for seed in range(40)]
    assert np.std(two_way) > 0.03
    assert 0.44 <= np.mean(two_way) <= 0.56
