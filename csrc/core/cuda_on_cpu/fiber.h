// A stack of its own for each CUDA thread, and the switch between stacks. One OS thread runs them all.
#pragma once

#include <cstddef>

namespace fastconv::cuda_on_cpu {

/// Something that can be switched to: a fiber, or the stack the scheduler was called on.
struct Context {
  void* stack_pointer = nullptr;
  void* bottom = nullptr;  // lowest address and size of its stack; AddressSanitizer wants to know them
  size_t size = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

/// Leaves `from` and goes on where `to` left off. `last`: `from` is never returned to.
void switch_context(Context& from, Context& to, bool last = false);

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Makes the next switch to this fiber call `entry`, which must leave by a switch and never return.
  void start(void (*entry)());
  Context& context() { return context_; }

 private:
  static constexpr size_t kStack = size_t{256} << 10;
  char* memory_;
  Context context_;
};

}  // namespace fastconv::cuda_on_cpu
