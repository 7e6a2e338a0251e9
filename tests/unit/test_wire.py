# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.model import (
    Case,
    Companion,
    Difference,
    Expectation,
    Input,
    Observation,
    Provenance,
    Result,
    Verdict,
)
from harness.wire import from_json, to_json

texts = st.text(max_size=8)
numbers = st.integers(0, 2**64)
expectations = st.builds(
    Expectation,
    verdict=st.none() | st.sampled_from(Verdict),
    retval=st.none() | numbers,
    messages=st.lists(texts, max_size=3).map(tuple),
    errno=st.none() | numbers,
    globals=st.lists(st.tuples(texts, numbers), max_size=2).map(tuple),
)
inputs = st.builds(Input, name=texts, packet=st.none() | st.binary(max_size=8))
cases = st.builds(
    Case,
    id=texts,
    object=texts,
    program=texts,
    section=texts,
    hook=texts,
    input=inputs,
    repeat=st.integers(1, 9),
    expectation=expectations,
    per_series=st.lists(st.tuples(texts, expectations), max_size=2).map(tuple),
    needs=st.lists(texts, max_size=2).map(tuple),
    companions=st.lists(st.builds(Companion, texts, texts, texts), max_size=2).map(tuple),
)
observations = st.builds(
    Observation,
    verdict=st.sampled_from(Verdict),
    retvals=st.lists(numbers, max_size=3).map(tuple),
    data_out=st.none() | st.binary(max_size=8),
    maps=st.dictionaries(texts, st.dictionaries(texts, texts, max_size=2), max_size=2),
    wire=st.lists(texts, max_size=2).map(tuple),
    duration_s=st.floats(0, 100),
    provenance=st.builds(Provenance, source=texts),
)
results = st.builds(
    Result,
    case=cases,
    target=texts,
    observed=observations,
    simulated=st.none() | observations,
    differences=st.lists(
        st.builds(Difference, texts, texts, texts, texts, st.tuples(texts, texts)), max_size=2
    ).map(tuple),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(results)
def test_there_and_back(result):
    """Through real JSON text, whatever the values."""
    assert from_json(Result, json.loads(json.dumps(to_json(result)))) == result
    assert from_json(Result, json.loads(json.dumps(to_json(result, brief=True)))) == result


def test_in_brief_there_is_only_what_is_not_as_usual():
    seen = Observation(Verdict.RAN, retvals=(3,), provenance=Provenance(kernel="6.12"))
    assert to_json(seen, brief=True) == {
        "verdict": "ran", "retvals": [3], "provenance": {"kernel": "6.12"},
    }  # fmt: skip


def test_plain_types():
    data = to_json(Observation(Verdict.RAN, retvals=(1,), data_out=b"\x00\xff"))
    assert (data["verdict"], data["retvals"], data["data_out"]) == ("ran", [1], "00ff")
    assert type(data["verdict"]) is str


def test_missing_keys_take_the_default():
    assert from_json(Observation, {"verdict": "ran"}) == Observation(Verdict.RAN)


def test_whole_number_for_a_float():
    seen = from_json(Observation, {"verdict": "ran", "duration_s": 2})
    assert isinstance(seen.duration_s, float)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ([], r"\$: expected an object for Observation"),
        ({}, r"\$: .*verdict"),
        ({"verdict": "well"}, r"\$\.verdict: 'well'"),
        ({"verdict": "ran", "colour": 1}, r"\$: unknown key 'colour'"),
        ({"verdict": "ran", "retvals": [1, "2"]}, r"\$\.retvals\[1\]: expected int"),
        ({"verdict": "ran", "retvals": 1}, r"\$\.retvals: expected"),
        ({"verdict": "ran", "data_out": "xy"}, r"\$\.data_out: "),
        ({"verdict": "ran", "maps": {"m": {"00": 1}}}, r"\$\.maps\.m\.00: expected str"),
        ({"verdict": "ran", "message": None}, r"\$\.message: expected str"),
    ],
)
def test_wrong_data_names_the_place(data, where):
    with pytest.raises(UsageError, match=where):
        from_json(Observation, data)


def test_pair_of_the_wrong_length():
    data = {"path": "", "expected": "", "observed": "", "rule": "", "between": ["kernel"]}
    with pytest.raises(UsageError, match=r"\$\.between"):
        from_json(Difference, data)
