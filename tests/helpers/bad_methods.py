"""A plugin of methods that go wrong, each in its own way, and one that works."""

import ctypes
import os
import subprocess
import sys
import time

import numpy as np

from benchmark import Method, Predictions


class _Space(Method):
    """Predicts zeros of the right shape; the others change what they need."""

    tracks = frozenset({"embedding"})

    def train(self, train, *, seed, device, workdir):
        self.space, self.size = train.space, train.target().shape[1]

    def predict(self, fmri):
        return Predictions(embeddings={self.space: self.values(len(fmri))})

    def values(self, n):
        return np.arange(n * self.size, dtype=np.float32).reshape(n, self.size) % 7


class Fine(_Space):
    """Works."""

    name = "fine"


class Raises(_Space):
    """Raises in train."""

    name = "raises"

    def train(self, train, *, seed, device, workdir):
        raise RuntimeError("the plugin's own\nmessage")


class Nan(_Space):
    """Returns NaN."""

    name = "nan"

    def values(self, n):
        values = super().values(n)
        values[1, 2] = np.nan
        return values


class WrongShape(_Space):
    """Returns a row too few."""

    name = "wrong-shape"

    def values(self, n):
        return super().values(n)[1:]


class WrongWidth(_Space):
    """Returns vectors of another length."""

    name = "wrong-width"

    def values(self, n):
        return super().values(n)[:, 1:]


class Exits(_Space):
    """Ends its process without a word."""

    name = "exits"

    def train(self, train, *, seed, device, workdir):
        os._exit(0)


class Segfaults(_Space):
    """Reads address zero."""

    name = "segfaults"

    def train(self, train, *, seed, device, workdir):
        ctypes.string_at(0)


class Hungry(_Space):
    """Allocates and touches memory until it is stopped."""

    name = "hungry"

    def train(self, train, *, seed, device, workdir):
        self.held = []
        while True:
            self.held.append(np.ones(8 << 20, np.uint8))


class HungryChild(_Space):
    """Lets a child process allocate."""

    name = "hungry-child"

    def train(self, train, *, seed, device, workdir):
        code = "import time\na = []\nwhile True: a.append(bytearray(b'x') * (16 << 20)); time.sleep(0.02)"
        subprocess.run([sys.executable, "-c", code], check=True)


class Sleeps(_Space):
    """Never returns."""

    name = "sleeps"

    def train(self, train, *, seed, device, workdir):
        time.sleep(3600)
