"""The notebook on neural collapse: each claim can fail, fresh seeds reproduce it, bad parameters are refused.

A mutation breaks one law or model; the claim must turn. Several that do not touch each other share a run.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from play import declared, namespace, notebook, play, verdicts

from qhlib import collapse, convex
from qhlib.book.declaration import validate
from qhlib.book.errors import ParameterError

NAME = "neural_collapse"
SMOKE = {"effort": "smoke"}


# seeds that nothing was tuned on, the one that everybody types, and the largest
@pytest.mark.parametrize("seed", [42, 2147483647, 20261126, 1_999_999_973])
def test_smoke_reproduces_every_claim(seed):
    found = verdicts(NAME, seed=seed, **SMOKE)
    assert set(found) == declared(NAME)
    assert set(found.values()) == {"reproduced"}, found
