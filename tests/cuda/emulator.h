// CUDA C on the CPU: one block at a time, and in it one fiber for each thread.
//
// What a GPU leaves undefined is made to go wrong here, so that a test sees it:
//   - between barriers the threads run in a random order; in half of the launches one warp runs as
//     far ahead of the others as barriers let it: a missing barrier gives a wrong result
//   - shared memory is NaN when a block begins
//   - an asynchronous copy lands at once or when it is waited for, and is NaN until then
//   - a barrier or a warp's collective that some thread does not reach ends the launch
//   - so does an access outside an argument (`emulator.py` puts guard pages around them), a
//     misaligned one, an overflow of signed integers (the compiler traps both)
// Not seen: speed, bank conflicts, the order in which writes become visible to other blocks.
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// -- words of the language -----------------------------------------------------------------------

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("emulated_shared")))
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::dynamic_shared())

struct uint3 {
  unsigned x, y, z;
};
using dim3 = uint3;
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::max;
using std::min;
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

namespace emulator {

constexpr unsigned kWarp = 32;
constexpr size_t kStack = 1 << 16;
constexpr unsigned char kPoison = 0xFF;  // a float of these bytes is NaN

// -- threads -------------------------------------------------------------------------------------

enum State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Copy {  // from global to shared memory, begun and not yet landed
  void* to;
  const void* from;  // null: zeros
  size_t size;
};

struct Thread {
  State state;
  bool started = false;
  unsigned shown = 0;  // which of its warp's exchanges the thread writes next
  char* stack = nullptr;
  ucontext_t context;
  jmp_buf resume_here;
  std::vector<Copy> open;                  // copies of the group that is not committed yet
  std::vector<std::vector<Copy>> pending;  // committed groups, the oldest first
};

struct Exchange {  // what the lanes of a warp show each other. A warp takes two in turn: when one
                   // is written again, every lane has gone through the barrier of the other
  float value[kWarp][8];
  unsigned bits[kWarp][8];
};

inline std::vector<Thread> threads;
inline std::vector<Exchange> exchanges;
inline unsigned current, count;  // the thread that runs, and how many a block has
inline uint3 block_index, block_size, grid_size;
inline void (*body)(void**);
inline void** arguments;
inline std::vector<char> dynamic;
inline jmp_buf scheduler;
inline sigjmp_buf launch_failed;
inline std::string error;

struct Random {  // xorshift; the standard's generators take long to compile
  uint64_t state;
  void seed(uint64_t number) { state = 88172645463325252ull ^ number << 20; }
  unsigned operator()() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state >> 16;
  }
};
inline Random random;

inline void shuffle_order(std::vector<unsigned>& order) {
  for (unsigned i = order.size(); i > 1; i--) std::swap(order[i - 1], order[random() % i]);
}

[[noreturn]] inline void fail(const std::string& message) {
  error = message;
  siglongjmp(launch_failed, 1);
}

inline uint3 thread_index() {
  return {current % block_size.x, current / block_size.x % block_size.y,
          current / (block_size.x * block_size.y)};
}

inline void* dynamic_shared() {
  return reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(dynamic.data()) + 127) & ~127ul);
}

inline void wait(State barrier) {  // let the scheduler choose another thread
  Thread& self = threads[current];
  self.state = barrier;
  if (!_setjmp(self.resume_here)) _longjmp(scheduler, 1);
}

inline void run_thread() {  // the fiber: the kernel's body for one block after the other
  for (;;) {
    body(arguments);
    Thread& self = threads[current];
    bool flying = !self.open.empty();
    for (const auto& group : self.pending) flying |= !group.empty();
    self.pending.clear();
    if (flying) fail("a thread ended with asynchronous copies that were not waited for");
    wait(kDone);
  }
}

inline void resume(unsigned thread) {  // until its next barrier
  current = thread;
  if (_setjmp(scheduler)) return;
  Thread& t = threads[thread];
  if (t.started) _longjmp(t.resume_here, 1);
  t.started = true;
  getcontext(&t.context);
  t.context.uc_stack.ss_sp = t.stack;
  t.context.uc_stack.ss_size = kStack;
  t.context.uc_link = nullptr;
  makecontext(&t.context, run_thread, 0);
  setcontext(&t.context);
}

// -- a block -------------------------------------------------------------------------------------

extern "C" char __start_emulated_shared __attribute__((weak));
extern "C" char __stop_emulated_shared __attribute__((weak));

inline void poison_shared_memory() {
  std::fill(dynamic.begin(), dynamic.end(), static_cast<char>(kPoison));
  if (&__start_emulated_shared)
    memset(&__start_emulated_shared, kPoison, &__stop_emulated_shared - &__start_emulated_shared);
}

inline bool release_barriers() {  // those that every thread has reached
  bool released = false;
  unsigned at_block_barrier = 0;
  for (unsigned first = 0; first < count; first += kWarp) {
    unsigned end = min(first + kWarp, count), waiting = 0;
    for (unsigned i = first; i < end; i++) {
      waiting += threads[i].state == kAtWarpBarrier;
      at_block_barrier += threads[i].state == kAtBlockBarrier;
    }
    if (waiting == end - first) {
      for (unsigned i = first; i < end; i++) threads[i].state = kReady;
      released = true;
    }
  }
  if (at_block_barrier == count) {
    for (unsigned i = 0; i < count; i++) threads[i].state = kReady;
    released = true;
  }
  return released;
}

inline void run_block(bool drift) {
  poison_shared_memory();
  unsigned warps = (count + kWarp - 1) / kWarp, ahead = random() % warps;
  std::vector<unsigned> order(count);
  for (unsigned i = 0; i < count; i++) {
    order[i] = i;
    threads[i].state = kReady;
    threads[i].shown = 0;
  }
  for (;;) {
    shuffle_order(order);
    bool ran = false;
    for (unsigned i : order)
      if (threads[i].state == kReady && (!drift || i / kWarp == ahead)) {
        resume(i);
        ran = true;
      }
    bool released = release_barriers();
    unsigned done = 0, ready = 0, chosen = 0;
    for (unsigned i = 0; i < count; i++) {
      done += threads[i].state == kDone;
      ready += threads[i].state == kReady;
      chosen += threads[i].state == kReady && i / kWarp == ahead;
    }
    if (done == count) return;
    if (drift && ready && !chosen) {  // the warp ahead waits: another overtakes
      do ahead = random() % warps;
      while (std::none_of(order.begin(), order.end(), [&](unsigned i) {
        return threads[i].state == kReady && i / kWarp == ahead;
      }));
    } else if (!ran && !released) {
      fail("a barrier or a collective of a warp is not reached by all its threads");
    }
  }
}

// -- a launch ------------------------------------------------------------------------------------

struct Kernel {
  std::string name, parameters;  // "float32* int32 ...", to compare with the arguments
  void (*call)(void**);
};
inline std::vector<Kernel> kernels;

inline const Kernel& find_kernel(const char* name) {
  for (const Kernel& kernel : kernels)
    if (kernel.name == name) return kernel;
  fail(std::string("there is no kernel ") + name);
}

template <class T>
std::string type_name() {
  using Element = std::remove_cv_t<std::remove_pointer_t<T>>;
  std::string kind = std::is_floating_point_v<Element> ? "float"
                     : std::is_signed_v<Element>       ? "int"
                                                       : "uint";
  return kind + std::to_string(8 * sizeof(Element)) + (std::is_pointer_v<T> ? "* " : " ");
}

template <auto kernel, class... P, size_t... I>
void enter(const char* name, void (*)(P...), std::index_sequence<I...>) {
  kernels.push_back({name, (type_name<P>() + ...), [](void** given) {
                       kernel(*static_cast<std::remove_cv_t<P>*>(given[I])...);
                     }});
}
template <auto kernel, class... P>
int enter(const char* name, void (*typed)(P...)) {
  enter<kernel>(name, typed, std::index_sequence_for<P...>());
  return 0;
}

inline void on_signal(int signal, siginfo_t*, void*) {
  fail(signal == SIGSEGV ? "an access outside the arrays given"
                         : "a misaligned access, an integer overflow or an index out of bounds");
}

class SignalHandlers {  // for the time of a launch; Python's come back afterwards
 public:
  SignalHandlers() {
    stack_t stack = {};
    stack.ss_sp = memory_;
    stack.ss_size = sizeof memory_;
    sigaltstack(&stack, &stack_before_);
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 3; i++) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~SignalHandlers() {
    for (int i = 0; i < 3; i++) sigaction(kSignals[i], &before_[i], nullptr);
    sigaltstack(&stack_before_, nullptr);
  }

 private:
  static constexpr int kSignals[] = {SIGSEGV, SIGILL, SIGFPE};
  inline static char memory_[1 << 16];
  struct sigaction before_[3];
  stack_t stack_before_;
};

inline void prepare_threads() {
  while (threads.size() < count) {
    threads.emplace_back();
    threads.back().stack = static_cast<char*>(malloc(kStack));
  }
  exchanges.resize(2 * ((count + kWarp - 1) / kWarp));
}

inline void forget_threads() {  // after a failure they stand somewhere in the kernel
  for (Thread& t : threads) free(t.stack);
  threads.clear();
}

inline void run_blocks() {
  bool drift = random() & 1;
  std::vector<unsigned> order(grid_size.x * grid_size.y * grid_size.z);
  for (unsigned i = 0; i < order.size(); i++) order[i] = i;
  shuffle_order(order);
  for (unsigned i : order) {
    block_index = {i % grid_size.x, i / grid_size.x % grid_size.y,
                   i / (grid_size.x * grid_size.y)};
    run_block(drift);
  }
}

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const char* emulated_parameters(const char* kernel) {
  if (sigsetjmp(launch_failed, 0)) return nullptr;
  return find_kernel(kernel).parameters.c_str();
}

// Returns what went wrong, or null.
EXPORTED const char* emulated_launch(const char* kernel, const unsigned* grid,
                                     const unsigned* block, size_t shared, void** given,
                                     unsigned seed) {
  grid_size = {grid[0], grid[1], grid[2]};
  block_size = {block[0], block[1], block[2]};
  count = block[0] * block[1] * block[2];
  dynamic.assign(shared + 128, 0);
  random.seed(seed);
  body = find_kernel(kernel).call;
  arguments = given;
  prepare_threads();
  SignalHandlers handlers;
  if (sigsetjmp(launch_failed, 1)) {
    forget_threads();
    error += " (block " + std::to_string(block_index.x) + ", " + std::to_string(block_index.y) +
             ", " + std::to_string(block_index.z) + ", thread " + std::to_string(current) + ")";
    return error.c_str();
  }
  run_blocks();
  return nullptr;
}

// -- asynchronous copies -------------------------------------------------------------------------

inline void land(const Copy& copy) {
  if (copy.from)
    memcpy(copy.to, copy.from, copy.size);
  else
    memset(copy.to, 0, copy.size);
}

template <size_t size>
void begin_copy(void* to, const void* from, bool inside) {
  if ((reinterpret_cast<uintptr_t>(to) | (inside ? reinterpret_cast<uintptr_t>(from) : 0)) % size)
    fail("a misaligned asynchronous copy");
  Copy copy = {to, inside ? from : nullptr, size};
  if (random() & 1) return land(copy);
  memset(to, kPoison, size);
  threads[current].open.push_back(copy);
}

// -- collectives of a warp -----------------------------------------------------------------------

inline Exchange& next_exchange() {
  return exchanges[current / kWarp * 2 + (threads[current].shown++ & 1)];
}

template <class T>
T shuffle(T value, unsigned from) {
  static_assert(sizeof(T) <= sizeof(float[8]));
  unsigned lane = current % kWarp;
  Exchange& shown = next_exchange();
  memcpy(shown.value[lane], &value, sizeof(T));
  wait(kAtWarpBarrier);
  T got;
  if (current - lane + from < count)
    memcpy(&got, shown.value[from], sizeof(T));
  else
    memset(&got, kPoison, sizeof(T));  // a lane the block does not have
  return got;
}

template <bool transposed>
void load_matrices(unsigned* to, const void* row) {
  if (reinterpret_cast<uintptr_t>(row) % 16) fail("a misaligned row of a matrix");
  unsigned lane = current % kWarp, g = lane / 4, t = lane % 4;
  Exchange& shown = next_exchange();
  memcpy(shown.bits[lane], row, 16);
  wait(kAtWarpBarrier);
  for (unsigned j = 0; j < 4; j++)
    for (unsigned half = 0; half < 2; half++) {
      unsigned r = transposed ? 2 * t + half : g, c = transposed ? g : 2 * t + half;
      uint16_t number;
      memcpy(&number, reinterpret_cast<char*>(shown.bits[8 * j + r]) + 2 * c, 2);
      to[j] = half ? to[j] | number << 16 : number;
    }
}

inline unsigned bf16_bits(float x) {  // to nearest, ties to even: cvt.rn.bf16
  unsigned bits = __float_as_uint(x);
  if (std::isnan(x)) return 0x7fff;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

// d (16, 8) += a (16, k) b (k, 8), lane by lane as the PTX manual lays them out. `element` reads
// one of the numbers packed in a register.
template <int k, int per_register, class Read>
void multiply_accumulate(float* d, const unsigned* a, const unsigned* b, Read element) {
  constexpr int half = k / 2;
  unsigned lane = current % kWarp;
  Exchange& shown = next_exchange();
  memcpy(shown.bits[lane], a, 4 * sizeof(unsigned));
  memcpy(shown.bits[lane] + 4, b, 2 * sizeof(unsigned));
  wait(kAtWarpBarrier);
  float result[4];
  for (int i = 0; i < 4; i++) {
    int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
    double sum = d[i];
    for (int j = 0; j < k; j++) {
      int within = j % half, owner = within / per_register, part = within % per_register;
      unsigned a_bits = shown.bits[4 * (row % 8) + owner][row / 8 + 2 * (j / half)];
      unsigned b_bits = shown.bits[4 * column + owner][4 + j / half];
      sum += static_cast<double>(element(a_bits, part)) * element(b_bits, part);
    }
    result[i] = static_cast<float>(sum);
  }
  memcpy(d, result, sizeof result);
}

}  // namespace emulator

#define threadIdx (emulator::thread_index())
#define blockIdx (emulator::block_index)
#define blockDim (emulator::block_size)
#define gridDim (emulator::grid_size)

inline void __syncthreads() { emulator::wait(emulator::kAtBlockBarrier); }
inline void __threadfence() {}  // blocks run one after the other
inline unsigned atomicInc(unsigned* count, unsigned most) {
  unsigned old = *count;
  *count = old >= most ? 0 : old + 1;
  return old;
}
inline void __syncwarp(unsigned = ~0u) { emulator::wait(emulator::kAtWarpBarrier); }
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulator::shuffle(value, emulator::current % emulator::kWarp ^ mask);
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return emulator::shuffle(value, lane);
}

// -- the twins of the primitives in device.cuh ---------------------------------------------------

template <bool keep>
void copy_async_16(void* to, const void* from, bool inside) {
  emulator::begin_copy<16>(to, from, inside);
}
inline void copy_async_4(void* to, const void* from, bool inside) {
  emulator::begin_copy<4>(to, from, inside);
}
inline void copy_async_commit() {
  auto& self = emulator::threads[emulator::current];
  self.pending.push_back(std::move(self.open));
  self.open.clear();
}
template <int allowed>
void copy_async_wait() {
  auto& pending = emulator::threads[emulator::current].pending;
  while (pending.size() > allowed) {
    for (const auto& copy : pending.front()) emulator::land(copy);
    pending.erase(pending.begin());
  }
}
inline unsigned to_tf32(float x) { return __float_as_uint(x * (1 + .345f / 1024)); }
inline unsigned to_bf16x2(float low, float high) {
  return emulator::bf16_bits(low) | emulator::bf16_bits(high) << 16;
}
using emulator::load_matrices;
inline void mma_tf32(float* d, const unsigned* a, const unsigned* b) {
  emulator::multiply_accumulate<8, 1>(d, a, b, [](unsigned bits, int) {
    return __uint_as_float(bits & 0xffffe000u);
  });
}
inline void mma_bf16(float* d, const unsigned* a, const unsigned* b) {
  emulator::multiply_accumulate<16, 2>(d, a, b, [](unsigned bits, int part) {
    return __uint_as_float(part ? bits & 0xffff0000u : bits << 16);
  });
}
