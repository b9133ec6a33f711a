// Softmax attention over a packed forest of tokens: token i sees token j where j is i itself or one of its ancestors. Tokens are in
// depth-first order, so that is where j <= i < ends[j], ends[j] being one past the last descendant of j.
//
// qkv (t, k, g + 2, e) bf16 with rotated queries and keys; ends and roots (t) int32, roots[i] the first token of i's tree;
// context (t, k·g·e) bf16. Scores are scaled by scale = 1 / sqrt(e). Grid (tiles of 64 queries, k·g heads), 128 threads: four
// warps of 16 queries each. Tiles of 64 keys in which no key has a descendant among the queries are skipped. The softmax
// is the running one of FlashAttention-2 (Dao 2023, algorithm 1); products go through the tensor cores with float32 sums,
// probabilities rounded to bf16.

constexpr int QUERIES = 64;
constexpr int KEYS = 64;
// Keeps rows of shared memory 16 bytes apart from a multiple of 128, so that the rows a warp reads lie in different banks.
constexpr int PAD = 8;

#ifndef ON_CPU
// sums (16, 8) float32 += a (16, 16) bf16 · b (16, 8) bf16, spread over a warp as PTX's mma.m16n8k16 says: with row = lane / 4 and
// two = lane % 4 * 2, a holds (row, two), (row + 8, two), (row, two + 8), (row + 8, two + 8), each with its right neighbour,
// b holds (two, row) and (two + 8, row), each with its lower neighbour, and sums (row, two), (row, two + 1), (row + 8, two) and
// (row + 8, two + 1).
__device__ inline void multiply_add(float sums[4], const unsigned a[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// Over the four lanes that hold one row.
__device__ inline float row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(WARP, value, 1));
    return fmaxf(value, __shfl_xor_sync(WARP, value, 2));
}
__device__ inline float row_sum(float value) {
    value += __shfl_xor_sync(WARP, value, 1);
    return value + __shfl_xor_sync(WARP, value, 2);
}

template <int E>
__device__ inline void attend(const bf16* qkv, const int* ends, const int* roots, bf16* context, int t, int k, int g, float scale) {
    alignas(16) __shared__ bf16 keys[KEYS][E + PAD];
    alignas(16) __shared__ bf16 values[E][KEYS + PAD]; // by channel: the lower neighbours of a product lie side by side
    __shared__ int key_ends[KEYS];

    int lane = threadIdx.x % 32, row = lane / 4, two = lane % 4 * 2;
    int first_query = blockIdx.x * QUERIES, last = min(first_query + QUERIES, t);
    int head = blockIdx.y, group = head / g;
    long long token_stride = (long long)k * (g + 2) * E;
    const bf16* query = qkv + (group * (g + 2) + head % g) * E;
    const bf16* key = qkv + (group * (g + 2) + g) * E;
    const bf16* value = key + E;
    // This lane's two queries.
    int mine[2] = {first_query + (int)threadIdx.x / 32 * 16 + row, first_query + (int)threadIdx.x / 32 * 16 + row + 8};

    unsigned queries[E / 16][4];
    for (int step = 0; step < E / 16; step++)
        for (int i = 0; i < 4; i++) {
            int token = mine[i % 2], column = step * 16 + two + i / 2 * 8;
            queries[step][i] = token < t ? *(const unsigned*)(query + token * token_stride + column) : 0u;
        }
    float out[E / 8][4];
    for (int tile = 0; tile < E / 8; tile++)
        for (int i = 0; i < 4; i++) out[tile][i] = 0.0f;
    float most[2] = {-INFINITE, -INFINITE}, sum[2] = {0.0f, 0.0f};
    float to_base_2 = scale * 1.4426950408889634f;

    for (int first_key = roots[first_query]; first_key < last; first_key += KEYS) {
        int own = first_key + threadIdx.x;
        bool reaches = threadIdx.x < KEYS && own < last && ends[own] > first_query;
        if (!__syncthreads_or(reaches)) continue;
        if (threadIdx.x < KEYS) key_ends[threadIdx.x] = own < last ? ends[own] : 0;
        for (int place = threadIdx.x; place < KEYS * (E / 8); place += blockDim.x) {
            int column = place % (E / 8) * 8, token = first_key + place / (E / 8);
            Eight eight = {};
            if (token < last) eight = load_eight(key + token * token_stride + column);
            store_eight(&keys[place / (E / 8)][column], eight);
        }
        for (int place = threadIdx.x; place < KEYS * (E / 8); place += blockDim.x) {
            int at = place % KEYS, column = place / KEYS * 8;
            Eight eight = {};
            if (first_key + at < last) eight = load_eight(value + (first_key + at) * token_stride + column);
            for (int i = 0; i < 4; i++) {
                values[column + 2 * i][at] = (bf16)(eight.pair[i] & 0xffffu);
                values[column + 2 * i + 1][at] = (bf16)(eight.pair[i] >> 16);
            }
        }
        __syncthreads();

        float scores[KEYS / 8][4];
        float tile_most[2] = {-INFINITE, -INFINITE};
        for (int tile = 0; tile < KEYS / 8; tile++) {
            for (int i = 0; i < 4; i++) scores[tile][i] = 0.0f;
            for (int step = 0; step < E / 16; step++) {
                const bf16* b = &keys[tile * 8 + row][step * 16 + two];
                multiply_add(scores[tile], queries[step], *(const unsigned*)b, *(const unsigned*)(b + 8));
            }
            for (int i = 0; i < 4; i++) {
                int at = tile * 8 + two + i % 2, token = mine[i / 2];
                bool seen = first_key + at <= token && token < key_ends[at];
                scores[tile][i] = seen ? scores[tile][i] * to_base_2 : -INFINITE;
                tile_most[i / 2] = fmaxf(tile_most[i / 2], scores[tile][i]);
            }
        }
        for (int half = 0; half < 2; half++) {
            float now = fmaxf(most[half], row_max(tile_most[half]));
            float shrink = exp2f(most[half] - now);
            most[half] = now;
            sum[half] *= shrink;
            for (int tile = 0; tile < E / 8; tile++) {
                out[tile][2 * half] *= shrink;
                out[tile][2 * half + 1] *= shrink;
            }
        }
        for (int tile = 0; tile < KEYS / 8; tile++)
            for (int i = 0; i < 4; i++) {
                // A row that has seen nothing yet has a maximum that is no score.
                float score = scores[tile][i];
                scores[tile][i] = score == -INFINITE ? 0.0f : exp2f(score - most[i / 2]);
                sum[i / 2] += scores[tile][i];
            }
        for (int step = 0; step < KEYS / 16; step++) {
            const float *left = scores[2 * step], *right = scores[2 * step + 1];
            unsigned a[4] = {pack(left[0], left[1]), pack(left[2], left[3]), pack(right[0], right[1]), pack(right[2], right[3])};
            for (int tile = 0; tile < E / 8; tile++) {
                const bf16* b = &values[tile * 8 + row][step * 16 + two];
                multiply_add(out[tile], a, *(const unsigned*)b, *(const unsigned*)(b + 8));
            }
        }
        __syncthreads();
    }

    for (int half = 0; half < 2; half++) {
        float total = row_sum(sum[half]);
        if (mine[half] >= t) continue;
        bf16* to = context + ((long long)mine[half] * gridDim.y + head) * E;
        for (int tile = 0; tile < E / 8; tile++)
            *(unsigned*)(to + tile * 8 + two) = pack(out[tile][2 * half] / total, out[tile][2 * half + 1] / total);
    }
}

extern "C" __global__ void tree_attention_64(const bf16* qkv, const int* ends, const int* roots, bf16* context, int t, int k, int g,
                                             float scale) {
    attend<64>(qkv, ends, roots, context, t, k, g, scale);
}

extern "C" __global__ void tree_attention_128(const bf16* qkv, const int* ends, const int* roots, bf16* context, int t, int k, int g,
                                              float scale) {
    attend<128>(qkv, ends, roots, context, t, k, g, scale);
}
