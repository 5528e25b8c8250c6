#include "pool/problem.h"

#include "core/text.h"
#include "pool/window.h"

namespace fastconv {
namespace {

using P = PoolProblem;

constexpr TextField<P> kBefore[] = {
    {.key = "n", .at = &P::N, .least = 0},
    {.key = "c", .at = &P::C, .least = 0},
    {.key = "d", .at = &P::D, .least = 0, .depth = true, .ends_part = false},
    {.key = "h", .at = &P::H, .least = 0, .ends_part = false},
    {.key = "w", .at = &P::W, .least = 0},
    {.key = "t", .at = &P::T, .least = 1, .depth = true, .ends_part = false},
    {.key = "r", .at = &P::R, .least = 1, .ends_part = false},
    {.key = "s", .at = &P::S, .least = 1},
};
constexpr TextStep<P> kSteps[] = {
    {"st", &P::stride_d, &P::stride_h, &P::stride_w, 1, 1},
    {"pd", &P::pad_d, &P::pad_h, &P::pad_w, 0, 0},
    {"dl", &P::dilation_d, &P::dilation_h, &P::dilation_w, 1, 1, true},
};
constexpr TextField<P> kAfter[] = {
    {.key = "div", .at = &P::divisor, .least = INT64_MIN, .optional = true},
    {.key = "z", .at = &P::Z, .least = 0, .depth = true, .output = true, .ends_part = false},
    {.key = "p", .at = &P::P, .least = 0, .output = true, .ends_part = false},
    {.key = "q", .at = &P::Q, .least = 0, .output = true},
};
constexpr TextWord<P> kWords[] = {
    {"avg", [](P& p) { p.mode = PoolMode::kAvg; }, [](const P& p) { return p.mode == PoolMode::kAvg; }},
    {"max", [](P& p) { p.mode = PoolMode::kMax; }, [](const P& p) { return p.mode == PoolMode::kMax; }},
    {"sto", [](P& p) { p.mode = PoolMode::kSto; }, [](const P& p) { return p.mode == PoolMode::kSto; }},
    {"i64", [](P& p) { p.index = IndexType::kInt64; }, [](const P& p) { return p.index == IndexType::kInt64; }, true},
    {"u8", [](P& p) { p.index = IndexType::kUInt8; }, [](const P& p) { return p.index == IndexType::kUInt8; }},
    {"adapt", [](P& p) { p.adaptive = true; }, [](const P& p) { return p.adaptive; }},
    {"incl", [](P& p) { p.count_padding = true; }, [](const P& p) { return p.count_padding; }, true},
    {"excl", [](P& p) { p.count_padding = false; }, [](const P& p) { return !p.count_padding; }},
};

P with_outputs(P p) {
  p.Z = output_extent(p.D, p.T, p.stride_d, p.pad_d, p.dilation_d);
  p.P = output_extent(p.H, p.R, p.stride_h, p.pad_h, p.dilation_h);
  p.Q = output_extent(p.W, p.S, p.stride_w, p.pad_w, p.dilation_w);
  return p;
}

/// What the words exclude of each other.
void check(const P& p, const std::string& text) {
  const auto refuse = [&](const char* why) { throw std::invalid_argument("problem '" + text + "' " + why); };
  const bool dense = p.dilation_d == 1 && p.dilation_h == 1 && p.dilation_w == 1;
  const bool plain = dense && p.T == 1 && p.R == 1 && p.S == 1 && p.stride_d == 1 && p.stride_h == 1 &&
                     p.stride_w == 1 && p.pad_d == 0 && p.pad_h == 0 && p.pad_w == 0;
  if (p.mode == PoolMode::kAvg && !dense) refuse("is a mean with a dilation");
  if (p.mode == PoolMode::kAvg && p.index != IndexType::kInt64) refuse("is a mean with indices");
  if (p.mode != PoolMode::kAvg && (p.divisor || !p.count_padding)) refuse("is no mean, but has a divisor");
  if (p.mode != PoolMode::kMax && is_integer(p.dtype)) refuse("is of whole numbers, but no maximum");
  if (p.adaptive && (!plain || p.divisor || !p.count_padding)) refuse("has windows beside adaptive ones");
  if (p.index == IndexType::kUInt8 && (p.adaptive || p.T * p.R * p.S > 255))
    refuse("has indices of one byte, but windows of more than 255 elements");
}

constexpr TextForm<P> kForm = {
    .before = kBefore,
    .steps = kSteps,
    .after = kAfter,
    .words = kWords,
    .has_depth = [](const P& p) { return !p.is_2d() || p.stride_d != 1 || p.dilation_d != 1; },
    .with_outputs = with_outputs,
    .check = check,
    .integers = true,
};

bool is_whole(const PoolAxis& a) {
  return a.out == 1 && a.pad == 0 && (a.adaptive || (a.taps == a.in && a.dilation == 1));
}
bool is_even(const PoolAxis& a) { return a.in > 0 && a.out > 0 && a.in % a.out == 0; }

}  // namespace

std::string encode(const PoolProblem& problem) { return encode_by(kForm, problem); }
PoolProblem decode_pool(const std::string& text) { return decode_by(kForm, text); }

int64_t PoolProblem::taps() const {
  return most_taps(depth_of(*this)) * most_taps(height_of(*this)) * most_taps(width_of(*this));
}

PoolProblem squeezed(const PoolProblem& given) {
  P p = given;
  if (p.adaptive && is_even(depth_of(p)) && is_even(height_of(p)) && is_even(width_of(p))) {
    p.adaptive = false;
    p.stride_d = p.T = p.D / p.Z;
    p.stride_h = p.R = p.H / p.P;
    p.stride_w = p.S = p.W / p.Q;
  }
  if (!is_whole(depth_of(p)) || !is_whole(height_of(p)) || !is_whole(width_of(p)) || p.adaptive) return p;
  p.W = p.S = p.D * p.H * p.W;
  p.D = p.H = p.T = p.R = 1;
  p.stride_d = p.stride_h = p.stride_w = 1;
  return p;
}

}  // namespace fastconv
