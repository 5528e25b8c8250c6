// Windows that overlap along a row: a column is reduced once, and stays in registers until the last window that has it.
//
// All by named members and folds, not by arrays and loops: the compiler keeps in registers what has constant places
// before it unrolls.
#pragma once

#include <type_traits>
#include <utility>

#include "core/cpu/simd.h"

namespace fastconv {
namespace {

/// kCount values of type One, side by side.
template <class One, int kCount>
struct Several {
  One one;
  Several<One, kCount - 1> rest;
  /// Calls `body(value, number)` for each.
  template <class Body>
  FASTCONV_INLINE void each(const Body& body, int number = 0) {
    body(one, number);
    rest.each(body, number + 1);
  }
  FASTCONV_INLINE void see(const Several& other) {
    one.see(other.one.value);
    rest.see(other.rest);
  }
  FASTCONV_INLINE void see(const Several& a, const Several& b) {
    one.see(a.one.value, b.one.value);
    rest.see(a.rest, b.rest);
  }
  FASTCONV_INLINE void take(const Several& other) {
    one.value.v = other.one.value.v;
    rest.take(other.rest);
  }
};
template <class One>
struct Several<One, 0> {
  template <class Body>
  FASTCONV_INLINE void each(const Body&, int) {}
  FASTCONV_INLINE void see(const Several&) {}
  FASTCONV_INLINE void see(const Several&, const Several&) {}
  FASTCONV_INLINE void take(const Several&) {}
};

/// `count` windows of as many columns as there are kTap, kStep apart. `column(values)` begins and reduces the next
/// column, `done(values)` takes those of the next window.
template <int kStep, class Values, class Column, class Done, int... kTap>
FASTCONV_INLINE void slide(int64_t count, const Column& column, const Done& done, std::integer_sequence<int, kTap...>) {
  constexpr int kTaps = sizeof...(kTap), kKept = kTaps - kStep;
  static_assert(kKept > 0);
  Values columns[kTaps];
  ((kTap >= kStep ? column(columns[kTap]) : void()), ...);
  for (int64_t o = 0; o < count; ++o) {
    ((kTap < kKept ? columns[kTap].take(columns[(kTap + kStep) % kTaps]) : void()), ...);
    ((kTap >= kKept ? column(columns[kTap]) : void()), ...);
    Values total;
    total.take(columns[0]);
    ((kTap == 0           ? void()
      : kTap % 2 == 0     ? total.see(columns[kTap - (kTap > 0)], columns[kTap])
      : kTap == kTaps - 1 ? total.see(columns[kTap])
                          : void()),
     ...);
    done(total);
  }
}

/// Calls `body` with the taps of a window as a sequence, and its step as a constant, where windows of these numbers
/// slide, and says whether they do: they are the sizes that networks have.
template <class Body>
bool with_sliding(int64_t taps, int64_t step, const Body& body) {
  using std::integral_constant, std::make_integer_sequence;
  if (taps == 3 && step == 1) body(make_integer_sequence<int, 3>{}, integral_constant<int, 1>{});
  else if (taps == 3 && step == 2) body(make_integer_sequence<int, 3>{}, integral_constant<int, 2>{});
  else if (taps == 5 && step == 1) body(make_integer_sequence<int, 5>{}, integral_constant<int, 1>{});
  else return false;
  return true;
}

}  // namespace
}  // namespace fastconv
