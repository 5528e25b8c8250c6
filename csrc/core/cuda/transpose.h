// Between channels first and channels last, on a GPU.
#pragma once

#include "core/problem.h"

namespace fastconv {

/// to[n][j][i] = from[n][i][j] for `problem.N` matrices of rows x columns elements of the problem's dtype, on `stream`.
/// Throws std::runtime_error where CUDA refuses the launch.
void transpose_cuda(const ConvProblem& problem, const void* from, void* to, int64_t rows, int64_t columns,
                    void* stream);

}  // namespace fastconv
