"""On a GPU: the kernels under torch, in its graphs and on its streams, with and without the op library.

Triton's rows have `test_triton_rows.py`, which runs them on the GPU where there is one.

What a kernel computes is tested by `test_cuda_rows.py` on any machine; here, that a GPU agrees: rows
against float64 within `tolerance`. Tests of formats, graphs and streams compare with torch, whose
float32 may be TF32 and whose float16 rounds on its own: 1e-2 tells an old or a misplaced tensor from a
right one.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import fastconv
from fastconv import _cuda, _native, _triton, families, registry
from fastconv.problem import ConvProblem
from fastconv.tensors import drawn
from fastconv.testing import shapes, tolerance

_WHY_NOT = _cuda.why_not() or (None if _native.has_cuda else _triton.why_not())
if _WHY_NOT is not None:
    pytest.skip(_WHY_NOT, allow_module_level=True)

ROWS = [row for row in registry.kernels(device="cuda") if row.reason is None]
DTYPES = {
    "f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16
}  # fmt: skip


def activation(size: tuple[int, ...], dtype: torch.dtype, layout: str) -> torch.Tensor:
    format = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    values = torch.rand(size, device="cuda", dtype=torch.float64) * 2 - 1
    return values.to(dtype).contiguous(memory_format=format)


def call(p: ConvProblem, direction: str, x: torch.Tensor, w: torch.Tensor, dy: torch.Tensor):
    """The direction by fastconv's own op, or in float64 by torch's formula."""
    rest = [p.stride_h, p.stride_w], [p.pad_h, p.pad_w], [p.dilation_h, p.dilation_w], p.groups
    ops = torch.ops.fastconv
    if direction == "fprop":
        return ops.conv(x, w, None, *rest)
    if direction == "dgrad":
        return ops.conv_dgrad(dy, w, None, x.shape, *rest)
    return ops.conv_wgrad(dy, x, w.shape, w.stride(), *rest)


def expected(p: ConvProblem, direction: str, *tensors: torch.Tensor) -> torch.Tensor:
    x, w, dy = (t.double().cpu().requires_grad_() for t in tensors)
    y = F.conv2d(
        x,
        w,
        None,
        (p.stride_h, p.stride_w),
        (p.pad_h, p.pad_w),
        (p.dilation_h, p.dilation_w),
        p.groups,
    )
    if direction == "fprop":
        return y.detach()
    return torch.autograd.grad(y, x if direction == "dgrad" else w, dy.detach())[0]


def is_plain(p: ConvProblem) -> bool:
    """Whether torch's own 2-d convolution has the problem as it stands."""
    return p.is_2d and p.N > 0 and p.pad_h >= 0 and p == p.replace(P=-1, Q=-1)


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradcheck_under_enable(channels_last: bool) -> None:
    layout = "nhwc" if channels_last else "nchw"
    x = activation((2, 4, 5, 6), torch.float64, layout).requires_grad_()
    w = activation((6, 2, 3, 3), torch.float64, "nchw").requires_grad_()
    b = torch.randn(6, device="cuda", dtype=torch.float64, requires_grad=True)
    fastconv.enable()  # a scope is this thread's: autograd's own thread for the GPU would not know it
    try:
        assert torch.autograd.gradcheck(
            lambda *args: F.conv2d(*args, stride=2, padding=1, groups=2), (x, w, b)
        )
        assert fastconv.last_kernel("fprop") in {row.name for row in ROWS}
    finally:
        fastconv.disable()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("groups", [1, 8], ids=["dense", "depthwise"])
def test_formats_are_torchs(groups: int, layout: str, dtype: torch.dtype) -> None:
    """Depthwise too, for which torch has a kernel of its own beside cuDNN's: it knows NCHW alone."""
    x = activation((2, 8, 9, 9), dtype, layout)
    w = activation((16, 8 // groups, 3, 3), dtype, "nchw")
    want = F.conv2d(x, w, groups=groups)
    have = fastconv.functional.conv2d(x, w, groups=groups)
    assert have.stride() == want.stride()
    torch.testing.assert_close(have, want, rtol=1e-2, atol=1e-2)


def test_misaligned_and_strided_operands() -> None:
    base = torch.randn(2 * 8 * 9 * 9 + 1, device="cuda", dtype=torch.float64)
    w = torch.randn(16, 8, 3, 3, device="cuda", dtype=torch.float64)
    for x in (
        base[1:].view(2, 8, 9, 9),
        torch.randn(2, 8, 9, 18, device="cuda").double()[..., ::2],
    ):
        torch.testing.assert_close(fastconv.functional.conv2d(x, w), F.conv2d(x, w))


def test_graph_capture() -> None:
    """A captured call allocates from the graph's pool, waits for nothing, and replays on new
    values.
    """
    x, w = (
        activation((2, 16, 9, 9), torch.float32, "nchw"),
        torch.randn(16, 16, 3, 3, device="cuda"),
    )
    with fastconv.enabled():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            F.conv2d(x, w, padding=1)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = F.conv2d(x, w, padding=1)
    x.copy_(torch.rand_like(x))
    graph.replay()
    want = F.conv2d(x.double(), w.double(), padding=1)
    torch.testing.assert_close(y.double(), want, rtol=1e-2, atol=1e-2)


def test_captured() -> None:
    """The body's first call is a real one; what is captured runs on each replay, on our stream."""
    x = torch.zeros(4, device="cuda")
    replay = _cuda.captured(lambda: x.add_(1))
    for count in (1.0, 2.0, 3.0):
        assert x.tolist() == [count] * 4
        replay()
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert not _cuda.is_lost()


def test_streams() -> None:
    """Work goes to the current stream: what an earlier kernel of it writes is what is read."""
    x, w = torch.zeros(8, 32, 64, 64, device="cuda"), torch.randn(32, 32, 3, 3, device="cuda")
    want = F.conv2d(torch.ones_like(x), w)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        x.fill_(1)
        have = fastconv.functional.conv2d(x, w)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(have, want, rtol=1e-2, atol=0.1)


def test_tf32_follows_torchs_switch() -> None:
    x, w = activation((4, 64, 16, 16), torch.float32, "nhwc"), torch.randn(64, 64, 3, 3).cuda()
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    try:
        conv.fp32_precision = "ieee"
        fastconv.functional.conv2d(x, w)
        name = fastconv.last_kernel("fprop")
        assert name is None or registry.find(name).numerics != "tf32"
    finally:
        conv.fp32_precision = before


def test_operands_on_two_devices_are_torchs_error() -> None:
    """Before 2.13 torch's stable ABI does not hand over the text of an error: csrc/torch/tensor.cc
    says where it is.
    """
    x, w = torch.randn(1, 4, 5, 5, device="cuda"), torch.randn(4, 4, 3, 3)
    words = r"same device|should be the same"
    if torch.__version__ < (2, 13) and _native.lib is not None:
        words += r"|its message is on stderr"
    with fastconv.enabled(), pytest.raises(RuntimeError, match=words):
        F.conv2d(x, w)


@pytest.mark.skipif(not _native.has_cuda, reason="the op library has no CUDA kernels")
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("names", [("pool_fprop_direct_nhwc_sm80",), ()], ids=["ours", "torchs"])
def test_pools_formats_are_torchs(names: tuple[str, ...], layout: str) -> None:
    """Under enable(), by a row of ours and where torch's kernel runs; autograd's own thread, which no
    name reaches, goes to torch's.
    """
    for pool in (
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, 4),
    ):
        x = activation((2, 8, 9, 11), torch.float32, layout).requires_grad_()
        want = pool(x)
        dy = torch.rand_like(want)
        (want_dx,) = torch.autograd.grad(want, x, dy)
        fastconv.enable()
        try:
            with fastconv.use(*names):
                have = pool(x)
            assert fastconv.last_kernel("fprop", "pool") == (names[0] if names else None)
            (dx,) = torch.autograd.grad(have, x, dy)
        finally:
            fastconv.disable()
        assert have.stride() == want.stride() and dx.stride() == want_dx.stride()
        torch.testing.assert_close(have, want)
        torch.testing.assert_close(dx, want_dx)


@pytest.mark.skipif(not _native.has_cuda, reason="the op library has no CUDA kernels")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.family == "pool" and row.target != "triton"],
    ids=lambda row: row.name,
)  # fmt: skip
def test_pool_rows(row: registry.Kernel, dtype: str) -> None:
    family = families.named("pool")
    for case in shapes.cuda("pool"):
        p = case.problem.replace(dtype=dtype)
        answer = {kernel.name: kernel.reason for kernel in registry.kernels(p, device="cuda")}
        if answer[row.name] is not None or p.N == 0 or family.why_not_torch(p) is not None:
            continue
        t = drawn(p, family.drawn(), torch.device("cuda"))
        have = family.native_call(p, row.direction, t, row.name)()
        assert fastconv.last_kernel(row.direction, "pool") == row.name
        wide = {name: each.double().cpu() for name, each in t.items()}
        want = family.torch_call(p, row.direction, wide)()
        bound = tolerance.real(p, row.direction, row.numerics)
        wrong = bound.violations(have.double().cpu().numpy(), want.numpy())
        assert not wrong.any(), f"{row.name} on {p}: {int(wrong.sum())} of {wrong.size} are wrong"


# Last: an error that leaves the process without its GPU would fail whatever came after.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.family == "conv" and row.target != "triton"],
    ids=lambda row: row.name,
)  # fmt: skip
def test_rows(row: registry.Kernel, dtype: str) -> None:
    for case in shapes.cuda("conv"):
        p = case.problem.replace(dtype=dtype)
        answer = {kernel.name: kernel.reason for kernel in registry.kernels(p, device="cuda")}
        if answer[row.name] is not None or not is_plain(p):
            continue
        x = activation((p.N, p.C, p.H, p.W), DTYPES[dtype], p.x_layout)
        dy = activation((p.N, p.K, p.P, p.Q), DTYPES[dtype], p.y_layout)
        w = activation((p.K, p.C_per_group, p.R, p.S), DTYPES[dtype], "nchw")
        with fastconv.use(row.name):
            have = call(p, row.direction, x, w, dy)
        assert fastconv.last_kernel(row.direction) == row.name
        want = expected(p, row.direction, x, w, dy)
        bound = tolerance.real(p, row.direction, row.numerics)
        wrong = bound.violations(have.double().cpu().numpy(), want.numpy())
        assert not wrong.any(), f"{row.name} on {p}: {int(wrong.sum())} of {wrong.size} are wrong"
