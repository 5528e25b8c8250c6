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

#include "core/cpu/machine.h"
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

int64_t depth(const ConvProblem& p, Direction direction) {
  switch (direction) {
    case Direction::kFprop: return p.C_per_group() * p.T * p.R * p.S;
    case Direction::kDgrad: return p.K_per_group() * p.T * p.R * p.S;
    case Direction::kWgrad: return p.N * p.Z * p.P * p.Q;
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
  return std::fmin(chain, std::sqrt(products) + std::sqrt(blocks) * block / 3 + blocks * std::sqrt(block) / 3);
#endif
}

/// The CPU's, whatever is tested.
const ConvKernel& reference(Direction direction) {
  return direction == Direction::kFprop   ? conv_fprop_ref
         : direction == Direction::kDgrad ? conv_dgrad_ref
                                          : conv_wgrad_ref;
}

struct Extents {
  int64_t first, second, out, channels;
};

Extents extents_of(const ConvProblem& p, Direction direction) {
  switch (direction) {
    case Direction::kFprop: return {p.x_elements(), p.w_elements(), p.y_elements(), p.K};
    case Direction::kDgrad: return {p.y_elements(), p.w_elements(), p.x_elements(), p.C};
    case Direction::kWgrad: return {p.x_elements(), p.y_elements(), p.w_elements(), 0};
  }
  return {};
}

struct Setting {
  bool integers, epilogue, krsc, unaligned;
  bool large = false;  // some inputs near the end of float32's range, whose products are not
};

constexpr double kLarge = -1e38, kSmall = 0x1p-11;

/// `first` and `second` are the direction's inputs in the order of Extents.
ConvArgs args_for(Direction direction, const ConvProblem& p, void* first, void* second, void* out,
                  const Epilogue& epilogue, Layout filter_layout) {
  ConvArgs args;
  args.epilogue = epilogue;
  switch (direction) {
    case Direction::kFprop: args.x = first, args.w = dense_filter(second, p, filter_layout), args.out = out; break;
    case Direction::kDgrad: args.dy = first, args.w = dense_filter(second, p, filter_layout), args.out = out; break;
    case Direction::kWgrad: args.x = first, args.dy = second, args.w = dense_filter(out, p, filter_layout); break;
  }
  return args;
}

void run_row(const ConvRow& row, const ConvProblem& p, ConvArgs args) {
#if !defined(FASTCONV_TOOL_CUDA)
  const ConvPlan plan = plan_for(row, p);
  if (plan.problem.x_layout != p.x_layout || plan.problem.y_layout != p.y_layout) {
    run(plan, p, args);
    return;
  }
  Bytes packed(packed_bytes(plan));
  if (row.kernel->pack) {
    row.kernel->pack(p, args.w, packed.data());
    args.packed = packed.data();
  }
#endif
  const size_t scratch = row.kernel->workspace ? row.kernel->workspace(p) : 0;
#if defined(FASTCONV_TOOL_GPU)
  const OnGpu gpu(row.direction, p, args, scratch);
  row.kernel->run(p, gpu.args());
  gpu.copy_back();
#else
  Bytes workspace(scratch);
  args.workspace = workspace.data();
  row.kernel->run(p, args);
#endif
}

bool check(const ConvRow& row, const Case& one, const Setting& setting) {
  const ConvProblem& p = one.problem;
  const Extents extents = extents_of(p, row.direction);
  const bool unaligned = setting.unaligned && kToolUnaligned;
  const size_t size = static_cast<size_t>(element_size(p.dtype));
  Random random(7);
  const auto fill = [&](void* data, int64_t count, DType dtype) {
    for (int64_t i = 0; i < count; ++i)
      set(data, dtype, i, setting.integers ? static_cast<double>(random.integer(-2, 2)) : random.real());
  };
  const auto bytes = [&](int64_t count) { return static_cast<size_t>(count) * size; };
  Bytes first(bytes(extents.first), unaligned), second(bytes(extents.second), unaligned);
  fill(first.data(), extents.first, p.dtype);
  fill(second.data(), extents.second, p.dtype);
  if (setting.large) {
    for (int64_t i : {int64_t{0}, extents.first / 2, extents.first - 1})
      if (extents.first) set(first.data(), p.dtype, i, kLarge);
    for (int64_t i = 0; i < extents.second; ++i)
      set(second.data(), p.dtype, i, kSmall * get(second.data(), p.dtype, i));
  }
  Bytes out(bytes(extents.out), unaligned), expected(static_cast<size_t>(extents.out) * 8);

  const DType wide = p.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  const bool with_epilogue = setting.epilogue && row.direction != Direction::kWgrad;
  Bytes scale(static_cast<size_t>(extents.channels * element_size(wide)), unaligned), shift(scale.size(), unaligned);
  Bytes residual(with_epilogue ? bytes(extents.out) : 0, unaligned);
  Epilogue epilogue;
  if (with_epilogue) {
    fill(scale.data(), extents.channels, wide), fill(shift.data(), extents.channels, wide);
    fill(residual.data(), extents.out, p.dtype);
    epilogue = {scale.data(), shift.data(), residual.data(), Activation::kRelu};
  }

  // The reference in double on the same numbers.
  ConvProblem q = p;
  q.dtype = DType::kFloat64;
  Bytes first64(static_cast<size_t>(extents.first) * 8), second64(static_cast<size_t>(extents.second) * 8);
  Bytes scale64(static_cast<size_t>(extents.channels) * 8), shift64(scale64.size());
  Bytes residual64(with_epilogue ? static_cast<size_t>(extents.out) * 8 : 0);
  const auto widen = [&](Bytes& from, Bytes& to, int64_t count, DType dtype) {
    for (int64_t i = 0; i < count; ++i) set(to.data(), DType::kFloat64, i, get(from.data(), dtype, i));
  };
  widen(first, first64, extents.first, p.dtype), widen(second, second64, extents.second, p.dtype);
  Epilogue epilogue64 = epilogue;
  if (with_epilogue) {
    widen(scale, scale64, extents.channels, wide), widen(shift, shift64, extents.channels, wide);
    widen(residual, residual64, extents.out, p.dtype);
    epilogue64.scale = scale64.data(), epilogue64.shift = shift64.data(), epilogue64.residual = residual64.data();
  }
  const Layout filter_layout = setting.krsc ? Layout::kNhwc : Layout::kNchw;
  reference(row.direction)
      .run(q, args_for(row.direction, q, first64.data(), second64.data(), expected.data(), epilogue64, filter_layout));
  run_row(row, p, args_for(row.direction, p, first.data(), second.data(), out.data(), epilogue, filter_layout));

  double largest = 0;
  for (int64_t i = 0; i < extents.out; ++i)
    largest = std::fmax(largest, std::fabs(get(expected.data(), DType::kFloat64, i)));
  const bool equal = setting.integers && row.numerics != Numerics::kWinogradF4 &&
                     (p.dtype == DType::kFloat32 || p.dtype == DType::kFloat64);
  const double accumulator = p.dtype == DType::kFloat64 ? 0x1p-53 : 0x1p-24;
  const double magnitude = setting.integers ? 4 : setting.large ? -kLarge * kSmall : 1;
  const double absolute =
      equal ? 0 : factor(row.numerics) * growth(depth(p, row.direction)) * accumulator * magnitude * 2;
  for (int64_t i = 0; i < extents.out; ++i) {
    const double have = get(out.data(), p.dtype, i), want = get(expected.data(), DType::kFloat64, i);
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

/// The case itself, or it in each of kToolDTypes.
std::vector<Case> cases_of(const std::vector<std::string>& files) {
  std::vector<Case> cases;
  for (const std::string& file : files)
    for (const Case& one : read_cases(file)) {
#if defined(FASTCONV_TOOL_CUDA)
      for (DType dtype : kToolDTypes) {
        cases.push_back(one);
        cases.back().problem.dtype = dtype;
      }
#else
      cases.push_back(one);
#endif
    }
  return cases;
}

int main_checked(int argc, char** argv) {
  std::vector<std::string> files;
  std::string kernel;
  int threads = 2;
  uint64_t seeds = 1;
  int64_t most = std::numeric_limits<int64_t>::max();
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--kernel" && i + 1 < argc) kernel = argv[++i];
    else if (word == "--threads" && i + 1 < argc) threads = std::atoi(argv[++i]);
    else if (word == "--seeds" && i + 1 < argc) seeds = std::strtoull(argv[++i], nullptr, 10);
    else if (word == "--most" && i + 1 < argc) most = std::atoll(argv[++i]);
    else files.push_back(word);
  }
  use_threads(threads);
  const std::vector<Case> cases = cases_of(files);
  const Setting settings[] = {{true, false, false, false},
                              {true, true, true, true},
                              {false, true, false, false},
                              {false, true, false, false, true}};
  int64_t passed = 0, failed = 0;
  for (const ConvRow& row : tool_rows()) {
    if (std::string(row.name).find(kernel) == std::string::npos || tool_why_not(row.target)) continue;
    int64_t taken = 0;
    for (const Case& one : cases) {
      if (taken == most || tool_why_not(row, one.problem)) continue;
      ++taken;
      for (uint64_t seed = 1; seed <= seeds; ++seed) {
        set_seed(seed);
        for (const Setting& setting : settings) {
          if (setting.large && (!kToolKeepsRange || one.problem.dtype != DType::kFloat32)) continue;
          ++(check(row, one, setting) ? passed : failed);
        }
      }
    }
    std::printf("%-44s %lld problems\n", row.name, static_cast<long long>(taken));
    if (!taken) {
      std::printf("FAIL %s: no shape of the files reaches this row\n", row.name);
      ++failed;
    }
  }
  std::printf("%lld passed, %lld failed\n", static_cast<long long>(passed), static_cast<long long>(failed));
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace fastconv

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // who stops a test that hangs wants to see how far it came
  try {
    return fastconv::main_checked(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernel_test: %s\n", error.what());
    return 2;
  }
}
