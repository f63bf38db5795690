// A batch out of a dataset on the device: chosen, warped, normalised, in one pass.
#include "device.cuh"

struct Image {  // one channel of one image
  const unsigned char* pixels;
  int h, w, c;

  __device__ float at(int row, int column) const {  // black outside
    bool inside = row >= 0 && row < h && column >= 0 && column < w;
    return inside ? pixels[(row * w + column) * c] : 0;
  }
  __device__ int sample(float y, float x) const {  // bilinear, rounded
    y = fminf(fmaxf(y, -1), h);
    x = fminf(fmaxf(x, -1), w);
    int top = min(static_cast<int>(floorf(y)), h - 1);
    int left = min(static_cast<int>(floorf(x)), w - 1);
    float down = y - top, right = x - left;
    float upper = (1 - right) * at(top, left) + right * at(top, left + 1);
    float lower = (1 - right) * at(top + 1, left) + right * at(top + 1, left + 1);
    return static_cast<int>((1 - down) * upper + down * lower + 0.5f);
  }
};

// One thread for each of the `size` elements of y (N, H, W, C). images (D, H, W, C); maps (N, 2, 3)
// from the middle of the output to that of the image, if `has_maps`; moved (N, 2, H, W), pixels
// further, if `has_moved`.
extern "C" __global__ void gather_images(const unsigned char* images, const long long* chosen,
                                         const float* maps, const float* moved,
                                         const float* levels, float* y, int size, int h, int w,
                                         int c, int has_maps, int has_moved) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= size) return;
  int n = i / c / w / h, row = i / c / w % h, column = i / c % w, channel = i % c;
  Image image = {images + chosen[n] * h * w * c + channel, h, w, c};
  int grey;
  if (has_maps) {
    float middle_y = 0.5f * (h - 1), middle_x = 0.5f * (w - 1);
    float from_middle_y = row - middle_y, from_middle_x = column - middle_x;
    const float* m = maps + 6 * n;
    float at_y = m[0] * from_middle_y + m[1] * from_middle_x + m[2] + middle_y;
    float at_x = m[3] * from_middle_y + m[4] * from_middle_x + m[5] + middle_x;
    if (has_moved) {
      at_y += moved[(2 * n * h + row) * w + column];
      at_x += moved[((2 * n + 1) * h + row) * w + column];
    }
    grey = image.sample(at_y, at_x);
  } else {
    grey = static_cast<int>(image.at(row, column));
  }
  y[i] = levels[grey];
}
