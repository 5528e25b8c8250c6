// Times CUDA rows on a GPU, on problems, without torch or Python.
//
//   kernel_bench_cuda [--kernel substring] [--direction dgrad] [--dtype f16] [--batch n] [--warm] problem-or-file ...
//
// One line a row and problem: median microseconds of a call over repeats in which the rows take turns, GFLOP/s of the
// direct sums, GB/s if x, w and y (or their gradients) moved once. A repeat is about two milliseconds of calls between
// two events of the stream.
//
// Each call takes the next of several copies of its operands, together more than twice L2: what a call reads has left
// L2 since (but for problems of less than L2 / 256), while what the call before wrote may still be on its way out.
// --warm gives all calls one copy. Scratch memory is the same for all. A call that is shorter than the host needs to
// launch it shows the launch. The weight is channels last where x is. Results are checked elsewhere (kernel_test_cuda).

#include <algorithm>
#include <cstdio>

#include "tools/cases.h"

namespace fastconv {
namespace {

constexpr int kRepeats = 15;

/// Copies of a problem's operands on the GPU, taken in turn.
class Copies {
 public:
  Copies(const ConvProblem& p, bool warm) : problem_(p) {
    Operands host(p);
    const auto aligned = [](const Bytes& bytes) { return (bytes.size() + 255) / 256 * 256; };
    w_ = aligned(host.x), y_ = w_ + aligned(host.w), bytes_ = y_ + aligned(host.y);
    count_ = warm ? 1 : std::min<size_t>(2 * l2_bytes() / bytes_ + 1, 512);
    memory_ = gpu_memory(count_ * bytes_);
    for (size_t i = 0; i < count_; ++i)
      for (auto [at, bytes] : {std::pair{size_t{0}, &host.x}, {w_, &host.w}, {y_, &host.y}})
        copy_to_gpu(static_cast<char*>(memory_.get()) + i * bytes_ + at, bytes->data(), bytes->size());
  }
  ConvArgs next(Direction direction) {
    char* const copy = static_cast<char*>(memory_.get()) + next_++ % count_ * bytes_;
    ConvArgs args;
    args.x = copy, args.dy = copy + y_;
    args.w = dense_filter(copy + w_, problem_, problem_.x_layout);
    args.out = direction == Direction::kFprop ? copy + y_ : copy;
    return args;
  }
  size_t count() const { return count_; }

 private:
  ConvProblem problem_;
  size_t w_, y_, bytes_;  // of a copy: where w and y begin, and all
  size_t count_, next_ = 0;
  GpuMemory memory_;
};

struct Entry {
  const ConvRow* row;
  int calls = 0;  // of a repeat: two milliseconds of them
  std::vector<double> us;
};

/// False where a row could not be run.
bool bench(const Case& one, Direction direction, const std::string& kernel, bool warm) {
  const ConvProblem& p = one.problem;
  std::vector<Entry> entries;
  size_t scratch = 0;
  for (const ConvRow& row : tool_rows()) {
    if (row.direction != direction || std::string(row.name).find(kernel) == std::string::npos) continue;
    if (row.kernel->algorithm == Algorithm::kRef && kernel.empty()) continue;
    if (tool_why_not(row.target) || tool_why_not(row, p) || p.macs() == 0) continue;
    entries.push_back({&row, 0, {}});
    if (row.kernel->workspace) scratch = std::max(scratch, row.kernel->workspace(p));
  }
  if (entries.empty()) return true;
  Copies copies(p, warm);
  const GpuMemory workspace = gpu_memory(scratch);
  GpuTimer timer;
  const auto time = [&](const ConvRow& row, int calls) {
    timer.begin();
    for (int i = 0; i < calls; ++i) {
      ConvArgs args = copies.next(direction);
      args.workspace = workspace.get();
      row.kernel->run(p, args);
    }
    return timer.end() / calls;
  };
  std::printf("%s: %s of %s, %zu copies\n", one.name.c_str(), name_of(direction), encode(p).c_str(), copies.count());
  for (Entry& entry : entries) {
    try {
      time(*entry.row, 2);  // which loads its code
      entry.calls = static_cast<int>(std::clamp(2000 / time(*entry.row, 3), 1., 400.));
    } catch (const std::exception& error) {
      std::printf("FAIL %s: %s\n", entry.row->name, error.what());
    }
  }
  const size_t failed = std::erase_if(entries, [](const Entry& entry) { return entry.calls == 0; });
  for (int repeat = 0; repeat < kRepeats; ++repeat)
    for (Entry& entry : entries) entry.us.push_back(time(*entry.row, entry.calls));
  const double bytes = static_cast<double>(element_size(p.dtype) * (p.x_elements() + p.w_elements() + p.y_elements()));
  for (Entry& entry : entries) {
    std::nth_element(entry.us.begin(), entry.us.begin() + kRepeats / 2, entry.us.end());
    const double us = entry.us[kRepeats / 2];
    std::printf("  %-40s %10.1f us %10.1f GFLOP/s %8.1f GB/s\n", entry.row->name, us,
                2e-3 * static_cast<double>(p.macs()) / us, 1e-3 * bytes / us);
  }
  std::fflush(stdout);
  return failed == 0;
}

int main_checked(int argc, char** argv) {
  std::string kernel, only, dtype;
  bool warm = false;
  int64_t batch = 0;
  std::vector<Case> cases;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--kernel" && i + 1 < argc) kernel = argv[++i];
    else if (word == "--direction" && i + 1 < argc) only = argv[++i];
    else if (word == "--dtype" && i + 1 < argc) dtype = argv[++i];
    else if (word == "--batch" && i + 1 < argc) batch = std::atoll(argv[++i]);
    else if (word == "--warm") warm = true;
    else add_cases(word, cases);
  }
  bool all = true;
  for (Case& one : cases) {
    if (!dtype.empty()) one.problem.dtype = decode(dtype).dtype;
    if (batch) one.problem.N = batch;
    for (Direction direction : {Direction::kFprop, Direction::kDgrad, Direction::kWgrad})
      if (only.empty() || only == name_of(direction)) all &= bench(one, direction, kernel, warm);
  }
  return all ? 0 : 1;
}

}  // namespace
}  // namespace fastconv

int main(int argc, char** argv) {
  try {
    return fastconv::main_checked(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel_bench_cuda: %s\n", error.what());
    return 2;
  }
}
