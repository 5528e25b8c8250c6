#include "torch/geometry.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "torch/api.h"
#include "torch/error.h"
#include "torch/fork.h"

namespace fastconv::binding {
namespace {

constexpr int64_t kMost = 1 << 14;
std::atomic<const Geometry*> geometries[kMost];  // that live as long as the process
std::atomic<int64_t> count{0};

}  // namespace

const Geometry& geometry_of(int64_t id) {
  const Geometry* found = id >= 0 && id < kMost ? geometries[id].load(std::memory_order_acquire) : nullptr;
  if (!found) throw std::runtime_error("fastconv: no geometry has the number " + std::to_string(id));
  return *found;
}

}  // namespace fastconv::binding

int64_t fastconv_intern_geometry(int64_t spatial, const int64_t* stride, const int64_t* padding,
                                 const int64_t* dilation, const int64_t* output_padding, int transposed,
                                 int64_t groups) {
  using namespace fastconv::binding;
  return guarded(int64_t{-1}, [&]() -> int64_t {
    if (spatial < 1 || spatial > 3) return -1;
    Geometry wanted;
    const auto take = [&](Ints* list, const int64_t* values) {
      list->count = spatial;
      if (values) std::copy_n(values, spatial, list->values);
    };
    take(&wanted.stride, stride);
    take(&wanted.padding, padding);
    take(&wanted.dilation, dilation);
    take(&wanted.output_padding, output_padding);
    wanted.groups = groups;
    wanted.transposed = transposed != 0;
    static std::mutex& adding = fork_safe_mutex();
    const std::lock_guard lock(adding);
    const int64_t id = count.load();
    for (int64_t i = 0; i < id; ++i)
      if (*geometries[i].load() == wanted) return i;
    if (id == kMost) return -1;
    geometries[id].store(new Geometry(wanted), std::memory_order_release);
    count = id + 1;
    return id;
  });
}
