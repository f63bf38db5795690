// What the kernels need of the hardware beyond plain CUDA C: all inline PTX stands here.
//
// Compiled by a C++ compiler rather than for a GPU, the same names come from the tests' emulator,
// which runs the kernels on the CPU. What a name does is said once, here.
#pragma once

#ifndef __CUDACC__
#include "emulator.h"
#else

#ifndef INFINITY  // NVRTC, which CuPy compiles with, has no math.h
#define INFINITY __int_as_float(0x7f800000)
#endif

// Shared memory whose size the launch says, from the start of a 128-byte line.
#define DYNAMIC_SHARED(type, name)                          \
  extern __shared__ __align__(128) unsigned char shared_[]; \
  type* name = reinterpret_cast<type*>(shared_)

// Begin to copy 16 or 4 bytes from global to shared memory, both so aligned; zeros if not `inside`
// (then `from` is not read). 16 bytes pass by the level-1 cache unless they are to `keep` there.
template <bool keep>
__device__ __forceinline__ void copy_async_16(void* to, const void* from, bool inside) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  int size = inside ? 16 : 0;
  if (keep)
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(size)
                 : "memory");
  else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(size)
                 : "memory");
}
__device__ __forceinline__ void copy_async_4(void* to, const void* from, bool inside) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from),
               "r"(inside ? 4 : 0)
               : "memory");
}

// End a group of copies; wait until at most `allowed` of this thread's groups are still on the way.
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int allowed>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(allowed) : "memory");
}

// Operands of the tensor cores: a float as TF32 (10 bits of mantissa), or two rounded to bf16 (7).
// The tensor cores cut off the 13 bits that TF32 lacks. Scaled by this much first, a number is
// rounded to within .7 of TF32's last place, without a bias on the whole; what TF32 holds stays as
// it is, and so does NaN. One instruction: cvt.rna.tf32 takes three on Hopper.
__device__ __forceinline__ unsigned to_tf32(float x) {
  return __float_as_uint(x * (1 + .345f / 1024));
}
__device__ __forceinline__ unsigned to_bf16x2(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// Four 8 x 8 matrices of 16-bit numbers from shared memory, by a whole warp: lane i says where row
// i % 8 of matrix i / 8 lies, 16 bytes and so aligned. With g = lane / 4 and t = lane % 4 a lane
// gets numbers 2 t and 2 t + 1 of row g of each matrix; of column g if `transposed`.
template <bool transposed>
__device__ __forceinline__ void load_matrices(unsigned* to, const void* row) {
  unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  if (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// d (16, 8) += a (16, K) b (K, 8), by a whole warp. With g = lane / 4 and t = lane % 4 a lane holds
//   d   rows g (0, 1) and g + 8 (2, 3), columns 2 t and 2 t + 1
//   a   rows g (0, 2) and g + 8 (1, 3), b column g; of the K columns or rows
//         TF32, K = 8:   t, in the second half of the registers t + 4
//         bf16, K = 16:  2 t and 2 t + 1, in the second half 8 more
__device__ __forceinline__ void mma_tf32(float* d, const unsigned* a, const unsigned* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void mma_bf16(float* d, const unsigned* a, const unsigned* b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
