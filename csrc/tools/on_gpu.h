// The operands of one call in the memory of a GPU: copied there before it, and what it writes back after it.
#pragma once

#include <vector>

#include "tools/cases.h"

namespace fastconv {

template <class F>
class OnGpu {
 public:
  /// `host` are the call's operands in the CPU's memory; the output's contents are copied too, so that what a kernel
  /// does not write stays what it was. Scratch memory begins as NaN.
  OnGpu(const Operands<F>& host, const typename F::Args& args, size_t workspace) : host_(host), args_(args) {
    for (size_t i = 0; i < host.size(); ++i) {
      if (host.count(i) < 0) continue;
      memory_.push_back(gpu_memory(host.bytes(i)));
      copy_to_gpu(memory_.back().get(), host.data(i), host.bytes(i));
      *host.operand(i).at(args_) = memory_.back().get();
    }
    memory_.push_back(gpu_memory(workspace));
    args_.workspace = memory_.back().get();
    check(cudaMemset(args_.workspace, 0xff, workspace));
  }
  const typename F::Args& args() const { return args_; }
  /// Waits for the call.
  void copy_back() {
    check(cudaDeviceSynchronize());
    for (size_t i = 0; i < host_.size(); ++i)
      if (host_.operand(i).written && host_.count(i) >= 0)
        check(cudaMemcpy(host_.data(i), *host_.operand(i).at(args_), host_.bytes(i), cudaMemcpyDefault));
  }

 private:
  const Operands<F>& host_;
  std::vector<GpuMemory> memory_;
  typename F::Args args_;
};

}  // namespace fastconv
