#include "core/cuda_on_cpu/ptx_async.h"

namespace fastconv::cuda_on_cpu {

void begin_copy(void* shared, const void* global, size_t bytes, bool valid, const Where& where) {
  check_shared(shared, bytes, bytes, where);
  if (!aligned(global, bytes)) fail("an address in global memory not aligned to " + std::to_string(bytes), where);
  if (valid) std::memcpy(shared, global, bytes);  // a step outside shows here, not at the wait
  std::memset(shared, 0xff, bytes);
  current().open_group.push_back({shared, global, valid ? bytes : 0, valid ? 0 : bytes});
}

void land(const PendingCopy& copy) {
  if (copy.bytes) std::memcpy(copy.to, copy.from, copy.bytes);
  std::memset(static_cast<char*>(copy.to) + copy.bytes, 0, copy.zeros);
}

void commit_copies() {
  Thread& self = current();
  self.groups.push_back(std::move(self.open_group));
  self.open_group.clear();
}

void wait_for_copies(size_t pending) {
  auto& groups = current().groups;
  if (groups.size() <= pending) return;
  const auto end = groups.end() - static_cast<std::ptrdiff_t>(pending);
  for (auto group = groups.begin(); group != end; ++group)
    for (const PendingCopy& copy : *group) land(copy);
  groups.erase(groups.begin(), end);
}

namespace {

constexpr size_t kRowBytes = 16;

struct Matrices {
  char* row;
  uint32_t* r;
  unsigned count;
  bool transposed, store;
};

/// Exchanges registers and memory, element by element.
void move_matrices(void* const* slots, unsigned) {
  const auto& first = *static_cast<Matrices*>(slots[0]);
  for (unsigned lane = 0; lane < kWarp; ++lane)
    for (unsigned i = 0; i < first.count; ++i)
      for (unsigned half = 0; half < 2; ++half) {
        const unsigned along = 2 * (lane % 4) + half, across = lane / 4;
        const unsigned row = first.transposed ? along : across, column = first.transposed ? across : along;
        char* element = static_cast<Matrices*>(slots[8 * i + row])->row + 2 * column;
        auto* in_register = reinterpret_cast<char*>(static_cast<Matrices*>(slots[lane])->r + i) + 2 * half;
        if (first.store) std::memcpy(element, in_register, 2);
        else std::memcpy(in_register, element, 2);
      }
}

void meet(const void* row, const uint32_t* r, unsigned count, bool transposed, bool store, const Where& where) {
  if (current().lane() < 8 * count) check_shared(row, kRowBytes, kRowBytes, where);
  Matrices mine{static_cast<char*>(const_cast<void*>(row)), const_cast<uint32_t*>(r), count, transposed, store};
  in_warp(kFull, &mine, move_matrices, where);
}

}  // namespace

void load_matrices(uint32_t* r, const void* row, unsigned count, bool transposed, const Where& where) {
  meet(row, r, count, transposed, false, where);
}

void store_matrices(const uint32_t* r, void* row, unsigned count, bool transposed, const Where& where) {
  meet(row, r, count, transposed, true, where);
}

}  // namespace fastconv::cuda_on_cpu
