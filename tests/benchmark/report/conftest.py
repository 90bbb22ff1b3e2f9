"""A store and its reports, made once."""

from functools import partial

import pytest

from benchmark import leaderboard as boards
from benchmark import literature, records, report, report_gallery
from benchmark.plan import Request, plan
from benchmark.registry import Registry
from benchmark.runner import Limits, Session, run_all
from benchmark.store import Store
from tests.helpers.make_folder import make_folder
from tests.helpers.report_store import METHODS, write

PLUGIN = '''
import numpy as np
from benchmark import Method, Predictions

class Staged(Method):
    """Everything that a gallery can show."""
    name, tracks = "staged", frozenset({"embedding", "reconstruction"})
    def train(self, train, *, seed, device, workdir):
        self.space, self.target, self.seed = train.space, train.target(), seed
        self.images = np.asarray(train.stimuli.images)[train.stimulus]
    def predict(self, fmri):
        n = len(fmri)
        images = self.images[:n]
        return Predictions(
            embeddings={self.space: self.target[:n] + np.float32(self.seed % 7) / 100},
            images=images,
            captions=[f"<img src=x onerror=fail()> & thing {i}" for i in range(n)],
            intermediates={"first <stage>": 255 - images, "code": self.target[:n]},
        )

class Broken(Method):
    name, tracks = "broken", frozenset({"embedding", "reconstruction"})
    def train(self, train, *, seed, device, workdir): raise RuntimeError("it broke")
    def predict(self, fmri): raise RuntimeError
'''


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A store of four methods on two subjects, and the data behind it."""
    root = tmp_path_factory.mktemp("report")
    (root / "mine.py").write_text(PLUGIN)
    tiny = make_folder(root / "tiny", n_stimuli=16, n_test=6, image_size=16)
    request = Request(dataset="tiny", methods=METHODS, data=tiny, cache=root / "cache", subjects=("S1", "S2"))
    run_all(plan(Registry([root / "mine.py"]), request), Session(Store(root / "runs"), Limits()))
    return root


@pytest.fixture(scope="session")
def page(made):
    """The report of that store."""
    return write(made, made / "page").parent


@pytest.fixture(scope="session")
def extended(made, tmp_path_factory):
    """A report with a ladder and with published numbers, which no method or data set of that store has."""
    items = records.from_store(Store(made / "runs"))
    for item in items:
        if item["method"] == "staged" and item["status"] == "ok":
            own = item["scores"]["reconstruction"]
            rung = {name: score | {"value": 0.987} for name, score in own.items()}
            verdict = "regression: most is lost there"
            item["ladder"] = {"rungs": {"true features": rung}, "features": {"latent": 0.6}, "verdict": verdict}
    row = {"method": "<img src=x> et al. 2020", "protocol": "one", "source": "a paper", "check": "V"}
    published = {"track": "embedding", "dataset": "tiny", "split": "main", "columns": ["two_way"], "note": "a note"}
    published["rows"] = [row | {"values": {"two_way": 0.9}}]
    truth = partial(report_gallery.truth_of, Registry(), data=made / "tiny", cache=made / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(literature, "_tables", lambda: [published])
        out = tmp_path_factory.mktemp("extended") / "page"
        return report.write(out, boards.tables(items, {}), made / "runs", truth).parent
