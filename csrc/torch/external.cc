#include "torch/external.h"

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
std::atomic<const RowBase*> externals[kMost];
std::atomic<int> count{0};

std::atomic<FastconvWhyNot> ask_why_not{nullptr};
std::atomic<FastconvPrefer> ask_prefer{nullptr};
std::atomic<int> generation{0};

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

}  // namespace

const RowBase* external_at(int index) {
  return index >= 0 && index < count.load(std::memory_order_acquire) ? externals[index].load() : nullptr;
}

bool is_external(const RowBase& row) {
  for (int i = 0; const RowBase* other = external_at(i); ++i)
    if (other == &row) return true;
  return false;
}

std::string why_not_external(const RowBase& row, const std::string& problem, const Device& device) {
  std::array<char, 512> text = {};
  const FastconvWhyNot ask = ask_why_not.load();
  if (!ask) return "its library is gone";
  const int answer = ask(row.name, device.cuda, problem.c_str(), text.data(), text.size());
  if (answer < 0) fail(answer, "whether '" + std::string(row.name) + "' takes " + problem);
  return answer ? std::string(text.data()) : std::string();
}

Preferred preferred(int slot, const std::string& problem, const Settings& settings, bool must_win, const RowBase* own) {
  const FastconvPrefer ask = ask_prefer.load();
  if (!ask) return {own};
  const int index = ask(slot, problem.c_str(), static_cast<int>(settings.precision), settings.allow_tf32, must_win,
                        own ? own->name : "");
  if (index == kTorch) return {nullptr};
  if (index == kOwn) return {own};
  const RowBase* row = row_at(index);
  if (!row) fail(index, "which kernel takes " + problem);
  if (row->slot() != slot)
    throw std::runtime_error("fastconv: kernel '" + std::string(row->name) + "' was chosen for " + problem +
                             " and does not take it: it computes another direction");
  return {row};
}

int answers_generation() { return generation.load(std::memory_order_relaxed); }

}  // namespace fastconv::binding

using namespace fastconv;
using namespace fastconv::binding;

int fastconv_add_external(const char* name, int slot, int numerics) {
  return guarded(-1, [&] {
    static std::mutex& adding = fork_safe_mutex();
    const std::lock_guard lock(adding);
    const int index = count.load();
    if (slot < 0 || slot >= kSlots || index == kMost || find_row(name)) return -1;
    const auto direction = static_cast<Direction>(slot % kMostDirections);
    const auto family = static_cast<FamilyId>(slot / kMostDirections);
    const char* kept = (new std::string(name))->c_str();  // rows live as long as the process
    for_each_family([&](auto one) {
      using F = decltype(one);
      if (F::kId == family)
        externals[index] =
            new Row<F>{{target::triton, family, direction, static_cast<Numerics>(numerics), kept}, nullptr};
    });
    count.store(index + 1, std::memory_order_release);
    return index_of(externals[index]);
  });
}

void fastconv_set_answers(FastconvWhyNot why_not, FastconvPrefer prefer) {
  ask_why_not = why_not;
  ask_prefer = prefer;
  ++generation;
}
