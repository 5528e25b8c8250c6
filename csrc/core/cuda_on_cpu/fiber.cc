#include "core/cuda_on_cpu/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace fastconv::cuda_on_cpu {

#if defined(__x86_64__)
// Saves what the System V ABI lets a function keep, exchanges the stack pointers, and returns on the other stack.
extern "C" void fastconv_switch_stack(void** save, void* load);
asm(R"(
  .text
  .type fastconv_switch_stack, @function
fastconv_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size fastconv_switch_stack, . - fastconv_switch_stack
)");
#endif

void switch_context(Context& from, Context& to, bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.bottom, to.size);
#else
  (void)last;
#endif
#if defined(__x86_64__)
  fastconv_switch_stack(&from.stack_pointer, to.stack_pointer);
#else
  // The saved context lies on the stack that is left; `stack_pointer` points at it.
  ucontext_t here;
  from.stack_pointer = &here;
  swapcontext(&here, static_cast<ucontext_t*>(to.stack_pointer));
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

namespace {

#if defined(__SANITIZE_ADDRESS__)
// The first thing on a new stack. Without it AddressSanitizer believes the old stack is still in use.
using Entry = void (*)();
Entry entry_of_new_stack;
void enter() {
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
  entry_of_new_stack();
}
#endif

}  // namespace

Fiber::Fiber() {
  void* memory = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  mprotect(memory_, 4096, PROT_NONE);  // an overflow stops here
  context_.bottom = memory_ + 4096;
  context_.size = kStack - 4096;
}

Fiber::~Fiber() { munmap(memory_, kStack); }

void Fiber::start(void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(context_.bottom, context_.size);  // what an abandoned run left behind
  context_.fake_stack = nullptr;
  entry_of_new_stack = entry;
  entry = enter;
#endif
  char* top = memory_ + kStack;
#if defined(__x86_64__)
  // What fastconv_switch_stack pops: six registers and the return address; at entry the stack is 8 off a multiple of
  // 16, as after a call.
  uint64_t* words = reinterpret_cast<uint64_t*>(top) - 8;
  for (int i = 0; i < 8; ++i) words[i] = 0;
  words[6] = reinterpret_cast<uint64_t>(entry);
  context_.stack_pointer = words;
#else
  ucontext_t* first = reinterpret_cast<ucontext_t*>((reinterpret_cast<uintptr_t>(top) - sizeof(ucontext_t)) & ~63ull);
  getcontext(first);
  first->uc_stack.ss_sp = context_.bottom;
  first->uc_stack.ss_size = static_cast<size_t>(reinterpret_cast<char*>(first) - static_cast<char*>(context_.bottom));
  first->uc_link = nullptr;
  makecontext(first, entry, 0);
  context_.stack_pointer = first;
#endif
}

}  // namespace fastconv::cuda_on_cpu
