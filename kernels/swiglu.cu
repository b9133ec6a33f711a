// SwiGLU (Shazeer 2020, equation 6) before the down projection, in place: gate = gate / (1 + exp(-gate)) * up.
//
// gate and up: `eights` times 8 values bf16. A thread computes eight.
__device__ inline float gated(float gate, float up) { return gate / (1.0f + __expf(-gate)) * up; }

extern "C" __global__ void swiglu(bf16* gate, const bf16* up, long long eights) {
    long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= eights) return;
    Eight a = load_eight(gate + 8 * place), b = load_eight(up + 8 * place);
    for (int i = 0; i < 4; i++)
        a.pair[i] = pack(gated(low(a.pair[i]), low(b.pair[i])), gated(high(a.pair[i]), high(b.pair[i])));
    store_eight(gate + 8 * place, a);
}
