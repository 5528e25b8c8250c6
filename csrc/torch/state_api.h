// The C functions by which Python (ctypes, fastconv/_native.py) reads and sets the state of state.h.
//
// `set` and `get` speak of the process; `scope` sets this thread's own value and returns the one before, with -1 for
// "as the process has it". Rows are given by their index in the table, -1 for none.
#pragma once

#define FASTCONV_API extern "C" __attribute__((visibility("default")))

/// Registers fastconv's kernels for aten::convolution and its backward at the CPU key, once.
FASTCONV_API void fastconv_install();

FASTCONV_API void fastconv_set_enabled(int on);
FASTCONV_API int fastconv_get_enabled();
FASTCONV_API int fastconv_scope_enabled(int on);

FASTCONV_API void fastconv_set_precision(int precision);
FASTCONV_API int fastconv_get_precision();
FASTCONV_API int fastconv_scope_precision(int precision);

FASTCONV_API int fastconv_find_kernel(const char* name, int* direction);
FASTCONV_API const char* fastconv_kernel_name(int index);
FASTCONV_API void fastconv_set_kernel(int direction, int index);
FASTCONV_API int fastconv_scope_kernel(int direction, int index);
