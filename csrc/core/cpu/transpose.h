// Between channels first and channels last.
#pragma once

#include <cstdint>

namespace fastconv {

/// to[b][j][i] = from[b][i][j] for `batch` matrices of rows x columns elements of 2, 4 or 8 bytes.
///
/// NCHW to NHWC is rows = C, columns = H * W; the way back exchanges the two.
void transpose(const void* from, void* to, int64_t batch, int64_t rows, int64_t columns, int64_t element_size);

/// The same for floats, one per target; `transpose` takes the widest that runs here.
void transpose_floats_cpu(const float* from, float* to, int64_t batch, int64_t rows, int64_t columns);
#if defined(__x86_64__)
void transpose_floats_avx2(const float* from, float* to, int64_t batch, int64_t rows, int64_t columns);
void transpose_floats_avx512(const float* from, float* to, int64_t batch, int64_t rows, int64_t columns);
#endif

}  // namespace fastconv
