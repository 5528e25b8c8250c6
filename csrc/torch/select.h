// Which row takes a call, asked once per problem and thread.
#pragma once

#include <string>

#include "torch/device.h"
#include "torch/state.h"

namespace fastconv::binding {

/// The row named by hand, else the first that `auto` takes; empty where the call is torch's, because no row is known
/// to win and none `must_run`. Throws where the named kernel refuses.
///
/// Under FASTCONV_FALLBACK=error every valid problem must run: the slowest row that takes it serves.
ConvPlan select(Direction direction, const ConvProblem& problem, const Device& device, const Settings& settings,
                bool must_run = false);

/// How often this thread has asked the table: for tests.
int64_t choices_made();

/// The row of that name, of any device; throws with the nearest names where there is none.
const ConvRow* row_named(const std::string& name, Direction direction);

/// Each of the device's rows of the direction, a line each, with the reason why `auto` leaves it out.
std::string reasons(Direction direction, const ConvProblem& problem, const Device& device, const Settings& settings);

}  // namespace fastconv::binding
