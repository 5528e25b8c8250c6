#include "torch/guest.h"

#include <signal.h>

#include <array>
#include <atomic>
#include <mutex>
#include <stdexcept>

#include "torch/api.h"
#include "torch/error.h"
#include "torch/fork.h"
#include "torch/rows.h"

namespace fastconv::binding {
namespace {

constexpr int kMost = 128;
std::atomic<const ConvRow*> guests[kMost];
std::atomic<int> count{0};

std::atomic<FastconvWhyNotGuest> ask_why_not{nullptr};
std::atomic<FastconvPrefer> ask_prefer{nullptr};
std::atomic<int> generation{0};

/// What a guest row points at: it has no code here.
constexpr ConvKernel kElsewhere = {.algorithm = Algorithm::kRef, .why_not = nullptr, .run = nullptr};

enum : int { kOwn = -1, kTorch = -2, kInterrupted = -4 };  // answers that are no row

/// Python's own handler notes the signal for the moment when Python runs again. Without one nothing interrupts.
void interrupt_again() {
  struct sigaction now;
  if (!sigaction(SIGINT, nullptr, &now) && now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN) raise(SIGINT);
}

/// Python could not answer; what went wrong there, fastconv_note_error was told.
[[noreturn]] void fail(int answer, const std::string& question) {
  if (answer == kInterrupted) interrupt_again();
  const char* text = fastconv_last_error();
  throw std::runtime_error("fastconv: Python did not say " + question + (text ? std::string(": ") + text : ""));
}

const char* name_of(Activation activation) {
  constexpr const char* kNames[] = {"none", "relu", "relu6", "hardswish", "silu", "sigmoid"};
  return kNames[static_cast<int>(activation)];
}

/// One more reference, for a callee that gives back what it is handed.
StableIValue lend(const Tensor& tensor) {
  AtenTensorHandle handle;
  check(aoti_torch_new_tensor_handle(tensor.get(), &handle));
  return torch::stable::detail::from(handle);
}

StableIValue lend_optional(const Tensor& tensor) {
  if (!tensor) return torch::stable::detail::from(std::nullopt);
  AtenTensorHandle handle;
  check(aoti_torch_new_tensor_handle(tensor.get(), &handle));
  return torch::stable::detail::from(std::optional<AtenTensorHandle>(handle));
}

}  // namespace

const ConvRow* guest_at(int index) {
  return index >= 0 && index < count.load(std::memory_order_acquire) ? guests[index].load() : nullptr;
}

bool is_guest(const ConvRow& row) { return row.kernel == &kElsewhere; }

std::string why_not_guest(const ConvRow& row, const ConvProblem& problem, const Device& device) {
  std::array<char, 512> text = {};
  const FastconvWhyNotGuest ask = ask_why_not.load();
  if (!ask) return "its library is gone";
  const int answer = ask(row.name, device.cuda, encode(problem).c_str(), text.data(), text.size());
  if (answer < 0) fail(answer, "whether '" + std::string(row.name) + "' takes " + encode(problem));
  return answer ? std::string(text.data()) : std::string();
}

ConvPlan preferred(Direction direction, const ConvProblem& problem, const Device& device, const Settings& settings,
                   bool must_win, const ConvPlan& own) {
  const FastconvPrefer ask = ask_prefer.load();
  if (!ask || !device.cuda) return own;
  const int index = ask(static_cast<int>(direction), encode(problem).c_str(), static_cast<int>(settings.precision),
                        settings.allow_tf32, must_win, own.row ? own.row->name : "");
  if (index == kTorch) return {};
  if (index == kOwn) return own;
  const ConvRow* row = row_at(index);
  if (!row) fail(index, "which kernel takes " + encode(problem));
  const ConvTable table = table_for(device, settings.allow_tf32);
  const char* reason = row->direction != direction ? "it computes another direction"
                       : is_guest(*row)            ? nullptr
                                                   : why_not(table, *row, problem);
  if (reason)
    throw std::runtime_error("fastconv: kernel '" + std::string(row->name) + "' was chosen for " + encode(problem) +
                             " and does not take it: " + reason);
  return is_guest(*row) ? ConvPlan{row, problem} : plan_for(table, *row, problem);
}

int answers_generation() { return generation.load(std::memory_order_relaxed); }

void run_guest_forward(const ConvPlan& plan, const Tensor& source, const Tensor& weight, const Tensor& bias,
                       const Extras& extras, const Tensor& out) {
  StableIValue stack[9] = {lend(source),
                           lend(weight),
                           lend_optional(bias),
                           lend_optional(extras.scale),
                           lend_optional(extras.residual),
                           lend(out),
                           result(encode(plan.problem)),
                           result(std::string(plan.row->name)),
                           result(std::string(name_of(extras.activation)))};
  check(torch_call_dispatcher("fastconv::_guest_forward", "", stack, TORCH_ABI_VERSION));
}

void run_guest_wgrad(const ConvPlan& plan, const Tensor& x, const Tensor& dy, const Tensor& out) {
  StableIValue stack[5] = {lend(x), lend(dy), lend(out), result(encode(plan.problem)),
                           result(std::string(plan.row->name))};
  check(torch_call_dispatcher("fastconv::_guest_wgrad", "", stack, TORCH_ABI_VERSION));
}

}  // namespace fastconv::binding

using namespace fastconv;
using namespace fastconv::binding;

int fastconv_add_guest(const char* name, int direction, int numerics) {
  return guarded(-1, [&] {
    static std::mutex& adding = fork_safe_mutex();
    const std::lock_guard lock(adding);
    const int index = count.load();
    if (direction < 0 || direction >= kDirections || index == kMost || find_row(name)) return -1;
    // Rows live as long as the process.
    guests[index] = new ConvRow{Target::kTriton, static_cast<Direction>(direction), static_cast<Numerics>(numerics),
                                (new std::string(name))->c_str(), &kElsewhere};
    count.store(index + 1, std::memory_order_release);
    return index_of(guests[index]);
  });
}

void fastconv_set_answers(FastconvWhyNotGuest why_not, FastconvPrefer prefer) {
  ask_why_not = why_not;
  ask_prefer = prefer;
  ++generation;
}
