// Times rows on problems, in turn, without torch or Python.
//
//   kernel_bench [--kernel substring] [--threads n] [--direction fprop] [--unpacked] problem-or-shape-file ...
//
// One line a row and problem: median microseconds of interleaved repeats, GFLOP/s of the direct sums. The weight is
// packed beforehand unless --unpacked. Results are checked elsewhere (kernel_test).

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>

#include "core/cpu/run.h"
#include "core/cpu/thread_pool.h"
#include "tools/cases.h"

namespace fastconv {
namespace {

using Clock = std::chrono::steady_clock;

template <class F>
void bench(const Case<F>& one, Direction direction, const std::string& kernel, bool unpacked) {
  const auto& p = one.problem;
  Random random(1);
  Operands<F> operands(p, direction, false);
  operands.fill([&] { return random.real(); });
  struct Entry {
    Plan<F> plan;
    std::unique_ptr<Bytes> packed;
    std::vector<double> us;
  };
  std::vector<Entry> entries;
  for (const Row<F>& row : F::cpu_rows()) {
    if (row.direction != direction || std::string(row.name).find(kernel) == std::string::npos) continue;
    if (why_not_row(F::cpu_table(), row, p) || (row.kernel->algorithm == Algorithm::kRef && kernel.empty())) continue;
    entries.push_back({plan_for(F::cpu_table(), row, p), nullptr, {}});
  }
  const auto macs = static_cast<double>(F::macs(p));
  const int64_t calls = std::clamp<int64_t>(static_cast<int64_t>(4e8 / (macs + 1)), 1, 200);
  for (int repeat = 0; repeat < 15; ++repeat)
    for (Entry& entry : entries) {
      auto args = operands.args();
      if (!unpacked && entry.plan.row->kernel->pack) {
        if (!entry.packed) {
          entry.packed = std::make_unique<Bytes>(packed_bytes(entry.plan));
          pack(entry.plan, p, args, entry.packed->data());
        }
        args.packed = entry.packed->data();
      }
      run(entry.plan, p, args);
      const auto begin = Clock::now();
      for (int64_t i = 0; i < calls; ++i) run(entry.plan, p, args);
      const std::chrono::duration<double, std::micro> elapsed = Clock::now() - begin;
      entry.us.push_back(elapsed.count() / static_cast<double>(calls));
    }
  for (Entry& entry : entries) {
    std::nth_element(entry.us.begin(), entry.us.begin() + entry.us.size() / 2, entry.us.end());
    const double us = entry.us[entry.us.size() / 2];
    std::printf("%-24s %-44s %10.1f us %8.1f GFLOP/s\n", one.name.c_str(), entry.plan.row->name, us, 2e-3 * macs / us);
  }
}

int main_checked(int argc, char** argv) {
  std::string kernel, direction = "fprop";
  int threads = 2;
  bool unpacked = false;
  std::vector<Line> lines;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--kernel" && i + 1 < argc) kernel = argv[++i];
    else if (word == "--direction" && i + 1 < argc) direction = argv[++i];
    else if (word == "--threads" && i + 1 < argc) threads = std::atoi(argv[++i]);
    else if (word == "--unpacked") unpacked = true;
    else add_lines(word, lines);
  }
  use_threads(threads);
  Direction only;
  if (!value_named(direction, &only)) throw std::runtime_error("no direction is named '" + direction + "'");
  for_each_family([&](auto family) {
    for (const auto& one : cases_of<decltype(family)>(lines)) bench(one, only, kernel, unpacked);
  });
  return 0;
}

}  // namespace
}  // namespace fastconv

int main(int argc, char** argv) {
  try {
    return fastconv::main_checked(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel_bench: %s\n", error.what());
    return 2;
  }
}
