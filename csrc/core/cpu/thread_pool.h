// Threads for the tools and for `_core`, which run without torch.
#pragma once

namespace fastconv {

/// Makes `parallel_for` use `threads` threads, this one included. Workers spin for a moment, then sleep.
void use_threads(int threads);

}  // namespace fastconv
