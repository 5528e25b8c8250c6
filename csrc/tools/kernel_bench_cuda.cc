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

/// Copies of a call's operands on the GPU, taken in turn.
template <class F>
class Copies {
 public:
  Copies(const typename F::Problem& p, Direction direction, bool warm) : problem_(p), host_(p, direction, false) {
    Random random(1);
    host_.fill([&] { return random.real(); });
    for (size_t i = 0; i < host_.size(); ++i) begins_.push_back(bytes_), bytes_ += (host_.bytes(i) + 255) / 256 * 256;
    count_ = warm ? 1 : std::min<size_t>(2 * l2_bytes() / bytes_ + 1, 512);
    memory_ = gpu_memory(count_ * bytes_);
    for (size_t copy = 0; copy < count_; ++copy)
      for (size_t i = 0; i < host_.size(); ++i)
        copy_to_gpu(static_cast<char*>(memory_.get()) + copy * bytes_ + begins_[i], host_.data(i), host_.bytes(i));
  }
  typename F::Args next(void* workspace) {
    char* const copy = static_cast<char*>(memory_.get()) + next_++ % count_ * bytes_;
    auto args = host_.args(F::extents(problem_, Side::kX).layout);
    for (size_t i = 0; i < host_.size(); ++i)
      if (host_.count(i) >= 0) *host_.operand(i).at(args) = copy + begins_[i];
    args.workspace = workspace;
    return F::squeezed(args, problem_);
  }
  size_t count() const { return count_; }
  /// Of all operands, each counted once.
  size_t bytes() const { return bytes_; }

 private:
  typename F::Problem problem_;
  Operands<F> host_;
  std::vector<size_t> begins_;
  size_t bytes_ = 0, count_, next_ = 0;
  GpuMemory memory_;
};

template <class F>
struct Entry {
  const Row<F>* row;
  int calls = 0;  // of a repeat: two milliseconds of them
  std::vector<double> us;
};

/// False where a row could not be run.
template <class F>
bool bench(const Case<F>& one, Direction direction, const std::string& kernel, bool warm) {
  const auto& p = one.problem;
  const auto seen = F::squeezed(p);
  std::vector<Entry<F>> entries;
  size_t scratch = 0;
  for (const Row<F>& row : tool_rows<F>()) {
    if (row.direction != direction || std::string(row.name).find(kernel) == std::string::npos) continue;
    if (row.kernel->algorithm == Algorithm::kRef && kernel.empty()) continue;
    if (tool_why_not(row.target) || row.kernel->why_not(seen) || F::macs(p) == 0) continue;
    entries.push_back({&row, 0, {}});
    if (row.kernel->workspace) scratch = std::max(scratch, row.kernel->workspace(seen));
  }
  if (entries.empty()) return true;
  Copies<F> copies(p, direction, warm);
  const GpuMemory workspace = gpu_memory(scratch);
  GpuTimer timer;
  const auto time = [&](const Row<F>& row, int calls) {
    timer.begin();
    for (int i = 0; i < calls; ++i) row.kernel->run(seen, copies.next(workspace.get()));
    return timer.end() / calls;
  };
  std::printf("%s: %s of %s, %zu copies\n", one.name.c_str(), name_of(direction), encode(p).c_str(), copies.count());
  for (Entry<F>& entry : entries) {
    try {
      time(*entry.row, 2);  // which loads its code
      entry.calls = static_cast<int>(std::clamp(2000 / time(*entry.row, 3), 1., 400.));
    } catch (const std::exception& error) {
      std::printf("FAIL %s: %s\n", entry.row->name, error.what());
    }
  }
  const size_t failed = std::erase_if(entries, [](const Entry<F>& entry) { return entry.calls == 0; });
  for (int repeat = 0; repeat < kRepeats; ++repeat)
    for (Entry<F>& entry : entries) entry.us.push_back(time(*entry.row, entry.calls));
  for (Entry<F>& entry : entries) {
    std::nth_element(entry.us.begin(), entry.us.begin() + kRepeats / 2, entry.us.end());
    const double us = entry.us[kRepeats / 2];
    std::printf("  %-40s %10.1f us %10.1f GFLOP/s %8.1f GB/s\n", entry.row->name, us,
                2e-3 * static_cast<double>(F::macs(p)) / us, 1e-3 * static_cast<double>(copies.bytes()) / us);
  }
  std::fflush(stdout);
  return failed == 0;
}

int main_checked(int argc, char** argv) {
  std::string kernel, only, dtype;
  bool warm = false;
  int64_t batch = 0;
  std::vector<Line> lines;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--kernel" && i + 1 < argc) kernel = argv[++i];
    else if (word == "--direction" && i + 1 < argc) only = argv[++i];
    else if (word == "--dtype" && i + 1 < argc) dtype = argv[++i];
    else if (word == "--batch" && i + 1 < argc) batch = std::atoll(argv[++i]);
    else if (word == "--warm") warm = true;
    else add_lines(word, lines);
  }
  bool all = true;
  for_each_family([&](auto family) {
    using F = decltype(family);
    for (Case<F>& one : cases_of<F>(lines)) {
      if (!dtype.empty()) one.problem.dtype = value_of<DType>("dtype", dtype);
      if (batch) one.problem = F::with_images(one.problem, batch);
      for (Direction direction : F::kDirections)
        if (only.empty() || only == name_of(direction)) all &= bench<F>(one, direction, kernel, warm);
    }
  });
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
