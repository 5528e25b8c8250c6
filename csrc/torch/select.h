// Which row takes a call, asked once per problem and thread.
#pragma once

#include <string>

#include "torch/state.h"

namespace fastconv::binding {

/// The row named by hand, else the first that `auto` takes; empty where the call is torch's, because no row is known
/// to win. Throws where the named kernel refuses, and under FASTCONV_FALLBACK=error where no row takes the problem.
ConvPlan select(Direction direction, const ConvProblem& problem, const Settings& settings);

/// The table's row of that name; throws with the nearest names where there is none.
const ConvRow* row_named(const std::string& name, Direction direction);

/// Throws under FASTCONV_FALLBACK=error: `problem` would go to torch; the text has each row's reason.
void refuse_fallback(Direction direction, const ConvProblem& problem, Precision precision);

}  // namespace fastconv::binding
