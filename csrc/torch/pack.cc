#include "torch/pack.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "core/cpu/pages.h"
#include "torch/api.h"

namespace fastconv::binding {
namespace {

struct Header {
  char kernel[48];
  int32_t K, C_per_group, groups;
  int16_t taps[2];  // R, S
};
static_assert(sizeof(Header) == 64, "what follows the header is aligned to 64 as the header is");

struct Made {
  const ConvRow* row;
  std::shared_ptr<const Tensor> packed;
};

struct Cache {
  std::mutex mutex;
  Tensor weight;  // an alias of the weight the packings were made from
  const void* data = nullptr;
  Ints sizes, strides;
  int64_t version = -1;
  int32_t dtype = -1;
  std::vector<Made> made;
  int64_t packings = 0;
};

std::mutex caches_mutex;
std::unordered_map<int64_t, std::shared_ptr<Cache>> caches;
int64_t next_cache = 0;

std::shared_ptr<Cache> find_cache(int64_t id) {
  const std::lock_guard lock(caches_mutex);
  const auto found = caches.find(id);
  return found == caches.end() ? nullptr : found->second;
}

Header header_for(const ConvRow& row, const ConvProblem& p) {
  Header header = {};
  std::strncpy(header.kernel, row.name, sizeof(header.kernel) - 1);
  header.K = static_cast<int32_t>(p.K);
  header.C_per_group = static_cast<int32_t>(p.C_per_group());
  header.groups = static_cast<int32_t>(p.groups);
  header.taps[0] = static_cast<int16_t>(p.R);
  header.taps[1] = static_cast<int16_t>(p.S);
  return header;
}

Tensor alias_of(const Tensor& weight) {
  int64_t offset;
  check(aoti_torch_get_storage_offset(weight.get(), &offset));
  AtenTensorHandle alias;
  check(aoti_torch__reinterpret_tensor(weight.get(), weight.dim(), weight.sizes(), weight.strides(), offset, &alias));
  return Tensor(alias);
}

}  // namespace

Tensor pack_weight(const ConvPlan& plan, const Call& call, const Tensor& weight) {
  const size_t bytes = packed_bytes(plan);
  if (!bytes) return Tensor();
  const int64_t size = static_cast<int64_t>(sizeof(Header) + bytes), one = 1;
  Tensor packed = empty_strided(1, &size, &one, aoti_torch_dtype_uint8(), Device());
  wish_for_large_pages(packed.data(), sizeof(Header) + bytes);
  const Header header = header_for(*plan.row, plan.problem);
  std::memcpy(packed.data(), &header, sizeof(header));
  pack(plan, filter_of(weight.data(), weight.strides(), plan.problem, call.spatial),
       static_cast<char*>(packed.data()) + sizeof(header));
  return packed;
}

const ConvRow* row_of_packed(const Tensor& packed, const ConvProblem& problem, Direction direction) {
  const Shape shape = shape_of(packed);
  const auto* data = static_cast<const char*>(packed.data());
  if (shape.dim != 1 || shape.sizes[0] <= static_cast<int64_t>(sizeof(Header)) ||
      reinterpret_cast<uintptr_t>(data) % 64 != 0)
    return nullptr;
  Header header;
  std::memcpy(&header, data, sizeof(header));
  header.kernel[sizeof(header.kernel) - 1] = 0;
  const ConvRow* row = find_conv_row(header.kernel);
  if (!row || row->direction != direction || why_not(*row, problem)) return nullptr;
  const Header expected = header_for(*row, problem);
  if (std::memcmp(&header, &expected, sizeof(header))) return nullptr;
  const size_t bytes = packed_bytes(plan_for(*row, problem));
  return shape.sizes[0] == static_cast<int64_t>(sizeof(header) + bytes) ? row : nullptr;
}

const void* packed_data(const Tensor& packed) { return static_cast<const char*>(packed.data()) + sizeof(Header); }

std::shared_ptr<const Tensor> cached_packed(int64_t id, int64_t version, const ConvPlan& plan, const Call& call,
                                            const Tensor& weight) {
  if (!plan.row->kernel->pack) return nullptr;
  const std::shared_ptr<Cache> cache = find_cache(id);
  if (!cache) return nullptr;
  const Shape shape = shape_of(weight);
  const std::lock_guard lock(cache->mutex);
  const auto same = [](const Ints& known, const int64_t* values, int64_t count) {
    return known.count == count && std::equal(values, values + count, known.values);
  };
  if (cache->data != weight.data() || cache->version != version || cache->dtype != shape.dtype ||
      !same(cache->sizes, shape.sizes, shape.dim) || !same(cache->strides, shape.strides, shape.dim)) {
    cache->made.clear();
    cache->weight = alias_of(weight);
    cache->data = weight.data();
    cache->version = version;
    cache->dtype = shape.dtype;
    cache->sizes = cache->strides = sizes_of(shape);
    std::copy_n(shape.strides, shape.dim, cache->strides.values);
  }
  for (const Made& made : cache->made)
    if (made.row == plan.row) return made.packed;
  auto packed = std::make_shared<const Tensor>(pack_weight(plan, call, weight));
  if (!*packed) return nullptr;
  ++cache->packings;
  cache->made.push_back({plan.row, packed});
  return packed;
}

}  // namespace fastconv::binding

using namespace fastconv::binding;

int64_t fastconv_new_cache() {
  const std::lock_guard lock(caches_mutex);
  caches.emplace(next_cache, std::make_shared<Cache>());
  return next_cache++;
}

void fastconv_drop_cache(int64_t id) {
  std::shared_ptr<Cache> dropped;  // freed after the lock
  const std::lock_guard lock(caches_mutex);
  const auto found = caches.find(id);
  if (found == caches.end()) return;
  dropped = std::move(found->second);
  caches.erase(found);
}

int64_t fastconv_cache_packings(int64_t id) {
  const auto cache = find_cache(id);
  if (!cache) return 0;
  const std::lock_guard lock(cache->mutex);
  return cache->packings;
}

int64_t fastconv_cache_bytes(int64_t id) {
  const auto cache = find_cache(id);
  if (!cache) return 0;
  const std::lock_guard lock(cache->mutex);
  int64_t bytes = 0;
  for (const Made& made : cache->made) bytes += made.packed->sizes()[0];
  return bytes;
}
