#include "torch/install.h"

#include <cstring>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "families.h"
#include "torch/api.h"
#include "torch/error.h"
#include "torch/fork.h"
#include "torch/native.h"
#include "torch/state.h"

namespace fastconv::binding {
namespace {

using torch::stable::detail::StableLibrary;

constexpr const char* kKeys[] = {"CPU", "CUDA"};
StableLibrary* registered[std::size(kKeys)];  // not destroyed at exit: another thread may be inside a kernel

std::mutex& registering() {
  static std::mutex& mutex = fork_safe_mutex();
  return mutex;
}

}  // namespace
}  // namespace fastconv::binding

using namespace fastconv::binding;

void fastconv_install() {
  guarded([] {
    if (!knows_tracing())
      throw std::runtime_error(
          "fastconv: this torch does not say whether it records a trace, without which fastconv cannot be put under "
          "its convolutions");
    const std::lock_guard lock(registering());
    for (size_t i = 0; i < std::size(kKeys); ++i) {
      if (registered[i] || (!kHasCuda && !std::strcmp(kKeys[i], "CUDA"))) continue;
      registered[i] = new StableLibrary(StableLibrary::Kind::IMPL, "aten", kKeys[i], __FILE__, __LINE__);
      fastconv::for_each_family([&](auto family) { under_aten<decltype(family)>(*registered[i], kKeys[i]); });
    }
  });
}

void fastconv_uninstall() {
  guarded([] {
    const std::lock_guard lock(registering());
    if (enabled() || scope_is_open()) return;
    for (StableLibrary*& library : registered) delete std::exchange(library, nullptr);
  });
}
