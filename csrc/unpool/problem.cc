#include "unpool/problem.h"

#include "core/text.h"

namespace fastconv {
namespace {

using P = UnpoolProblem;

constexpr TextField<P> kBefore[] = {
    {.key = "n", .at = &P::N, .least = 0},
    {.key = "c", .at = &P::C, .least = 0},
    {.key = "d", .at = &P::D, .least = 0, .depth = true, .ends_part = false},
    {.key = "h", .at = &P::H, .least = 0, .ends_part = false},
    {.key = "w", .at = &P::W, .least = 0},
};
constexpr TextField<P> kAfter[] = {
    {.key = "z", .at = &P::Z, .least = 0, .depth = true, .output = true, .ends_part = false},
    {.key = "p", .at = &P::P, .least = 0, .output = true, .ends_part = false},
    {.key = "q", .at = &P::Q, .least = 0, .output = true},
};
constexpr TextWord<P> kWords[] = {{"unpool", [](P&) {}, [](const P&) { return true; }}};

P with_outputs(P p) {
  p.Z = p.D, p.P = p.H, p.Q = p.W;
  return p;
}

constexpr TextForm<P> kForm = {
    .before = kBefore,
    .steps = {},
    .after = kAfter,
    .words = kWords,
    .has_depth = [](const P& p) { return !p.is_2d(); },
    .with_outputs = with_outputs,
};

}  // namespace

std::string encode(const UnpoolProblem& problem) { return encode_by(kForm, problem); }
UnpoolProblem decode_unpool(const std::string& text) { return decode_by(kForm, text); }

UnpoolProblem squeezed(const UnpoolProblem& given) {
  P p = given;
  p.W = given.x_pixels(), p.Q = given.y_pixels();
  p.D = p.H = p.Z = p.P = 1;
  return p;
}

}  // namespace fastconv
