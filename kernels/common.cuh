// What all kernels share; it stands before each of them when it is compiled. No headers: NVRTC brings none.
//
// Letters as in src/model/llama.rs: t tokens, d hidden, h query heads, k key/value heads, g query heads in a group, e head_dim,
// f MLP width, v vocabulary. Matrices are row-major.

typedef unsigned short bf16;

constexpr float INFINITE = 3.402823466e38f;
constexpr unsigned WARP = 0xffffffffu;

__device__ inline float to_float(bf16 x) { return __uint_as_float((unsigned)x << 16); }

// Round to nearest, ties to even, as torch does.
__device__ inline bf16 to_bf16(float x) {
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (bf16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

__device__ inline float low(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ inline float high(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ inline unsigned pack(float low, float high) { return (unsigned)to_bf16(low) | (unsigned)to_bf16(high) << 16; }

// Eight bfloat16 values, moved in one load or store.
struct alignas(16) Eight {
    unsigned pair[4];
};

__device__ inline Eight load_eight(const bf16* at) { return *(const Eight*)at; }
__device__ inline void store_eight(bf16* at, Eight values) { *(Eight*)at = values; }

// The sum over a block of up to 1,024 threads, given to all of them.
__device__ inline float block_sum(float value) {
    __shared__ float of_warps[32];
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(WARP, value, step);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = 0.0f;
    for (int warp = 0; warp < (int)blockDim.x / 32; warp++) sum += of_warps[warp];
    __syncthreads();
    return sum;
}
