#include "conv/conv.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <utility>

#include "core/text.h"

namespace fastconv {

int64_t reach(const ConvProblem& p) {
  constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();
  const auto plus = [](int64_t a, int64_t b) { return a > kEnd - b ? kEnd : a + b; };
  const auto times = [](int64_t a, int64_t b) { return b != 0 && a > kEnd / b ? kEnd : a * b; };
  const auto along = [&](int64_t in, int64_t taps, int64_t out, int64_t stride, int64_t pad, int64_t dilation) {
    const int64_t padding = pad < -kEnd ? kEnd : pad < 0 ? -pad : pad;
    return plus(plus(in, padding), plus(times(out, stride), times(taps, dilation)));
  };
  return std::max({along(p.D, p.T, p.Z, p.stride_d, p.pad_d, p.dilation_d),
                   along(p.H, p.R, p.P, p.stride_h, p.pad_h, p.dilation_h),
                   along(p.W, p.S, p.Q, p.stride_w, p.pad_w, p.dilation_w)});
}

ConvProblem adjoint(const ConvProblem& p) {
  ConvProblem a = p;
  a.C = p.K, a.K = p.C;
  a.D = p.Z, a.H = p.P, a.W = p.Q;
  a.Z = p.D, a.P = p.H, a.Q = p.W;
  a.pad_d = p.dilation_d * (p.T - 1) - p.pad_d;
  a.pad_h = p.dilation_h * (p.R - 1) - p.pad_h;
  a.pad_w = p.dilation_w * (p.S - 1) - p.pad_w;
  a.x_layout = p.y_layout, a.y_layout = p.x_layout;
  return a;
}

namespace {

using P = ConvProblem;

constexpr TextField<P> kBefore[] = {
    {.key = "n", .at = &P::N, .least = 0},
    {.key = "c", .at = &P::C, .least = 0},
    {.key = "d", .at = &P::D, .least = 0, .depth = true, .ends_part = false},
    {.key = "h", .at = &P::H, .least = 0, .ends_part = false},
    {.key = "w", .at = &P::W, .least = 0},
    {.key = "k", .at = &P::K, .least = 0},
    {.key = "t", .at = &P::T, .least = 0, .depth = true, .ends_part = false},
    {.key = "r", .at = &P::R, .least = 0, .ends_part = false},
    {.key = "s", .at = &P::S, .least = 0},
};
constexpr TextStep<P> kSteps[] = {
    {"st", &P::stride_d, &P::stride_h, &P::stride_w, 1, 1},
    {"pd", &P::pad_d, &P::pad_h, &P::pad_w, 0, INT64_MIN},
    {"dl", &P::dilation_d, &P::dilation_h, &P::dilation_w, 1, 1},
};
constexpr TextField<P> kAfter[] = {
    {.key = "g", .at = &P::groups, .least = 1},
    {.key = "z", .at = &P::Z, .least = 0, .depth = true, .output = true, .ends_part = false},
    {.key = "p", .at = &P::P, .least = 0, .output = true, .ends_part = false},
    {.key = "q", .at = &P::Q, .least = 0, .output = true},
};

P with_outputs(P p) {
  p.Z = output_extent(p.D, p.T, p.stride_d, p.pad_d, p.dilation_d);
  p.P = output_extent(p.H, p.R, p.stride_h, p.pad_h, p.dilation_h);
  p.Q = output_extent(p.W, p.S, p.stride_w, p.pad_w, p.dilation_w);
  return p;
}

void check(const P& p, const std::string& text) {
  for (const auto& [name, channels] : {std::pair{"c", p.C}, {"k", p.K}})
    if (channels % p.groups)
      throw std::invalid_argument(std::string(name) + " is " + std::to_string(channels) + " in problem '" + text +
                                  "'; it must be divisible by g = " + std::to_string(p.groups));
}

constexpr TextForm<P> kForm = {
    .before = kBefore,
    .steps = kSteps,
    .after = kAfter,
    .words = {},
    .has_depth = [](const P& p) { return !p.is_2d() || p.stride_d != 1 || p.dilation_d != 1; },
    .with_outputs = with_outputs,
    .check = check,
};

/// What one axis of a problem is.
struct Axis {
  int64_t P::*in, P::*taps, P::*out, P::*stride, P::*pad, P::*dilation;
};
constexpr Axis kDepth = {&P::D, &P::T, &P::Z, &P::stride_d, &P::pad_d, &P::dilation_d};
constexpr Axis kHeight = {&P::H, &P::R, &P::P, &P::stride_h, &P::pad_h, &P::dilation_h};
constexpr Axis kWidth = {&P::W, &P::S, &P::Q, &P::stride_w, &P::pad_w, &P::dilation_w};

bool is_empty(const P& p, const Axis& a) { return p.*a.in == 1 && p.*a.taps == 1 && p.*a.out == 1 && p.*a.pad == 0; }

/// Whether output i reads input i alone.
bool is_passed(const P& p, const Axis& a) {
  return p.*a.taps == 1 && p.*a.pad == 0 && p.*a.stride == 1 && p.*a.in == p.*a.out;
}

void clear(P& p, const Axis& a) {
  p.*a.in = p.*a.taps = p.*a.out = p.*a.stride = p.*a.dilation = 1;
  p.*a.pad = 0;
}

void move(P& p, const Axis& from, const Axis& to) {
  for (int64_t P::* Axis::* field : {&Axis::in, &Axis::taps, &Axis::out, &Axis::stride, &Axis::pad, &Axis::dilation})
    p.*(to.*field) = p.*(from.*field);
  clear(p, from);
}

/// Two neighbouring axes that the filter passes over are one.
void merge(P& p, const Axis& outer, const Axis& inner) {
  p.*inner.in *= p.*outer.in;
  p.*inner.out = p.*inner.in;
  clear(p, outer);
}

/// Squeezes `p`; `moved(from, to)` is told where an axis with taps goes.
template <class Moved>
void squeeze(P& p, Moved&& moved) {
  const auto fill = [&](const Axis& to, std::initializer_list<const Axis*> outside) {
    if (!is_empty(p, to)) return;
    clear(p, to);
    for (const Axis* from : outside)
      if (!is_empty(p, *from)) {
        moved(*from, to);
        return move(p, *from, to);
      }
  };
  fill(kWidth, {&kHeight, &kDepth});
  fill(kHeight, {&kDepth});
  fill(kDepth, {});
  if (is_empty(p, kDepth)) return;
  if (is_passed(p, kDepth) && is_passed(p, kHeight)) {
    merge(p, kDepth, kHeight);
  } else if (is_passed(p, kHeight) && is_passed(p, kWidth)) {
    merge(p, kHeight, kWidth);
    moved(kDepth, kHeight);
    move(p, kDepth, kHeight);
  } else if (is_passed(p, kDepth) && p.x_layout == Layout::kNhwc && p.y_layout == Layout::kNhwc) {
    p.N *= p.D;
    clear(p, kDepth);
  }
}

}  // namespace

ConvProblem squeezed(const ConvProblem& problem) {
  P p = problem;
  squeeze(p, [](const Axis&, const Axis&) {});
  return p;
}

Filter squeezed(const Filter& filter, const ConvProblem& problem) {
  P p = problem;
  Filter f = filter;
  const auto stride = [&](const Axis& axis) -> int64_t& {
    return axis.taps == &P::T ? f.stride_t : axis.taps == &P::R ? f.stride_r : f.stride_s;
  };
  squeeze(p, [&](const Axis& from, const Axis& to) { stride(to) = stride(from); });
  return f;
}

std::string encode(const ConvProblem& problem) { return encode_by(kForm, problem); }
ConvProblem decode(const std::string& text) { return decode_by(kForm, text); }

}  // namespace fastconv
