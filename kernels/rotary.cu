// Rotary embedding (Su et al. 2021, equation 34) in the half-split form of Hugging Face checkpoints, in place on the product
// that holds queries, keys and values: qkv (t, k, g + 2, e) bf16. Queries 0..g and the key g of every group are rotated, the
// value stays; what is left is the split, three views.
//
// cosines and sines (t, e) bf16, the first half of the sines negated. Grid (t, enough); a thread rotates eight pairs; e is a
// multiple of 16.
extern "C" __global__ void rotary(bf16* qkv, const bf16* cosines, const bf16* sines, int k, int g, int e) {
    int half = e / 2, eights = half / 8;
    int place = blockIdx.y * blockDim.x + threadIdx.x;
    if (place >= k * (g + 1) * eights) return;
    int head = place / eights, column = place % eights * 8;
    long long token = blockIdx.x;
    bf16* x = qkv + (token * k * (g + 2) + head / (g + 1) * (g + 2) + head % (g + 1)) * e + column;
    const bf16* by_cos = cosines + token * e + column;
    const bf16* by_sin = sines + token * e + column;
    Eight first = load_eight(x), second = load_eight(x + half);
    Eight cos_first = load_eight(by_cos), cos_second = load_eight(by_cos + half);
    Eight sin_first = load_eight(by_sin), sin_second = load_eight(by_sin + half);
    Eight out_first, out_second;
    for (int i = 0; i < 4; i++) {
        unsigned a = first.pair[i], b = second.pair[i];
        out_first.pair[i] = pack(low(a) * low(cos_first.pair[i]) + low(b) * low(sin_first.pair[i]),
                                 high(a) * high(cos_first.pair[i]) + high(b) * high(sin_first.pair[i]));
        out_second.pair[i] = pack(low(b) * low(cos_second.pair[i]) + low(a) * low(sin_second.pair[i]),
                                  high(b) * high(cos_second.pair[i]) + high(a) * high(sin_second.pair[i]));
    }
    store_eight(x, out_first);
    store_eight(x + half, out_second);
}
