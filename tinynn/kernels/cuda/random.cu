// Random numbers that are a function of a key and a counter, so that every thread draws its own:
// Philox 4 x 32 with ten rounds. Source: Salmon, Moraes, Dror and Shaw 2011 (Parallel random
// numbers: as easy as 1, 2, 3), section 3.3; the constants are theirs.
#include "device.cuh"

constexpr int kRounds = 10;
constexpr unsigned long long kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr unsigned kStep0 = 0x9E3779B9, kStep1 = 0xBB67AE85;  // of the key, from round to round

// Four words of a counter become four random ones.
__device__ __forceinline__ void philox(unsigned* word, unsigned key0, unsigned key1) {
  for (int round = 0; round < kRounds; round++) {
    unsigned long long a = kMultiplier0 * word[0], b = kMultiplier1 * word[2];
    word[0] = static_cast<unsigned>(b >> 32) ^ word[1] ^ key0;
    word[1] = static_cast<unsigned>(b);
    word[2] = static_cast<unsigned>(a >> 32) ^ word[3] ^ key1;
    word[3] = static_cast<unsigned>(a);
    key0 += kStep0;
    key1 += kStep1;
  }
}

// 16 random bits for each of n elements, eight elements to a thread.
extern "C" __global__ void random_bits(const unsigned long long* key, unsigned short* bits, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  unsigned word[4] = {static_cast<unsigned>(i), 0, 0, 0};
  philox(word, static_cast<unsigned>(*key), static_cast<unsigned>(*key >> 32));
  for (int j = 0; j < 8 && 8 * i + j < n; j++)
    bits[8 * i + j] = static_cast<unsigned short>(word[j / 2] >> 16 * (j % 2));
}
