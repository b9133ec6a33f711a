// Log-probabilities of chosen tokens, straight from bf16 logits: one pass over a row finds its maximum, the sum of exponentials
// and the most likely token (the first of several), and no float32 copy of the row is ever written.
//
// logits (r, v) bf16. The pairs of row i are first[i]..first[i + 1], each a token; log_probs (pairs) float32, and best
// (pairs) says whether the token is the most likely one. One block a row.
struct Seen {
    float most, sum;
    int best;
};

// Two parts of a row as one. Logits that are not finite make the sum not a number, whatever their order.
__device__ inline Seen merged(Seen a, Seen b) {
    bool second = b.most > a.most || (b.most == a.most && b.best < a.best);
    float most = a.most > b.most ? a.most : b.most;
    return Seen{most, a.sum * __expf(a.most - most) + b.sum * __expf(b.most - most), second ? b.best : a.best};
}

extern "C" __global__ void log_probs(const bf16* logits, const int* first, const int* tokens, float* log_probs,
                                     unsigned char* best, int v) {
    __shared__ Seen of_warps[32];
    const bf16* row = logits + (long long)blockIdx.x * v;
    Seen seen = {-INFINITE, 0.0f, v};
    for (int token = threadIdx.x; token < v; token += blockDim.x) seen = merged(seen, Seen{to_float(row[token]), 1.0f, token});
    for (int step = 16; step > 0; step /= 2) {
        Seen other = {__shfl_xor_sync(WARP, seen.most, step), __shfl_xor_sync(WARP, seen.sum, step),
                      __shfl_xor_sync(WARP, seen.best, step)};
        seen = merged(seen, other);
    }
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = seen;
    __syncthreads();
    for (int warp = 0; warp < (int)blockDim.x / 32; warp++) seen = warp == 0 ? of_warps[0] : merged(seen, of_warps[warp]);
    float total = seen.most + logf(seen.sum);
    for (int pair = first[blockIdx.x] + threadIdx.x; pair < first[blockIdx.x + 1]; pair += blockDim.x) {
        log_probs[pair] = to_float(row[tokens[pair]]) - total;
        best[pair] = tokens[pair] == seen.best;
    }
}
