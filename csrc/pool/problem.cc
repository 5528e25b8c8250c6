#include "pool/problem.h"

#include "core/text.h"

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
};
constexpr TextField<P> kAfter[] = {
    {.key = "div", .at = &P::divisor, .least = 0, .optional = true},
    {.key = "z", .at = &P::Z, .least = 0, .depth = true, .output = true, .ends_part = false},
    {.key = "p", .at = &P::P, .least = 0, .output = true, .ends_part = false},
    {.key = "q", .at = &P::Q, .least = 0, .output = true},
};
constexpr TextWord<P> kWords[] = {
    {"avg", [](P&) {}, [](const P&) { return true; }},
    {"incl", [](P& p) { p.count_padding = true; }, [](const P& p) { return p.count_padding; }, true},
    {"excl", [](P& p) { p.count_padding = false; }, [](const P& p) { return !p.count_padding; }},
};

P with_outputs(P p) {
  p.Z = output_extent(p.D, p.T, p.stride_d, p.pad_d, 1);
  p.P = output_extent(p.H, p.R, p.stride_h, p.pad_h, 1);
  p.Q = output_extent(p.W, p.S, p.stride_w, p.pad_w, 1);
  return p;
}

constexpr TextForm<P> kForm = {
    .before = kBefore,
    .steps = kSteps,
    .after = kAfter,
    .words = kWords,
    .has_depth = [](const P& p) { return !p.is_2d() || p.stride_d != 1; },
    .with_outputs = with_outputs,
};

}  // namespace

std::string encode(const PoolProblem& problem) { return encode_by(kForm, problem); }
PoolProblem decode_pool(const std::string& text) { return decode_by(kForm, text); }

}  // namespace fastconv
