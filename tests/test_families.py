"""Every family's record: complete, in agreement with torch, and readable from its text."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from fastconv import families, registry
from fastconv.families.pool import PoolProblem
from fastconv.problem import ConvProblem
from fastconv.problem_text import Problem
from fastconv.tensors import drawn, in_layout
from fastconv.testing import inputs, shapes, tolerance

CASES = [case for case in shapes.basic() if case.problem.flops < 10_000_000]


@pytest.mark.parametrize("family", families.all(), ids=lambda family: family.name)
def test_record(family: families.Family) -> None:
    assert families.named(family.name) is family
    assert families.named(f"{family.name}_{family.directions[0]}_ref") is family
    for direction, operands in family.operands.items():
        names = [each.name for each in operands]
        assert len(set(names)) == len(names)
        assert family.output(direction) == operands[-1] and operands[-1].name == "out"
        assert family.inputs(direction)
    assert shapes.basic(family.name)
    fields = {field.name for field in dataclasses.fields(family.problem)}
    assert fields >= {"N", "C", "D", "H", "W", "T", "R", "S", "Z", "P", "Q", "dtype"}


def test_families_tell_their_texts_apart() -> None:
    for case in shapes.basic():
        readers = [f for f in families.all() if f.problem.is_text(case.problem.encode())]
        assert readers == [families.of(case.problem)], case.name
        assert families.decode(case.problem.encode()) == case.problem
    with pytest.raises(ValueError, match="is of no family: conv has k; pool has avg or max or sto"):
        families.of("n1_c3")
    with pytest.raises(ValueError, match="family is 'rnn'; it must be one of conv, pool, unpool"):
        families.named("rnn")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_oracle_agrees_with_torch(case: shapes.Case) -> None:
    """In every direction, in both memory formats, and so does what autograd makes of torch's call."""
    p = case.problem.replace(dtype="f64")
    family = families.of(p)
    if not p.x_elements or family.why_not_torch(p):
        return
    t = drawn(p, family.drawn())
    given = {each.name: t[each.name].numpy().reshape(each.extents(p)) for each in family.drawn()}
    if family.indices and family.indexed(p):
        given["index"] = family.indices(p, given)
    for direction in family.directions:
        want = family.oracle(p, direction, given)
        assert want.shape == family.output(direction).extents(p)
        bound = tolerance.real(p, direction)
        for layout in ("nhwc", "nchw"):
            moved = {name: in_layout(each, layout) for name, each in t.items()}
            have = family.torch_call(p, direction, moved)().numpy().reshape(want.shape)
            assert not bound.violations(have, want).any(), f"{direction} {layout}"


@pytest.mark.parametrize("device", ["cpu", "cuda_on_cpu"])
def test_operands_are_those_of_cpp(device: registry.Device) -> None:
    for family in families.all():
        table = registry.table(family.name, device)
        assert table is not None and tuple(table.directions()) == family.directions
        for direction, operands in family.operands.items():
            have = [(each.name, each.kind, each.written, each.optional) for each in operands]
            assert sorted(have) == sorted(table.operands(direction)), f"{family.name} {direction}"


def test_torch_refuses_what_a_family_says_it_does() -> None:
    refused = [
        ("n1_c4_h6w6_r3s3_st1_pd2_avg", "at most half the window"),
        ("n1_c4_h9w9_r3s3_st1_pd2_dl2_max", "at most half the window"),
        ("n1_c4_h6w6_r3s3_st2_pd0_avg_p4q4", "neither mode"),
        ("n1_c4_h6w6_k4_r3s3_st1_pd-1_dl1_g1", "must be even"),
    ]
    for text, reason in refused:
        p = families.decode(text)
        assert reason in str(families.of(p).why_not_torch(p)), text


def test_drawn_operands_lie_as_the_problem_says() -> None:
    p = ConvProblem.decode("n2_c4_h6w5_k8_r3s3_st1_pd1_dl1_g2_bf16_nchw2nhwc")
    t = drawn(p, families.of(p).drawn())
    assert {name: tuple(each.shape) for name, each in t.items()} == {
        "x": (2, 4, 6, 5), "w": (8, 2, 3, 3), "dy": (2, 8, 6, 5)
    }  # fmt: skip
    assert t["x"].is_contiguous()
    assert t["dy"].is_contiguous(memory_format=torch.channels_last)
    assert all(each.dtype == torch.bfloat16 for each in t.values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_operands_come_back_as_they_were_stored(case: shapes.Case) -> None:
    """Every operand of every direction through its array and back, in each dtype."""
    for dtype in ("f32", "f64", "bf16", "f16"):
        p: Problem = case.problem.replace(dtype=dtype)
        family = families.of(p)
        data = inputs.operands(p, integers=True)
        for each in family.drawn():
            values = data.values[each.name]
            for last in (False, True):
                array = inputs.store(values, each, p, 1, last)
                np.testing.assert_array_equal(inputs.load(array, each, p), values)
                guarded, room = inputs.room(each, p, 1, last)
                room[...] = array
                assert guarded.intact() and room.shape == array.shape


def test_averages() -> None:
    """By hand: padding counted or not, and a divisor of one's own."""
    x = np.arange(1.0, 10.0).reshape(1, 1, 1, 3, 3)
    base = PoolProblem(N=1, C=1, H=3, W=3, R=3, S=3, stride_h=2, stride_w=2, pad_h=1, pad_w=1)
    family = families.named("pool")
    corners = np.array([[12.0, 16.0], [24.0, 28.0]])
    for p, divisor in (
        (base, 9),
        (base.replace(count_include_pad=False), 4),
        (base.replace(divisor=5), 5),
    ):
        y = family.oracle(p, "fprop", {"x": x})
        np.testing.assert_allclose(y[0, 0, 0], corners / divisor, rtol=1e-15)
