"""What a method says of its training (steps a second) is in the provenance of its run."""

import json

PLUGIN = """
import numpy as np
from benchmark.api import Method, Predictions

class Paced(Method):
    name = "paced"
    tracks = frozenset({"embedding"})

    def train(self, train, *, seed, device, workdir):
        self.space, self.mean = train.space, train.stimuli.embeddings[train.space].mean(0)
        self.training = {"steps": len(train), "steps_per_second": 2.5}

    def predict(self, fmri):
        return Predictions({self.space: np.tile(self.mean, (len(fmri), 1))})
"""


def test_the_pace_of_training_is_in_the_provenance(bench, tiny, tmp_path):
    (tmp_path / "paced.py").write_text(PLUGIN)
    arguments = ["--method", "paced,mean", "--plugin", tmp_path / "paced.py", "--subject", "S1"]
    code, _, err = bench("run", "--dataset", "tiny", "--data", tiny, *arguments)
    assert code == 0, err
    facts = {p.parents[1].name: json.loads(p.read_text()) for p in (tmp_path / "runs").rglob("provenance.json")}
    assert facts["paced"]["training"] == [{"steps": facts["paced"]["n_train"], "steps_per_second": 2.5}]
    assert "training" not in facts["mean"]
