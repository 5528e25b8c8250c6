// Every row on every shape of the files it accepts, against the reference in double: no torch, no Python.
//
//   kernel_test fastconv/testing/shapes/basic.txt [--kernel substring] [--threads n] [--seeds n] [--most n]
//
// The same source is kernel_test_cuda, for the CUDA rows on a GPU, and kernel_test_cuda_on_cpu, for them without one:
// there `--seeds` orders of execution are tried, and every shape in every dtype. `--most`: the first n problems of each
// row alone.
//
// Integers first (equal for exact rows and F(2x2)), then reals against the bound of fastconv/testing/tolerance.py.
// Outputs start as NaN; buffers end where their data ends, so that sanitizers see a step outside.

#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>

#include "core/cpu/run.h"
#include "core/cpu/thread_pool.h"
#include "tools/cases.h"
#if defined(FASTCONV_TOOL_GPU)
#include "tools/on_gpu.h"
#endif

namespace fastconv {
namespace {

double epsilon(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return 0x1p-24;
    case DType::kFloat64: return 0x1p-53;
    case DType::kBFloat16: return 0x1p-8;
    case DType::kFloat16: return 0x1p-11;
    case DType::kUInt8: return 0;
    case DType::kInt8: return 0;
  }
  return 0;
}

double factor(Numerics numerics) {
  switch (numerics) {
    case Numerics::kExact: return 6;
    case Numerics::kWinogradF2: return 8;
    case Numerics::kWinogradF4: return 20;
    case Numerics::kTF32: return 6 + 0x1p14;  // both factors are rounded to 11 bits of mantissa: 2 * 2^-11 / 2^-24
  }
  return 0;
}

/// How the error of a sum grows with its depth: `growth` of fastconv/testing/tolerance.py, blocked on the CPU.
double growth(int64_t depth) {
  const double products = static_cast<double>(depth), chain = std::sqrt(products) + products / 3;
#if defined(FASTCONV_TOOL_CUDA)
  return chain;
#else
  const double block = 512, blocks = products / block;
  const double joined = std::sqrt(products) + std::sqrt(blocks) * block / 3 + blocks * std::sqrt(block) / 3;
  return blocks > 9 ? joined : chain;
#endif
}

struct Setting {
  bool integers, epilogue, krsc, unaligned;
  bool large = false;  // some inputs near the end of float32's range, whose products are not
};

constexpr double kLarge = -1e38, kSmall = 0x1p-11;

/// Whether a direction multiplies what it reads of the problem.
template <class F>
bool has_products(Direction direction, const typename F::Problem& p) {
  int factors = 0;
  for (const Operand<F>& operand : F::operands(direction))
    factors += !operand.written && operand.kind != OperandKind::kIndex && F::presence(operand, p) == Presence::kAlways;
  return factors > 1;
}

/// Three elements of the first factor become large, all of the second small.
template <class F>
void enlarge(Operands<F>& operands) {
  bool first = true;
  for (size_t i = 0; i < operands.size(); ++i) {
    if (!operands.is_read(i) || operands.operand(i).optional) continue;
    const int64_t count = operands.count(i);
    if (first && count)
      for (int64_t j : {int64_t{0}, count / 2, count - 1}) set(operands.data(i), operands.dtype(i), j, kLarge);
    for (int64_t j = 0; j < count && !first; ++j)
      set(operands.data(i), operands.dtype(i), j, kSmall * get(operands.data(i), operands.dtype(i), j));
    first = false;
  }
}

/// The arguments of `problem` as a row sees them, which lie as `problem` says: no transposition.
template <class F>
void run_row(const Row<F>& row, const Operands<F>& operands, const typename F::Problem& p, typename F::Args args) {
  const auto seen = F::squeezed(p);
#if !defined(FASTCONV_TOOL_CUDA)
  const Plan<F> plan = plan_for(F::cpu_table(), row, p);
  if (plan.problem != seen) {
    run(plan, p, args);
    return;
  }
  Bytes packed(packed_bytes(plan));
  if (row.kernel->pack) {
    pack(plan, p, args, packed.data());
    args.packed = packed.data();
  }
#endif
  const size_t scratch = row.kernel->workspace ? row.kernel->workspace(seen) : 0;
#if defined(FASTCONV_TOOL_GPU)
  OnGpu<F> gpu(operands, args, scratch);
  row.kernel->run(seen, F::squeezed(gpu.args(), p));
  gpu.copy_back();
#else
  (void)operands;
  Bytes workspace(scratch);
  args.workspace = workspace.data();
  row.kernel->run(seen, F::squeezed(args, p));
#endif
}

/// Whether the row takes the problem.
template <class F>
bool takes(const Row<F>& row, const typename F::Problem& p) {
#if defined(FASTCONV_TOOL_CUDA)
  return !row.kernel->why_not(F::squeezed(p));
#else
  return !why_not_row(F::cpu_table(), row, p);
#endif
}

/// The operands of a case in a setting, the same numbers at every call.
template <class F>
void fill(Operands<F>& operands, const Setting& setting) {
  Random random(7);
  operands.fill([&] { return setting.integers ? static_cast<double>(random.integer(-2, 2)) : random.real(); });
  if (setting.large) enlarge(operands);
}

template <class F>
typename F::Args arguments(const Operands<F>& operands, const Setting& setting) {
  typename F::Args args = operands.args(setting.krsc ? Layout::kNhwc : Layout::kNchw);
  if (setting.epilogue && args.epilogue.scale) args.epilogue.activation = Activation::kRelu;
  return args;
}

/// What the reference in double makes of the same numbers, by the problem as it was given: once for all rows, for it is
/// what takes longest.
template <class F>
std::unique_ptr<Operands<F>> expected(const Case<F>& one, Direction direction, const Setting& setting) {
  Operands<F> operands(one.problem, direction, setting.epilogue);
  fill(operands, setting);
  auto q = one.problem;
  q.dtype = DType::kFloat64;
  auto wide = std::make_unique<Operands<F>>(q, direction, setting.epilogue);
  for (size_t i = 0; i < operands.size(); ++i)
    for (int64_t j = 0; j < operands.count(i) && operands.is_read(i); ++j)
      set(wide->data(i), DType::kFloat64, j, get(operands.data(i), operands.dtype(i), j));
  for (size_t i = 0; i < operands.size(); ++i)
    if (operands.is_index(i)) std::memcpy(wide->data(i), operands.data(i), operands.bytes(i));
  F::reference(direction).run(q, arguments(*wide, setting));
  return wide;
}

template <class F>
bool check(const Row<F>& row, const Case<F>& one, const Setting& setting, const Operands<F>& wide) {
  const auto& p = one.problem;
  Operands<F> operands(p, row.direction, setting.epilogue, setting.unaligned && kToolUnaligned);
  fill(operands, setting);
  run_row(row, operands, p, arguments(operands, setting));

  for (size_t i = 0; i < operands.size(); ++i)
    if (operands.is_index(i) && operands.count(i) > 0 &&
        std::memcmp(operands.data(i), wide.data(i), operands.bytes(i))) {
      std::printf("FAIL %s %s (%s): %s\n", row.name, one.name.c_str(), encode(p).c_str(), operands.operand(i).name);
      return false;
    }
  const size_t out = operands.out();
  const void *have_data = operands.data(out), *want_data = wide.data(out);
  double largest = 0;
  for (int64_t i = 0; i < operands.count(out); ++i)
    largest = std::fmax(largest, std::fabs(get(want_data, DType::kFloat64, i)));
  const bool equal = setting.integers && F::is_exact_on_integers(p, row.direction) &&
                     row.numerics != Numerics::kWinogradF4 &&
                     (p.dtype == DType::kFloat32 || p.dtype == DType::kFloat64);
  const double accumulator = p.dtype == DType::kFloat64 ? 0x1p-53 : 0x1p-24;
  const double magnitude = setting.integers ? 4 : setting.large ? -kLarge * kSmall : 1;
  const double absolute =
      equal ? 0 : factor(row.numerics) * growth(F::depth(p, row.direction)) * accumulator * magnitude * 2;
  for (int64_t i = 0; i < operands.count(out); ++i) {
    const double have = get(have_data, p.dtype, i), want = get(want_data, DType::kFloat64, i);
    const double bound = equal ? 0 : absolute + 2 * epsilon(p.dtype) * std::fabs(want);
    if (!(std::fabs(have - want) <= bound)) {
      std::printf(
          "FAIL %s %s (%s) integers=%d epilogue=%d krsc=%d unaligned=%d large=%d: element %lld is %.9g, not %.9g "
          "(bound %.3g, "
          "largest %.3g)\n",
          row.name, one.name.c_str(), encode(p).c_str(), setting.integers, setting.epilogue, setting.krsc,
          setting.unaligned, setting.large, static_cast<long long>(i), have, want, bound, largest);
      return false;
    }
  }
  return true;
}

/// The family's cases, each in every one of kToolDTypes where CUDA's rows are tested.
template <class F>
std::vector<Case<F>> test_cases(const std::vector<Line>& lines) {
#if defined(FASTCONV_TOOL_CUDA)
  std::vector<Case<F>> cases;
  for (const Case<F>& one : cases_of<F>(lines))
    for (DType dtype : kToolDTypes) {
      cases.push_back(one);
      cases.back().problem.dtype = dtype;
    }
  return cases;
#else
  return cases_of<F>(lines);
#endif
}

struct Options {
  std::vector<Line> lines;
  std::string kernel;
  uint64_t seeds = 1;
  int64_t most = std::numeric_limits<int64_t>::max();
};

struct Count {
  int64_t passed = 0, failed = 0;
};

template <class F>
struct Tested {
  const Row<F>* row;
  int64_t problems = 0;
};

template <class F>
void test_family(const Options& options, Count* count) {
  const Setting settings[] = {{true, false, false, false},
                              {true, true, true, true},
                              {false, true, false, false},
                              {false, true, false, false, true}};
  const std::vector<Case<F>> cases = test_cases<F>(options.lines);
  std::vector<Tested<F>> tested;
  for (const Row<F>& row : tool_rows<F>())
    if (std::string(row.name).find(options.kernel) != std::string::npos && !tool_why_not(row.target))
      tested.push_back({&row});
  if (cases.empty()) return;
  for (const Case<F>& one : cases)
    for (Direction direction : {Direction::kFprop, Direction::kDgrad, Direction::kWgrad}) {
      std::vector<const Row<F>*> rows;
      for (Tested<F>& test : tested)
        if (test.row->direction == direction && test.problems < options.most && takes(*test.row, one.problem)) {
          ++test.problems;
          rows.push_back(test.row);
        }
      for (const Setting& setting : settings) {
        const bool in_range = kToolKeepsRange && one.problem.dtype == DType::kFloat32;
        if (rows.empty() || (setting.large && !(in_range && has_products<F>(direction, one.problem)))) continue;
        const auto wide = expected(one, direction, setting);
        for (uint64_t seed = 1; seed <= options.seeds; ++seed) {
          set_seed(seed);
          for (const Row<F>* row : rows)  // the reference's threads wait for nothing: it has no order to try
            if (seed == 1 || row->kernel->algorithm != Algorithm::kRef)
              ++(check(*row, one, setting, *wide) ? count->passed : count->failed);
        }
      }
    }
  for (const Tested<F>& test : tested) {
    std::printf("%-44s %lld problems\n", test.row->name, static_cast<long long>(test.problems));
    if (test.problems) continue;
    std::printf("FAIL %s: no shape of the files reaches this row\n", test.row->name);
    ++count->failed;
  }
}

int main_checked(int argc, char** argv) {
  Options options;
  int threads = 2;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--kernel" && i + 1 < argc) options.kernel = argv[++i];
    else if (word == "--threads" && i + 1 < argc) threads = std::atoi(argv[++i]);
    else if (word == "--seeds" && i + 1 < argc) options.seeds = std::strtoull(argv[++i], nullptr, 10);
    else if (word == "--most" && i + 1 < argc) options.most = std::atoll(argv[++i]);
    else add_lines(word, options.lines);
  }
  use_threads(threads);
  Count count;
  for_each_family([&](auto family) { test_family<decltype(family)>(options, &count); });
  std::printf("%lld passed, %lld failed\n", static_cast<long long>(count.passed), static_cast<long long>(count.failed));
  return count.failed ? 1 : 0;
}

}  // namespace
}  // namespace fastconv

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a failure is seen though the next problem hangs
  try {
    return fastconv::main_checked(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel_test: %s\n", error.what());
    return 2;
  }
}
