// dx[n,c,d,h,w] = sum over k,t,r,s of dy[n,k,z,p,q] * w[k,c,t,r,s], over the outputs that read this input.
//
// Output p read input h through tap r where p * stride = h + pad - r * dilation. The definition, one input after
// another, summed in double. Any problem. Work is cut by input planes (n, c). Transposed convolution is this.

#include "conv/conv.h"
#include "core/cpu/ref.h"

namespace fastconv {
namespace {

/// The output along one axis that read `input` through `tap`, or -1.
int64_t reader(int64_t input, int64_t tap, int64_t stride, int64_t pad, int64_t dilation, int64_t outputs) {
  const int64_t scaled = input + pad - tap * dilation;
  if (scaled < 0 || scaled % stride != 0 || scaled / stride >= outputs) return -1;
  return scaled / stride;
}

template <class T>
void run_typed(const ConvProblem& p, const ConvArgs& args) {
  const T* dy = static_cast<const T*>(args.dy);
  const T* w = static_cast<const T*>(args.w.data);
  T* dx = static_cast<T*>(args.out);
  const Axes ax = axes_of(p.C, p.D, p.H, p.W, p.x_layout), ay = axes_of(p.K, p.Z, p.P, p.Q, p.y_layout);
  parallel_for(p.N * p.C, [&](int64_t plane) {
    const int64_t n = plane / p.C, c = plane % p.C;
    const int64_t g = c / p.C_per_group(), c_in = c % p.C_per_group();
    for (int64_t d = 0; d < p.D; ++d)
      for (int64_t h = 0; h < p.H; ++h)
        for (int64_t v = 0; v < p.W; ++v) {
          LongSum sum;
          for (int64_t t = 0; t < p.T; ++t)
            for (int64_t r = 0; r < p.R; ++r)
              for (int64_t s = 0; s < p.S; ++s) {
                const int64_t z = reader(d, t, p.stride_d, p.pad_d, p.dilation_d, p.Z);
                const int64_t i = reader(h, r, p.stride_h, p.pad_h, p.dilation_h, p.P);
                const int64_t j = reader(v, s, p.stride_w, p.pad_w, p.dilation_w, p.Q);
                if (z < 0 || i < 0 || j < 0) continue;
                for (int64_t k = 0; k < p.K_per_group(); ++k)
                  sum += read(dy + ay.at(n, g * p.K_per_group() + k, z, i, j)) *
                         read(w + args.w.offset(g, k, c_in, t, r, s));
              }
          const int64_t index = ax.at(n, c, d, h, v);
          write(finish<T>(sum, args.epilogue, c, index), dx + index);
        }
  });
}

void run(const ConvProblem& p, const ConvArgs& args) {
  with_type(p.dtype, [&](auto zero) { run_typed<decltype(zero)>(p, args); });
}

}  // namespace

FASTCONV_DEFINE(Conv, conv_dgrad_ref) = {.algorithm = Algorithm::kRef, .why_not = takes_everything, .run = run};

}  // namespace fastconv
