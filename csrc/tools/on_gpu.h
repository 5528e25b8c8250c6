// The operands of one call in the memory of a GPU: copied there before it, and its output back after it.
#pragma once

#include <vector>

#include "tools/rows.h"

namespace fastconv {

class OnGpu {
 public:
  /// `host` are the call's operands in the CPU's memory; the output's contents are copied too, so that what a kernel
  /// does not write stays what it was. Scratch memory begins as NaN.
  OnGpu(Direction direction, const ConvProblem& p, const ConvArgs& host, size_t workspace) : args_(host) {
    const bool dgrad = direction == Direction::kDgrad;
    const int64_t out = dgrad ? p.x_elements() : p.y_elements(), channels = dgrad ? p.C : p.K;
    const int64_t wide = p.dtype == DType::kFloat64 ? 8 : 4, size = element_size(p.dtype);
    args_.x = copy(host.x, p.x_elements() * size);
    args_.dy = copy(host.dy, p.y_elements() * size);
    args_.w.data = copy(host.w.data, p.w_elements() * size);
    args_.out = copy(host.out, out * size);
    args_.epilogue.scale = copy(host.epilogue.scale, channels * wide);
    args_.epilogue.shift = copy(host.epilogue.shift, channels * wide);
    args_.epilogue.residual = copy(host.epilogue.residual, out * size);
    memory_.push_back(gpu_memory(workspace));
    args_.workspace = memory_.back().get();
    check(cudaMemset(args_.workspace, 0xff, workspace));
    if (direction == Direction::kWgrad) from_ = args_.w.data, to_ = host.w.data, bytes_ = p.w_elements() * size;
    else from_ = args_.out, to_ = host.out, bytes_ = out * size;
  }
  const ConvArgs& args() const { return args_; }
  /// Waits for the call.
  void copy_back() const {
    check(cudaDeviceSynchronize());
    check(cudaMemcpy(to_, from_, static_cast<size_t>(bytes_), cudaMemcpyDefault));
  }

 private:
  void* copy(const void* host, int64_t bytes) {
    if (!host) return nullptr;
    memory_.push_back(gpu_memory(static_cast<size_t>(bytes)));
    copy_to_gpu(memory_.back().get(), host, static_cast<size_t>(bytes));
    return memory_.back().get();
  }

  std::vector<GpuMemory> memory_;
  ConvArgs args_;
  const void* from_;
  void* to_;
  int64_t bytes_;
};

}  // namespace fastconv
