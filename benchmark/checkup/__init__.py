"""`bench doctor DATASET`: is this data sane? Checks of one subject's recording, each a number and a sentence.

Ridge is fitted on training rows only, cross-validated among them. The test side is looked at where it is compared with
the training side (pictures, scaling, distribution) and for the reliability of its repeats, never to fit anything.
"""

from benchmark.checkup._check import Checkup, check_dataset
from benchmark.checkup._recording import FAULT, OK, UNCHECKED, WARNING, Finding

__all__ = ["FAULT", "OK", "UNCHECKED", "WARNING", "Checkup", "Finding", "check_dataset"]
