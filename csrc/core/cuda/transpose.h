// Between channels first and channels last, on a GPU.
#pragma once

#include <cstdint>

namespace fastconv {

/// to[n][j][i] = from[n][i][j] for `count` matrices of rows x columns elements of 1, 2, 4 or 8 bytes, on `stream`.
/// Throws std::runtime_error where CUDA refuses the launch.
void transpose_cuda(const void* from, void* to, int64_t count, int64_t rows, int64_t columns, int64_t element,
                    void* stream);

}  // namespace fastconv
