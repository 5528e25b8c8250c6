// fastconv under aten's ops: registered by the first `fastconv.enable()` and never before, so that a process that
// enables nothing pays nothing.
#pragma once

#include <torch/csrc/stable/library.h>

namespace fastconv::binding {

/// Registers the family's kernels for aten's ops in `library`, whose dispatch key is `key`: "CPU" or "CUDA". With the
/// flag off, for arguments that are unusual, or where no row is known to win, they go on to torch's own.
template <class F>
void under_aten(torch::stable::detail::StableLibrary& library, const char* key);

}  // namespace fastconv::binding
