#include "core/cuda_on_cpu/ptx_tma.h"

#include <algorithm>
#include <memory>

namespace fastconv {
namespace cuda_on_cpu {
namespace {

constexpr uint32_t kMagic = 0x544d4150;
constexpr int kChunk = 16;  // what a swizzle moves as a whole

/// What the 128 bytes of a TensorMap hold here.
struct Fields {
  const char* data;
  int64_t stride[5];
  uint32_t magic;
  int32_t extent[5];
  int16_t box[5], lower[3], upper[3], pixels;
  uint8_t step[5], rank, element;
  bool im2col;
  Swizzle swizzle;

  int row_bytes() const { return box[0] * element; }
  /// Elements that a copy takes along an axis.
  int count(int axis) const { return axis == 0 ? box[0] : (box[axis] + step[axis] - 1) / step[axis]; }
  size_t rows() const {
    if (im2col) return static_cast<size_t>(pixels);
    size_t rows = 1;
    for (int axis = 1; axis < rank; ++axis) rows *= static_cast<size_t>(count(axis));
    return rows;
  }
  size_t bytes() const { return rows() * static_cast<size_t>(row_bytes()); }
};
static_assert(sizeof(Fields) <= sizeof(TensorMap));

struct Coordinates {
  int axis[5];
};

Fields fields_of(const TensorMap& map, int rank, bool im2col, const Where& where) {
  Fields fields;
  std::memcpy(static_cast<void*>(&fields), map.bytes, sizeof(fields));
  if (fields.magic != kMagic) fail("a tensor map that was not made", where);
  if (fields.rank != rank) fail("a tensor map of " + std::to_string(fields.rank) + " axes", where);
  if (fields.im2col != im2col) fail("a tensor map of the other kind, tiled or im2col", where);
  return fields;
}

TensorMap map_of(const Fields& fields) {
  TensorMap map = {};
  std::memcpy(map.bytes, &fields, sizeof(fields));
  return map;
}

/// Calls `body(row, at)` for each row of a box: `at` is the place of its first element in the tensor.
template <class Body>
void for_each_row(const Fields& f, const Coordinates& first, const uint16_t* tap, Body&& body) {
  Coordinates at = first;
  const size_t rows = f.rows();
  for (size_t row = 0; row < rows; ++row) {
    Coordinates shifted = at;
    if (f.im2col)
      for (int i = 0; i < f.rank - 2; ++i) shifted.axis[i + 1] += tap[i];
    body(row, shifted);
    for (int axis = 1; axis < f.rank; ++axis) {
      at.axis[axis] += f.step[axis];
      if (axis == f.rank - 1) break;
      const int end = f.im2col ? f.extent[axis] + f.upper[axis - 1] : first.axis[axis] + f.count(axis) * f.step[axis];
      if (at.axis[axis] < end) break;
      at.axis[axis] = f.im2col ? f.lower[axis - 1] : first.axis[axis];
    }
  }
}

/// The place of the row's first element, or null where its other coordinates are outside.
const char* row_in_tensor(const Fields& f, const Coordinates& at) {
  const char* place = f.data;
  for (int axis = 1; axis < f.rank; ++axis) {
    if (at.axis[axis] < 0 || at.axis[axis] >= f.extent[axis]) return nullptr;
    place += f.stride[axis] * at.axis[axis];
  }
  return place;
}

/// Where the chunk that begins `offset` bytes into a box lies, counted from the beginning of the block's shared memory.
size_t swizzled(Swizzle swizzle, size_t box, size_t offset) {
  const size_t at = box + offset;
  return at ^ (at >> 7 & ((size_t{1} << static_cast<int>(swizzle)) - 1)) << 4;
}

/// Calls `body(offset in shared memory, place in the tensor or null, bytes)` for the pieces of a row: chunks, or single
/// elements where a chunk is partly outside.
template <class Body>
void for_each_piece(const Fields& f, size_t box, size_t row, const Coordinates& at, Body&& body) {
  const char* place = row_in_tensor(f, at);
  const size_t row_bytes = static_cast<size_t>(f.row_bytes());
  const int per_chunk = kChunk / f.element;
  const auto inside = [&](int c) { return place && c >= 0 && c < f.extent[0]; };
  const auto at_channel = [&](int c) { return inside(c) ? place + int64_t{1} * c * f.element : nullptr; };
  for (size_t chunk = 0; chunk < row_bytes / kChunk; ++chunk) {
    const size_t offset = swizzled(f.swizzle, box, row * row_bytes + chunk * kChunk);
    const int c = at.axis[0] + static_cast<int>(chunk) * per_chunk;
    if (inside(c) == inside(c + per_chunk - 1)) {
      body(offset, at_channel(c), size_t{kChunk});
      continue;
    }
    for (int i = 0; i < per_chunk; ++i)
      body(offset + static_cast<size_t>(i) * f.element, at_channel(c + i), size_t{f.element});
  }
}

void check_im2col(const Fields& f, const int* at, const uint16_t* tap, const Where& where) {
  for (int i = 0; i < f.rank - 2; ++i) {
    if (tap[i] > (f.rank == 4 ? 255 : 31)) fail("a tap beyond 255 (4 axes) or 31 (5 axes)", where);
    if (at[i + 1] < f.lower[i] || at[i + 1] >= f.extent[i + 1] + f.upper[i])
      fail("the first pixel is outside the map's corners", where);
  }
}

/// The blocks that a load goes to, and the places in them.
struct Targets {
  std::vector<unsigned> ranks;
  size_t box, barrier;

  Targets(const void* shared, const uint64_t* barrier, unsigned mask, const Where& where) {
    const Block& self = *current().block;
    this->box = static_cast<size_t>(static_cast<const char*>(shared) - self.shared);
    this->barrier = static_cast<size_t>(reinterpret_cast<const char*>(barrier) - self.shared);
    if (mask == 0) mask = 1u << self.rank;
    if (mask >> grid().cluster.count()) fail("a rank outside the cluster", where);
    for (unsigned rank = 0; rank < grid().cluster.count(); ++rank)
      if (mask >> rank & 1) ranks.push_back(rank);
  }
  void landed(size_t bytes, const Where& where) const {
    for (unsigned rank : ranks) {
      if (block_of_rank(rank).alive == 0) fail("a block ended before a bulk copy to it was done", where);
      change_mbarrier(reinterpret_cast<uint64_t*>(block_of_rank(rank).shared + barrier), 0,
                      -static_cast<int64_t>(bytes), where);
    }
  }
};

void check_still_running(const Where& where) {
  if (cluster_has_ended()) fail("a block ended before a bulk copy was done with its shared memory", where);
}

}  // namespace

struct BulkStores {
  struct Store {
    bool read = false, written = false;
  };
  std::vector<std::shared_ptr<Store>> open_group;
  std::vector<std::vector<std::shared_ptr<Store>>> groups;
};

void begin_load(void* shared, const TensorMap& map, const int* at, int rank, const uint16_t* tap, uint64_t* barrier,
                unsigned ranks, const Where& where) {
  if (!aligned(&map, 64)) fail("a tensor map not aligned to 64", where);
  const Fields fields = fields_of(map, rank, tap != nullptr, where);
  check_shared(shared, fields.bytes(), 128, where);
  check_shared(barrier, 8, 8, where);
  const Targets targets(shared, barrier, ranks, where);
  Coordinates first = {};
  std::copy(at, at + rank, first.axis);
  std::vector<uint16_t> taps;
  if (tap) {
    check_im2col(fields, at, tap, where);
    taps.assign(tap, tap + rank - 2);
  }
  for (unsigned to : targets.ranks) poison_shared(block_of_rank(to), targets.box, fields.bytes());
  later([=] {
    check_still_running(where);
    for_each_row(fields, first, taps.data(), [&](size_t row, const Coordinates& place) {
      for_each_piece(fields, targets.box, row, place, [&](size_t offset, const char* from, size_t bytes) {
        for (unsigned to : targets.ranks) land_in_shared(block_of_rank(to), offset, from, bytes);
      });
    });
    targets.landed(fields.bytes(), where);
  });
}

void begin_bulk_load(void* shared, const void* global, unsigned bytes, uint64_t* barrier, const Where& where) {
  if (bytes % 16 != 0) fail("a bulk copy of a number of bytes that is not a multiple of 16", where);
  check_shared(shared, bytes, 16, where);
  check_shared(barrier, 8, 8, where);
  if (!aligned(global, 16)) fail("an address in global memory not aligned to 16", where);
  const Targets targets(shared, barrier, 0, where);
  Block& block = *current().block;
  poison_shared(block, targets.box, bytes);
  later([=, &block] {
    check_still_running(where);
    land_in_shared(block, targets.box, static_cast<const char*>(global), bytes);
    targets.landed(bytes, where);
  });
}

void begin_store(const TensorMap& map, const void* shared, const int* at, int rank, const Where& where) {
  const Fields fields = fields_of(map, rank, false, where);
  check_shared(shared, fields.bytes(), 128, where);
  Coordinates first = {};
  std::copy(at, at + rank, first.axis);
  Block& block = *current().block;
  const size_t box = static_cast<size_t>(static_cast<const char*>(shared) - block.shared);
  auto& stores = current().bulk_stores;
  if (!stores) stores = std::make_shared<BulkStores>();
  const auto store = std::make_shared<BulkStores::Store>();
  stores->open_group.push_back(store);
  later([=, &block] {
    check_still_running(where);
    const char* const memory = async_view(block);
    std::vector<char> elements;
    for_each_row(fields, first, nullptr, [&](size_t row, const Coordinates& place) {
      for_each_piece(fields, box, row, place, [&](size_t offset, const char*, size_t bytes) {
        elements.insert(elements.end(), memory + offset, memory + offset + bytes);
      });
    });
    store->read = true;
    later([=] {
      const char* next = elements.data();
      for_each_row(fields, first, nullptr, [&](size_t row, const Coordinates& place) {
        for_each_piece(fields, box, row, place, [&](size_t, const char* to, size_t bytes) {
          if (to) std::memcpy(const_cast<char*>(to), next, bytes);
          next += bytes;
        });
      });
      store->written = true;
    });
  });
}

void commit_bulk_stores() {
  auto& stores = current().bulk_stores;
  if (!stores) stores = std::make_shared<BulkStores>();
  stores->groups.push_back(std::move(stores->open_group));
  stores->open_group.clear();
}

void wait_for_bulk_stores(size_t pending, bool read, const Where& where) {
  const std::shared_ptr<BulkStores> stores = current().bulk_stores;
  if (!stores || stores->groups.size() <= pending) return;
  const auto end = stores->groups.end() - static_cast<std::ptrdiff_t>(pending);
  wait_until(
      [&] {
        for (auto group = stores->groups.begin(); group != end; ++group)
          for (const auto& store : *group)
            if (!(read ? store->read : store->written)) return false;
        return true;
      },
      where);
}

}  // namespace cuda_on_cpu

namespace {

using cuda_on_cpu::Fields;

template <class Tensor>
Fields common_fields(const Tensor& tensor) {
  tensor_map_detail::check(tensor);
  Fields fields = {};
  fields.magic = cuda_on_cpu::kMagic;
  fields.data = static_cast<const char*>(tensor.data);
  fields.rank = static_cast<uint8_t>(tensor.rank);
  fields.element = static_cast<uint8_t>(tensor_map_detail::bytes_of(tensor.dtype));
  fields.swizzle = tensor.swizzle;
  std::fill(fields.step, fields.step + 5, uint8_t{1});
  for (int axis = 0; axis < tensor.rank; ++axis) {
    fields.extent[axis] = static_cast<int32_t>(tensor.extent[axis]);
    fields.stride[axis] = tensor.stride[axis];
  }
  return fields;
}

}  // namespace

TensorMap tensor_map(const TiledTensor& tensor) {
  Fields fields = common_fields(tensor);
  for (int axis = 0; axis < tensor.rank; ++axis) {
    fields.box[axis] = static_cast<int16_t>(tensor.box[axis]);
    fields.step[axis] = static_cast<uint8_t>(tensor.step[axis]);
  }
  return cuda_on_cpu::map_of(fields);
}

TensorMap tensor_map(const Im2colTensor& tensor) {
  Fields fields = common_fields(tensor);
  fields.im2col = true;
  fields.box[0] = static_cast<int16_t>(tensor.channels);
  fields.pixels = static_cast<int16_t>(tensor.pixels);
  for (int i = 0; i < tensor.rank - 2; ++i) {
    fields.step[i + 1] = static_cast<uint8_t>(tensor.step[i]);
    fields.lower[i] = static_cast<int16_t>(tensor.lower[i]);
    fields.upper[i] = static_cast<int16_t>(tensor.upper[i]);
  }
  return cuda_on_cpu::map_of(fields);
}

}  // namespace fastconv
