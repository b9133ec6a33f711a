// RMSNorm (Zhang and Sennrich 2019, equation 4), with the addition to the residual stream before it.
//
// hidden (t, d) bf16, delta (t, d) bf16 or null, weight (d) float32. Writes sum = hidden + delta where there is a delta, and
// normed = sum / sqrt(mean(sum²) + epsilon) * weight, both (t, d) bf16. The sum is rounded to bf16 first: what is normed is
// what the next layer adds to. One block a row; d is a multiple of 8.
extern "C" __global__ void rms_norm(const bf16* hidden, const bf16* delta, const float* weight, bf16* sum, bf16* normed,
                                    int d, float epsilon) {
    long long row = (long long)blockIdx.x * d;
    hidden += row;
    normed += row;
    if (delta != nullptr) {
        delta += row;
        sum += row;
    }
    float squares = 0.0f;
    for (int column = threadIdx.x * 8; column < d; column += blockDim.x * 8) {
        Eight values = load_eight(hidden + column);
        if (delta != nullptr) {
            Eight added = load_eight(delta + column);
            for (int i = 0; i < 4; i++)
                values.pair[i] = pack(low(values.pair[i]) + low(added.pair[i]), high(values.pair[i]) + high(added.pair[i]));
            store_eight(sum + column, values);
        }
        for (int i = 0; i < 4; i++) {
            float a = low(values.pair[i]), b = high(values.pair[i]);
            squares += a * a + b * b;
        }
    }
    float scale = rsqrtf(block_sum(squares) / d + epsilon);
    // Each thread reads again what it wrote or read itself.
    const bf16* source = delta != nullptr ? sum : hidden;
    for (int column = threadIdx.x * 8; column < d; column += blockDim.x * 8) {
        Eight values = load_eight(source + column);
        for (int i = 0; i < 4; i++) {
            const float* by = weight + column + 2 * i;
            values.pair[i] = pack(low(values.pair[i]) * scale * by[0], high(values.pair[i]) * scale * by[1]);
        }
        store_eight(normed + column, values);
    }
}
