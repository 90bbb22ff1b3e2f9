"""Control: the truth, to show where the top of every metric lies."""

from __future__ import annotations

from benchmark.api import Method, Predictions
from methods._outputs import needs_outputs


class Oracle(Method):
    """Return the test targets themselves; tagged, never ranked."""

    name = "oracle"
    control = True
    oracle = True
    licence = "MIT"

    supports = staticmethod(needs_outputs)

    def train(self, train, *, seed, device, workdir):
        self.tracks_asked, self.space = train.tracks, train.space

    def predict(self, fmri, truth):
        """Return the target space and the images of ``truth``, one stimulus per test row."""
        vectors = {} if self.space is None else {self.space: truth.embeddings[self.space]}
        return Predictions(
            embeddings=vectors if self.tracks_asked & {"words", "embedding"} else {},
            images=truth.images if "reconstruction" in self.tracks_asked else None,
        )
