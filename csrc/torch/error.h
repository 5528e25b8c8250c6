// What went wrong in a C function of api.h: exceptions must not leave it, because ctypes cannot take them.
#pragma once

#include <exception>
#include <utility>

namespace fastconv::binding {

/// Keeps the text for this thread's next fastconv_last_error().
void note_error(const char* text);

/// What `body` returns; `on_error` where it throws, and the text is noted.
template <class Result, class Body>
Result guarded(Result on_error, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const std::exception& error) {  // of another kind is only the unwinding of a thread that Python ends
    note_error(error.what());
    return on_error;
  }
}

template <class Body>
void guarded(Body&& body) {
  guarded(0, [&] {
    body();
    return 0;
  });
}

}  // namespace fastconv::binding
