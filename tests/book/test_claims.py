"""Each kind of claim is fed a right and a wrong measurement; words and numbers must fit each
other."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qhlib.book.claims import RELATIONS, fails, line, measurements
from qhlib.book.errors import ChapterError
from qhlib.book.judge import judge
from qhlib.book.notebook import Notebook

NUMBERS = st.floats(-1e6, 1e6)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8)
RELATION = st.sampled_from(sorted(RELATIONS))


def claim(predicted=1.0, measured=1.0, tolerance=0.1, **rest):
    return judge("b", predicted, measured, tolerance, **rest)


KINDS = {  # relation, relative, predicted, right and wrong measurement; the tolerance is 0.1
    "equal": ("=", False, 1.0, 1.05, 1.2),
    "equal from below": ("=", False, 1.0, 0.95, 0.8),
    "at most": ("<=", False, 1.0, -50.0, 1.2),
    "at least": (">=", False, 1.0, 50.0, 0.8),
    "equal, relative": ("=", True, 100.0, 109.0, 111.0),
    "equal, relative to a negative number": ("=", True, -100.0, -109.0, -111.0),
    "at most, relative": ("<=", True, 100.0, 109.0, 111.0),
    "at least, relative": (">=", True, 100.0, 91.0, 89.0),
    "arrays": ("=", False, [1.0, 2.0], [1.0, 2.05], [1.0, 2.2]),
    "matrices": ("<=", False, np.ones((2, 2)), np.zeros((2, 2)), np.array([[0, 0], [2, 0]])),
    "truth": ("=", False, True, True, False),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_can_hold_and_can_fail(kind):
    relation, relative, predicted, right, wrong = KINDS[kind]
    good = claim(predicted, right, relation=relation, relative=relative)
    bad = claim(predicted, wrong, relation=relation, relative=relative)
    assert (good.verdict, fails(good.row())) == ("reproduced", False)
    assert (bad.verdict, fails(bad.row())) == ("deviates", True)


@pytest.mark.parametrize(
    "measured", [math.nan, math.inf, -math.inf, [1.0, math.nan], [math.inf, 1.0]]
)
@pytest.mark.parametrize("relation", RELATIONS)
def test_what_is_not_finite_deviates(measured, relation):
    made = claim(np.ones(np.shape(measured)), measured, relation=relation)
    assert made.verdict == "deviates"
    assert made.row()["measured"] in ("nan", "inf", "-inf")


def test_an_expected_deviation_deviates_without_failing():
    made = claim(1.0, 2.0, expected_deviation="the constant is not sharp")
    assert (made.verdict, fails(made.row())) == ("deviates", False)
    assert "the constant is not sharp" in line(made.row())


def test_outside_asserts_nothing_and_needs_no_prediction():
    for predicted, measured in [(1.0, 1.0), (1.0, 5.0), (math.nan, 1.0), (0.0, math.nan)]:
        made = claim(predicted, measured, outside="unbalanced classes", relative=True)
        assert (made.verdict, fails(made.row())) == ("outside", False)
        json.dumps(made.row(), allow_nan=False)


BAD = {
    "prediction NaN": ({"predicted": math.nan}, "predicted is not finite"),
    "prediction infinite": ({"predicted": math.inf}, "predicted is not finite"),
    "tolerance negative": ({"tolerance": -1e-9}, "tolerance -1e-09 is not"),
    "tolerance NaN": ({"tolerance": math.nan}, "tolerance nan is not"),
    "tolerance infinite": ({"tolerance": math.inf}, "tolerance inf is not"),
    "tolerance array": ({"tolerance": [0.1]}, "tolerance"),
    "empty": ({"predicted": [], "measured": []}, "nothing to compare"),
    "shapes": ({"predicted": 0.0, "measured": [0.0, 0.0]}, "shape"),
    "text": ({"measured": "1.0"}, "must be real numbers"),
    "complex": ({"measured": 1j}, "must be real numbers"),
    "None": ({"measured": None}, "must be real numbers"),
    "ragged": ({"measured": [[1], [1, 2]]}, "must be real numbers"),
    "too long": ({"measured": 10**400}, "must be real numbers"),
    "relative to zero": ({"predicted": 0.0, "relative": True}, "predicted is zero"),
    "relation": ({"relation": "<"}, "relation '<' is not one of"),
    "outside": ({"outside": True}, "outside is not a text"),
}


@pytest.mark.parametrize("kind", BAD)
def test_malformed_numbers_say_what_is_wrong(kind):
    changes, message = BAD[kind]
    with pytest.raises(ValueError) as caught:
        claim(**changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@given(PAIRS, st.floats(0, 1e6), RELATION)
def test_the_judge_agrees_with_a_plain_loop(pairs, tolerance, relation):
    gap = {"=": lambda p, m: abs(m - p), "<=": lambda p, m: m - p, ">=": lambda p, m: p - m}[
        relation
    ]
    gaps = [gap(p, m) for p, m in pairs]
    found = claim(*zip(*pairs, strict=True), tolerance, relation=relation)
    assert (found.verdict == "reproduced") == all(value <= tolerance for value in gaps)
    assert found.gap == max(gaps) and (found.predicted, found.measured) in pairs
    assert found.entries == len(pairs)


@given(PAIRS, st.floats(0, 1e6), st.permutations(range(8)), RELATION)
def test_the_order_of_entries_does_not_matter(pairs, tolerance, order, relation):
    mixed = [pairs[i] for i in order if i < len(pairs)]
    first = claim(*zip(*pairs, strict=True), tolerance, relation=relation)
    assert claim(*zip(*mixed, strict=True), tolerance, relation=relation).gap == first.gap


@given(PAIRS, st.floats(0, 1e6))
def test_at_most_and_at_least_mirror_each_other(pairs, tolerance):
    p, m = (np.array(side) for side in zip(*pairs, strict=True))
    mirrored = claim(-p, -m, tolerance, relation=">=").gap
    assert claim(p, m, tolerance, relation="<=").gap == mirrored


@given(PAIRS, st.floats(0, 10), st.integers(-20, 20), RELATION)
def test_a_relative_tolerance_does_not_know_the_unit(pairs, tolerance, power, relation):
    assume(all(abs(p) > 1e-6 for p, _ in pairs))
    p, m = (np.array(side) for side in zip(*pairs, strict=True))
    unit = 2.0**power  # exact in binary
    found = claim(p, m, tolerance, relation=relation, relative=True)
    scaled = claim(unit * p, unit * m, tolerance, relation=relation, relative=True)
    assert math.isclose(found.gap, scaled.gap, rel_tol=1e-9, abs_tol=1e-12)


@given(PAIRS, st.floats(1e-9, 1e3), st.data())
def test_one_wrong_entry_is_enough(pairs, tolerance, data):
    p = np.array([pair[0] for pair in pairs])
    for relation, sign in (("=", 1), ("=", -1), ("<=", 1), (">=", -1)):
        m = p.copy()
        assert claim(p, m, 0.0, relation=relation).verdict == "reproduced"
        m[data.draw(st.integers(0, len(m) - 1))] += sign * (2 * tolerance + 1e-6)
        assert claim(p, m, tolerance, relation=relation).verdict == "deviates"


def test_torch_tensors_are_accepted_with_their_gradient():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(3, dtype=torch.float64, requires_grad=True)
    assert claim(tensor, 2 * tensor - 1).verdict == "reproduced"
    assert claim(torch.tensor(1.0), torch.tensor(3.0)).verdict == "deviates"


def test_rows_are_json_and_hold_the_worst_entry():
    row = claim([1.0, 5.0], [1.0, math.nan]).row()
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert (row["predicted"], row["measured"], row["gap"], row["entries"]) == (
        5.0,
        "nan",
        "inf",
        2,
    )


# --- words
# ------------------------------------------------------------------------------------------

WORDS = """\
## A section

::::{claim} The value is $x < 1$
:name: one
:source: Theorem 1
:tolerance: rounding

and goes on here.
::::
"""
CALL = 'chapter.claim("one", predicted=1, measured=x, tolerance=0)'


def declared(text=WORDS, *code):
    cells = [{"cell_type": "markdown", "metadata": {}, "source": text}]
    cells += [{"cell_type": "code", "metadata": {}, "source": each} for each in code or [CALL]]
    return Notebook(Path("tiny_chapter.ipynb"), {"cells": cells, "metadata": {}}).claims


def test_a_claim_is_read_from_the_text_alone():
    found = declared()["one"]
    assert found.statement == "The value is $x < 1$\n\nand goes on here."
    assert (found.source, found.tolerance_from, found.basis) == (
        "Theorem 1",
        "rounding",
        "derived",
    )
    assert found.words("tiny") == {
        "id": "tiny/one",
        "name": "one",
        "statement": found.statement,
        "source": "Theorem 1",
        "tolerance_from": "rounding",
        "basis": "derived",
        "anchor": "claim-tiny-one",
    }
    assert declared(WORDS.replace("::::", "```"))["one"].statement == found.statement


def test_a_claim_that_a_page_only_shows_is_none():
    assert declared("````\n" + WORDS + "````", "x = 1") == {}


def without(*parts):
    text = WORDS
    for part in parts:
        text = text.replace(part, "")
    return text


FAULTS = {
    "unknown option": (
        WORDS.replace(":source:", ":sorce:"),
        CALL,
        "line 5: a claim has no option",
    ),
    "its hint": (WORDS.replace(":source:", ":sorce:"), CALL, "did you mean source?"),
    "missing option": (
        without(":source: Theorem 1\n"),
        CALL,
        "line 3: the claim lacks its source",
    ),
    "empty option": (without("rounding"), CALL, "lacks its tolerance"),
    "no statement": (without(" The value is $x < 1$", "and goes on here."), CALL, "its statement"),
    "bad name": (WORDS.replace(": one", ": One!"), CALL, "the name 'One!'"),
    "bad basis": (WORDS.replace("rounding\n", "rounding\n:basis: guess\n"), CALL, "basis 'guess'"),
    "twice": (WORDS + WORDS, CALL, "cell 1, line 12: the claim one is declared twice"),
    "not measured": (
        WORDS,
        "x = 1",
        "line 3: the claim one is never measured; call chapter.claim(",
    ),
    "measured twice": (WORDS, CALL + "\n" + CALL, "line 2: the claim one is measured twice"),
    "not declared": (WORDS, CALL + "\n" + CALL.replace("one", "on"), "'on'; did you mean one?"),
    "name computed": (WORDS, CALL + '\nchapter.claim(f"{x}", predicted=1)', "no claim is called"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_words_and_numbers_that_do_not_fit_are_refused_with_their_line(kind):
    text, code, message = FAULTS[kind]
    with pytest.raises(ChapterError) as caught:
        declared(text, code)
    assert message in str(caught.value) and str(caught.value).startswith("tiny_chapter, cell ")


def test_magics_are_passed_over():
    assert list(measurements("%time x\n" + CALL)) == [("one", 2)]
