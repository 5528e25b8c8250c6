// The C functions that Python calls through ctypes (fastconv/_native.py): state, geometries, and caches of packed
// weights.
#pragma once

#include <cstdint>

#define FASTCONV_API extern "C" __attribute__((visibility("default")))

/// The text of what went wrong in this thread's last call of one of these functions, once; null where nothing did. What
/// such a call returns means nothing.
FASTCONV_API const char* fastconv_last_error();
/// Keeps a text for the same: what went wrong in an answer of Python's (below).
FASTCONV_API void fastconv_note_error(const char* text);

/// Registers fastconv's kernels for aten's ops at the CPU key, and at CUDA's where there are
/// CUDA kernels, unless they are.
FASTCONV_API void fastconv_install();
/// Takes them away, unless they are wanted: for the process, or in a scope of this thread. To be called only while no
/// other thread can be on its way into a convolution, since torch's table is not written atomically.
FASTCONV_API void fastconv_uninstall();

// `set` speaks of the process, `get` of what holds for this thread; `scope` sets this thread's own value and returns
// the one before, with -1 for "as the process has it". Rows are given by their index in the table, -1 for none.
FASTCONV_API void fastconv_set_enabled(int on);
FASTCONV_API int fastconv_get_enabled();
FASTCONV_API int fastconv_scope_enabled(int on);

FASTCONV_API void fastconv_set_precision(int precision);
FASTCONV_API int fastconv_get_precision();
FASTCONV_API int fastconv_scope_precision(int precision);

/// Whether this library has CUDA kernels.
FASTCONV_API int fastconv_has_cuda();
/// torch's switch for TF32 in convolutions, which only Python can read: for the process, until it is told again.
FASTCONV_API void fastconv_set_allow_tf32(int on);

/// The number of a family's direction, by which kernels are named and noted; -1 where there is none.
FASTCONV_API int fastconv_slot(const char* family, const char* direction);
/// The row's index and slot; -1 where no row has the name.
FASTCONV_API int fastconv_find_kernel(const char* name, int* slot);
/// Null past the last row.
FASTCONV_API const char* fastconv_kernel_name(int index);
FASTCONV_API void fastconv_set_kernel(int slot, int index);
FASTCONV_API int fastconv_get_kernel(int slot);
FASTCONV_API int fastconv_scope_kernel(int slot, int index);

/// The row that this thread's last call of that slot ran on; null where it was torch's, or none yet.
FASTCONV_API const char* fastconv_last_kernel(int slot);
/// Says so of a call that Python ran by itself.
FASTCONV_API void fastconv_note_kernel(int slot, int index);
/// How often this thread has asked the table of rows, what it remembered not counted: for tests.
FASTCONV_API int64_t fastconv_choices();

/// A row whose kernel Python runs (torch/external.h): its index, or -1 where the name is taken or the table is full.
FASTCONV_API int fastconv_add_external(const char* name, int slot, int numerics);
/// 1 where the external row `name` refuses `problem` on a GPU (`on_cuda`) or the CPU; `text` then holds the reason. 0
/// where it takes it, FastconvPrefer's -3 and -4.
using FastconvWhyNot = int (*)(const char* name, int on_cuda, const char* problem, char* text, int64_t size);
/// The index of the row to run on a GPU instead of `own` ("" for torch's kernel): an external one, or one that a
/// measurement found faster. -1 where `own` stays, -2 for torch's kernel, -3 where the question failed, -4 where a
/// keyboard interrupt ended it.
using FastconvPrefer = int (*)(int slot, const char* problem, int precision, int allow_tf32, int must_win,
                               const char* own);
/// Who answers from now on, or null for nobody; answers given before are forgotten.
FASTCONV_API void fastconv_set_answers(FastconvWhyNot why_not, FastconvPrefer prefer);

/// The number of a geometry (torch/geometry.h), the same for the same one; -1 where the table is full. `output_padding`
/// may be null, which stands for zeros.
FASTCONV_API int64_t fastconv_intern_geometry(int64_t spatial, const int64_t* stride, const int64_t* padding,
                                              const int64_t* dilation, const int64_t* output_padding, int transposed,
                                              int64_t groups);

/// A new cache of packed weights (torch/pack.h) for one layer.
FASTCONV_API int64_t fastconv_new_cache();
FASTCONV_API void fastconv_drop_cache(int64_t id);
/// Packings made since the cache was new, and bytes it holds now: for tests and for `fastconv info`.
FASTCONV_API int64_t fastconv_cache_packings(int64_t id);
FASTCONV_API int64_t fastconv_cache_bytes(int64_t id);
