"""Convolutions and pooling with the signatures of `torch.nn.functional`, on fastconv's kernels; and the
pools of the literature that torch lacks, `stochastic_pool2d` and `sub_sample2d`.

Both directions are chosen by fastconv wherever the call is made, enabled or not: the first kernel
that is known to beat torch's, else torch's own (`fastconv.explain` and `fastconv.last_kernel` say
which ran; `fastconv.use` names one by hand). What fastconv has no kernels for (integers, complex
numbers, other devices, invalid arguments) is torch's: same result, same error. So is a call that
something watches which knows torch's functions alone: `torch.jit.trace`, `torch.fx`, a subclass of
Tensor. Of the pools that torch lacks FX records our function, and `torch.jit.trace` torch's ops that they
are composed of, and the draw by `torch.ops.fastconv.stochastic_pool`.
"""

from fastconv.functional.conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from fastconv.functional.own_pool import stochastic_pool2d, sub_sample2d
from fastconv.functional.pool import (
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_avg_pool3d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    adaptive_max_pool3d,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from fastconv.functional.unpool import max_unpool1d, max_unpool2d, max_unpool3d

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "stochastic_pool2d",
    "sub_sample2d",
]
