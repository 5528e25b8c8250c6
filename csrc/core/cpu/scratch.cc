#include "core/cpu/scratch.h"

#include <cstdlib>

#include "core/cpu/pages.h"

namespace fastconv {
namespace {

constexpr size_t kKept = size_t{64} << 20;
constexpr size_t kLine = 64;

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
    const size_t rounded = (bytes + kLine - 1) / kLine * kLine;
    buffer.data = std::aligned_alloc(kLine, rounded);
    if (!buffer.data) return nullptr;
    buffer.bytes = rounded;
    wish_for_large_pages(buffer.data, rounded);
  }
  return buffer.data;
}

void release_large_scratch() {
  if (buffer.bytes > kKept) buffer.release();
}

}  // namespace fastconv
