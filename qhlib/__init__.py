"""Thin helper package of the margin book: the implicit bias of gradient descent towards margins.

Rooms, from the ground up (nothing imports what stands above it):

* problems: :mod:`qhlib.data`, :mod:`qhlib.models`, :mod:`qhlib.params`;
* measures: :mod:`qhlib.margins`, :mod:`qhlib.homogeneity`, :mod:`qhlib.collapse`;
* asymptotics: :mod:`qhlib.flow`, :mod:`qhlib.implicit`, :mod:`qhlib.limits`, :mod:`qhlib.reference`;
* book machinery: :mod:`qhlib.book`, which the numerics never import.

Conventions used everywhere: float64; S seeds are stacked in the leading axis of every parameter; the loss
``L = sum_i exp(-q_i)`` is never formed, only ``ell = log(1/L)``.
"""

__version__ = "0.1.0"
