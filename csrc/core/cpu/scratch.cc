#include "core/cpu/scratch.h"

#include <sys/mman.h>

#include <cstdlib>

namespace fastconv {
namespace {

constexpr size_t kKept = size_t{64} << 20;
constexpr size_t kHugePage = size_t{2} << 20;

struct Buffer {
  void* data = nullptr;
  size_t bytes = 0;
  void release() {
    std::free(data);
    data = nullptr;
    bytes = 0;
  }
  ~Buffer() { release(); }
};

thread_local Buffer buffer;

}  // namespace

void* scratch(size_t bytes) {
  if (bytes > buffer.bytes) {
    buffer.release();
    const size_t unit = bytes >= kHugePage ? kHugePage : 64;
    const size_t rounded = (bytes + unit - 1) / unit * unit;
    buffer.data = std::aligned_alloc(unit, rounded);
    if (!buffer.data) return nullptr;
    buffer.bytes = rounded;
#if defined(MADV_HUGEPAGE)
    if (unit == kHugePage) madvise(buffer.data, rounded, MADV_HUGEPAGE);
#endif
  }
  return buffer.data;
}

void release_large_scratch() {
  if (buffer.bytes > kKept) buffer.release();
}

}  // namespace fastconv
