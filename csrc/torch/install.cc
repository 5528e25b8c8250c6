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
#include "torch/tensor.h"

namespace fastconv::binding {
namespace {

using torch::stable::detail::StableLibrary;

constexpr const char* kKeys[] = {"CPU", "CUDA"};
StableLibrary* registered[std::size(kKeys)];  // not destroyed at exit: another thread may be inside a kernel

/// For its scope torch logs errors alone: it would warn, once a process, that a kernel of its own (a pool's) is
/// overridden, which is what the user asked for. Without torch's switch it warns.
class Quietly {
 public:
  Quietly() : level_(static_cast<int*>(torch_symbol("FLAGS_caffe2_log_level", "libc10.so"))) {
    if (level_) before_ = std::exchange(*level_, kErrors);
  }
  ~Quietly() {
    if (level_) *level_ = before_;
  }

 private:
  static constexpr int kErrors = 2;
  int* level_;
  int before_ = 0;
};

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
    const Quietly scope;
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
