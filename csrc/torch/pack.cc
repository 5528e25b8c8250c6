#include "torch/pack.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/cpu/fingerprint.h"
#include "core/cpu/pages.h"
#include "core/cpu/run.h"
#include "torch/api.h"
#include "torch/error.h"
#include "torch/external.h"

namespace fastconv::binding {
namespace {

/// All that the layout of a packed weight may depend on: nothing of the images.
struct Header {
  char kernel[64];
  int64_t extents[6];  // K, C per group, groups, T, R, S
  int64_t steps[9];    // stride, padding and dilation: a dgrad's phases follow from them
  int64_t dtype;
  bool operator==(const Header& other) const { return !std::memcmp(this, &other, sizeof(Header)); }
};
static_assert(sizeof(Header) % 64 == 0, "what follows the header is aligned as the header is");
static_assert(std::has_unique_object_representations_v<Header>);

/// What a frozen weight is known by.
struct Identity {
  const void* data = nullptr;
  int64_t version = 0;
  bool operator==(const Identity&) const = default;
};

/// A content of a weight, and how it lies: what is packed follows its elements, not its bytes.
struct Content {
  Fingerprint fingerprint;
  Ints sizes, strides;
  int32_t dtype = -1;
  bool operator==(const Content&) const = default;
};

struct Made {
  Header header;
  std::shared_ptr<Tensor> packed;
};

struct Cache {
  std::mutex mutex;
  Content content;
  Identity identity;
  Tensor alias;  // of a frozen weight, so that its address cannot come back with another weight in it
  std::vector<Made> made;
  int64_t packings = 0;
};

/// Never destroyed: another thread may be inside a kernel while the process ends.
struct Caches {
  std::mutex mutex;
  std::unordered_map<int64_t, std::shared_ptr<Cache>> by_id;
  int64_t next = 0;
};

Caches& caches();

/// A fork in one thread must not leave the others' locks to a child that has no thread to open them.
void lock_all() {
  caches().mutex.lock();
  for (auto& [id, cache] : caches().by_id) cache->mutex.lock();
}
void unlock_all() {
  for (auto& [id, cache] : caches().by_id) cache->mutex.unlock();
  caches().mutex.unlock();
}

Caches& caches() {
  static Caches& all = []() -> Caches& {
    pthread_atfork(lock_all, unlock_all, unlock_all);
    return *new Caches;
  }();
  return all;
}

std::shared_ptr<Cache> find_cache(int64_t id) {
  const std::lock_guard lock(caches().mutex);
  const auto found = caches().by_id.find(id);
  return found == caches().by_id.end() ? nullptr : found->second;
}

Header header_for(const ConvRow& row, const ConvProblem& p) {
  Header header = {};
  std::strncpy(header.kernel, row.name, sizeof(header.kernel) - 1);
  const int64_t extents[] = {p.K, p.C_per_group(), p.groups, p.T, p.R, p.S};
  const int64_t steps[] = {p.stride_d, p.stride_h,   p.stride_w,   p.pad_d,     p.pad_h,
                           p.pad_w,    p.dilation_d, p.dilation_h, p.dilation_w};
  std::copy(std::begin(extents), std::end(extents), header.extents);
  std::copy(std::begin(steps), std::end(steps), header.steps);
  header.dtype = static_cast<int64_t>(p.dtype);
  return header;
}

/// All but the fingerprint.
Content content_of(const Shape& shape) {
  Content content;
  content.sizes = content.strides = sizes_of(shape);
  std::copy_n(shape.strides, shape.dim, content.strides.values);
  content.dtype = shape.dtype;
  return content;
}

/// Of every element, in the order of memory where the weight is dense.
Fingerprint fingerprint_of(const Tensor& weight, const Shape& shape, DType dtype) {
  int64_t bytes = element_size(dtype);
  for (int64_t d = 0; d < shape.dim; ++d) bytes *= shape.sizes[d];
  if (is_dense(shape)) return fingerprint(weight.data(), bytes);
  const Tensor copy = dense(weight, false);
  return fingerprint(copy.data(), bytes);
}

Tensor alias_of(const Tensor& weight) {
  int64_t offset;
  check(aoti_torch_get_storage_offset(weight.get(), &offset));
  AtenTensorHandle alias;
  check(aoti_torch__reinterpret_tensor(weight.get(), weight.dim(), weight.sizes(), weight.strides(), offset, &alias));
  return Tensor(alias);
}

Tensor room_for_packed(const ConvPlan& plan) {
  const size_t bytes = packed_bytes(plan);
  if (!bytes) return Tensor();
  const int64_t size = static_cast<int64_t>(sizeof(Header) + bytes), one = 1;
  Tensor packed = empty_strided(1, &size, &one, aoti_torch_dtype_uint8(), Device());
  wish_for_large_pages(packed.data(), sizeof(Header) + bytes);
  return packed;
}

void pack_into(const Tensor& packed, const Header& header, const ConvPlan& plan, const Call& call,
               const Tensor& weight) {
  std::memcpy(packed.data(), &header, sizeof(header));
  ConvArgs args;
  args.w = filter_of(weight.data(), weight.strides(), call.problem, call.spatial);
  pack(plan, call.problem, args, static_cast<char*>(packed.data()) + sizeof(header));
}

}  // namespace

Tensor pack_weight(const ConvPlan& plan, const Call& call, const Tensor& weight) {
  if (is_external(*plan.row)) return Tensor();  // Python's rows take weights as they are
  Tensor packed = room_for_packed(plan);
  if (packed) pack_into(packed, header_for(*plan.row, plan.problem), plan, call, weight);
  return packed;
}

const ConvRow* row_of_packed(const Tensor& packed, const ConvProblem& problem, Direction direction) {
  const Shape shape = shape_of(packed);
  if (!packed.is_on_cpu() || shape.dtype != aoti_torch_dtype_uint8() || shape.dim != 1 || shape.strides[0] != 1 ||
      shape.sizes[0] <= static_cast<int64_t>(sizeof(Header)))
    return nullptr;
  const auto* data = static_cast<const char*>(packed.data());
  if (reinterpret_cast<uintptr_t>(data) % 64 != 0) return nullptr;
  Header header;
  std::memcpy(&header, data, sizeof(header));
  header.kernel[sizeof(header.kernel) - 1] = 0;
  const ConvRow* row = find_row(Conv::cpu_table(), header.kernel);
  if (!row || row->direction != direction || why_not_row(Conv::cpu_table(), *row, problem)) return nullptr;
  const ConvPlan plan = plan_for(Conv::cpu_table(), *row, problem);
  if (header != header_for(*row, plan.problem)) return nullptr;
  return shape.sizes[0] == static_cast<int64_t>(sizeof(header) + packed_bytes(plan)) ? row : nullptr;
}

const void* packed_data(const Tensor& packed) { return static_cast<const char*>(packed.data()) + sizeof(Header); }

std::shared_ptr<const Tensor> cached_packed(const CacheRef& ref, const ConvPlan& plan, const Call& call,
                                            const Tensor& weight) {
  if (call.device.cuda || is_external(*plan.row) || !plan.row->kernel->pack) return nullptr;
  const std::shared_ptr<Cache> cache = find_cache(ref.id);
  if (!cache) return nullptr;
  const Shape shape = shape_of(weight);
  const Identity identity{weight.data(), ref.version};
  const Header header = header_for(*plan.row, plan.problem);
  Content content = content_of(shape);
  const auto known = [&]() -> std::shared_ptr<const Tensor> {
    for (const Made& made : cache->made)
      if (made.header == header) return made.packed;
    return nullptr;
  };
  const auto lies_as = [&](const Content& other) {
    return content.sizes == other.sizes && content.strides == other.strides && content.dtype == other.dtype;
  };

  if (ref.frozen()) {
    const std::lock_guard lock(cache->mutex);
    if (cache->alias && cache->identity == identity && lies_as(cache->content))
      if (auto packed = known()) return packed;
  }
  const DType dtype = call.problem.dtype;
  content.fingerprint = fingerprint_of(weight, shape, dtype);

  Tensor alias;  // what it held is given back after the lock
  if (ref.frozen()) alias = alias_of(weight);
  const std::lock_guard lock(cache->mutex);
  // A buffer of the last content is written over where no call reads it any more: fresh pages cost more than packing.
  std::shared_ptr<Tensor> packed;
  if (cache->content != content) {
    for (Made& made : cache->made)
      if (made.header == header && made.packed.use_count() == 1) packed = std::move(made.packed);
    cache->made.clear();
    cache->content = content;
  }
  std::swap(alias, cache->alias);
  cache->identity = identity;
  if (auto made = known()) return made;
  if (!packed) packed = std::make_shared<Tensor>(room_for_packed(plan));
  if (!*packed) return nullptr;
  pack_into(*packed, header, plan, call, weight);
  ++cache->packings;
  // What another thread changed meanwhile may be in the packing in part; then it serves no later call.
  if (fingerprint_of(weight, shape, dtype) == content.fingerprint) cache->made.push_back({header, packed});
  return packed;
}

}  // namespace fastconv::binding

using namespace fastconv::binding;

int64_t fastconv_new_cache() {
  return guarded(int64_t{-1}, [] {
    const std::lock_guard lock(caches().mutex);
    caches().by_id.emplace(caches().next, std::make_shared<Cache>());
    return caches().next++;
  });
}

void fastconv_drop_cache(int64_t id) {
  guarded([&] {
    std::shared_ptr<Cache> dropped;  // freed after the lock
    const std::lock_guard lock(caches().mutex);
    const auto found = caches().by_id.find(id);
    if (found == caches().by_id.end()) return;
    dropped = std::move(found->second);
    caches().by_id.erase(found);
  });
}

int64_t fastconv_cache_packings(int64_t id) {
  return guarded(int64_t{-1}, [&]() -> int64_t {
    const auto cache = find_cache(id);
    if (!cache) return 0;
    const std::lock_guard lock(cache->mutex);
    return cache->packings;
  });
}

int64_t fastconv_cache_bytes(int64_t id) {
  return guarded(int64_t{-1}, [&]() -> int64_t {
    const auto cache = find_cache(id);
    if (!cache) return 0;
    const std::lock_guard lock(cache->mutex);
    int64_t bytes = 0;
    for (const Made& made : cache->made) bytes += made.packed->sizes()[0];
    return bytes;
  });
}
