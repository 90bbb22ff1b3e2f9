"""Files of one pickled object, and an object that does harm when it is unpickled."""

import os
import pickle

import numpy as np


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_object(path, value, protocol=4):
    """Write a .npy file of one object, the pickle at any protocol."""
    array = np.empty((), object)
    array[()] = value
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(array, file, protocol=protocol)
    return path
