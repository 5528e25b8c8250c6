// What the kernels of unpooling share: elements moved as they are, whatever they mean, by indices that are checked.
#pragma once

#include <cstring>

#include "core/cpu/parallel.h"
#include "core/cpu/simd.h"
#include "unpool/unpool.h"

namespace fastconv {
namespace {

/// Calls `body(T{})` with a whole number of the elements' size.
template <class Body>
void with_bits(DType dtype, const Body& body) {
  switch (element_size(dtype)) {
    case 2: return body(uint16_t{});
    case 4: return body(uint32_t{});
    case 8: return body(uint64_t{});
  }
}

/// Whether `index` is one of `count` pixels; notes it where it is not.
FASTCONV_INLINE bool is_inside(int64_t index, int64_t count, const UnpoolArgs& args) {
  if (static_cast<uint64_t>(index) < static_cast<uint64_t>(count)) [[likely]]
    return true;
  if (args.stray) args.stray->note(index);
  return false;
}

/// The parts of N images of C channels: whole images, or blocks of channels of at least a line of 64 bytes where images
/// are few.
struct Blocks {
  int64_t channels, per_image;
  Blocks(const UnpoolProblem& p) {
    const int64_t line = 64 / element_size(p.dtype), wanted = divide_up(num_threads(), most(p.N, 1));
    channels = most(round_up(divide_up(p.C, wanted), line), 1);
    per_image = divide_up(p.C, channels);
  }
};

}  // namespace
}  // namespace fastconv
