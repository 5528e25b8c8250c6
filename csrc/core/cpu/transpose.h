// Between channels first and channels last.
#pragma once

#include <cstdint>

namespace fastconv {

/// to[b][j][i] = from[b][i][j] for `batch` matrices of rows x columns elements of 2, 4 or 8 bytes.
///
/// NCHW to NHWC is rows = C, columns = H * W; the way back exchanges the two.
void transpose(const void* from, void* to, int64_t batch, int64_t rows, int64_t columns, int64_t element_size);

}  // namespace fastconv
