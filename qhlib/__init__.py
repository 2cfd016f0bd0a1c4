"""Thin helper package of the margin book: the implicit bias of gradient descent towards margins.

Modules, from the ground up (nothing imports what stands above it):

* problems: :mod:`qhlib.params`, :mod:`qhlib.data`, :mod:`qhlib.images`, :mod:`qhlib.models`;
* measures: :mod:`qhlib.margins`, :mod:`qhlib.homogeneity`, :mod:`qhlib.near_homogeneity`,
  :mod:`qhlib.spectra`, :mod:`qhlib.collapse`;
* dynamics: :mod:`qhlib.flow`, :mod:`qhlib.train`, :mod:`qhlib.convex`, :mod:`qhlib.limits`;
* figures: :mod:`qhlib.plots`; the machinery of the book, which the numerics never import:
  ``qhlib.book``.

Conventions used everywhere: float64; S seeds are stacked in the leading axis of every parameter;
the loss ``L = sum_i exp(-q_i)`` is never formed, only ``ell = log(1/L)``.
"""

__version__ = "0.1.0"
