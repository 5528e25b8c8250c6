// y[n,c,z,p,q] = mean, maximum or sample of the window's inputs, by the definition, summed in double. Any layout, dtype
// and extents. Work is cut by output planes (n, c).

#include <cmath>
#include <limits>
#include <type_traits>

#include "core/cpu/ref.h"
#include "pool/pool.h"
#include "pool/window.h"

namespace fastconv {
namespace {

template <class T>
auto element(const T* p) {
  if constexpr (std::is_integral_v<T>) return static_cast<int>(*p);
  else return read(p);
}

/// Calls `body(value, index)` for each input of a window, in the order of the window.
template <class T, class Body>
void for_each_input(const PoolProblem& p, const T* plane, const Axes& ax, const PoolWindow& d, const PoolWindow& h,
                    const PoolWindow& w, const Body& body) {
  for (int64_t t = d.taps.begin; t < d.taps.end; ++t)
    for (int64_t r = h.taps.begin; r < h.taps.end; ++r)
      for (int64_t s = w.taps.begin; s < w.taps.end; ++s)
        body(element(plane + ax.at(0, 0, d.input(t), h.input(r), w.input(s))), index_of(p, d, t, h, r, w, s));
}

void write_index(const PoolProblem& p, const PoolArgs& args, int64_t at, int64_t index) {
  if (!args.index) return;
  if (p.index == IndexType::kInt64) static_cast<int64_t*>(args.index)[at] = index;
  else static_cast<uint8_t*>(args.index)[at] = static_cast<uint8_t>(index);
}

/// What a sample takes of a window.
struct Drawn {
  double value;
  int64_t index;
};

/// `each(body)` calls `body(value, index)` for the inputs; `first` is the index of the first.
template <class Each>
Drawn draw(double uniform, int64_t first, const Each& each) {
  double total = 0, sum = 0;
  each([&](double value, int64_t) { total += value > 0 || std::isnan(value) ? value : 0; });
  if (!std::isfinite(total)) return {std::numeric_limits<double>::quiet_NaN(), first};
  Drawn drawn{0, first};
  bool open = true;
  each([&](double value, int64_t where) {
    if (!open || !(value > 0)) return;
    drawn = {value, where};
    sum += value;
    open = !(sum > uniform * total);
  });
  return drawn;
}

template <class T>
void run_typed(const PoolProblem& p, const PoolArgs& args) {
  const T* x = static_cast<const T*>(args.x);
  T* y = static_cast<T*>(args.out);
  const Axes ax = axes_of(p.C, p.D, p.H, p.W, p.x_layout), ay = axes_of(p.C, p.Z, p.P, p.Q, p.y_layout);
  parallel_for(p.N * p.C, [&](int64_t plane) {
    const int64_t n = plane / p.C, c = plane % p.C;
    const T* from = x + ax.at(n, c, 0, 0, 0);
    for (int64_t z = 0; z < p.Z; ++z)
      for (int64_t i = 0; i < p.P; ++i)
        for (int64_t j = 0; j < p.Q; ++j) {
          const PoolWindow d = window_of(depth_of(p), z), h = window_of(height_of(p), i), w = window_of(width_of(p), j);
          const int64_t at = ay.at(n, c, z, i, j);
          if (p.mode == PoolMode::kAvg) {
            LongSum sum;
            for_each_input(p, from, ax, d, h, w, [&](double value, int64_t) { sum += value; });
            const int64_t divisor = divisor_of(p, d, h, w);
            write(finish<T>(divisor ? sum / static_cast<double>(divisor) : 0, args.epilogue, c, at), y + at);
            continue;
          }
          int64_t index = index_of(p, d, d.taps.begin, h, h.taps.begin, w, w.taps.begin);
          if (p.mode == PoolMode::kSto) {
            const double uniform = read(static_cast<const T*>(args.uniform) + at);
            const Drawn drawn =
                draw(uniform, index, [&](const auto& body) { for_each_input(p, from, ax, d, h, w, body); });
            write(finish<T>(drawn.value, args.epilogue, c, at), y + at);
            write_index(p, args, at, drawn.index);
            continue;
          }
          double largest = -std::numeric_limits<double>::infinity();
          for_each_input(p, from, ax, d, h, w, [&](double value, int64_t where) {
            if (value > largest || std::isnan(value)) largest = value, index = where;
          });
          write(finish<T>(largest, args.epilogue, c, at), y + at);
          write_index(p, args, at, index);
        }
  });
}

/// The maximum of whole numbers, which has no epilogue.
template <class T>
void run_integers(const PoolProblem& p, const PoolArgs& args) {
  const Axes ax = axes_of(p.C, p.D, p.H, p.W, p.x_layout), ay = axes_of(p.C, p.Z, p.P, p.Q, p.y_layout);
  parallel_for(p.N * p.C, [&](int64_t plane) {
    const int64_t n = plane / p.C, c = plane % p.C;
    const T* from = static_cast<const T*>(args.x) + ax.at(n, c, 0, 0, 0);
    for (int64_t o = 0; o < p.Z * p.P * p.Q; ++o) {
      const int64_t z = o / (p.P * p.Q), i = o / p.Q % p.P, j = o % p.Q, at = ay.at(n, c, z, i, j);
      const PoolWindow d = window_of(depth_of(p), z), h = window_of(height_of(p), i), w = window_of(width_of(p), j);
      int largest = std::numeric_limits<int>::min();
      int64_t index = 0;
      for_each_input(p, from, ax, d, h, w, [&](int value, int64_t where) {
        if (value > largest) largest = value, index = where;
      });
      // Of a window without an input the least number there is.
      static_cast<T*>(args.out)[at] =
          largest < std::numeric_limits<T>::min() ? std::numeric_limits<T>::min() : static_cast<T>(largest);
      write_index(p, args, at, index);
    }
  });
}

void run(const PoolProblem& p, const PoolArgs& args) {
  if (p.dtype == DType::kUInt8) return run_integers<uint8_t>(p, args);
  if (p.dtype == DType::kInt8) return run_integers<int8_t>(p, args);
  with_type(p.dtype, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Pool, pool_fprop_ref) = {
    .algorithm = Algorithm::kRef, .why_not = takes_everything<PoolProblem>, .run = run};

}  // namespace fastconv
