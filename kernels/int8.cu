// The values of weights stored as Q8_0 (ggml-common.h: blocks of 32 signed bytes with one scale), ready for a product in bf16.
//
// quants (rows, stride) int8, scales (rows, stride / 32) float32; the first `rows` by `columns` of them to weights (rows, columns)
// bf16. A thread makes 16; columns is a multiple of 32.
extern "C" __global__ void dequantize_int8(const signed char* quants, const float* scales, bf16* weights, long long rows,
                                           int columns, int stride) {
    int sixteens = columns / 16;
    long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= rows * sixteens) return;
    long long row = place / sixteens;
    int column = place % sixteens * 16;
    struct alignas(16) Sixteen {
        signed char value[16];
    };
    Sixteen from = *(const Sixteen*)(quants + row * stride + column);
    float scale = scales[row * (stride / 32) + column / 32];
    for (int part = 0; part < 2; part++) {
        Eight out;
        for (int i = 0; i < 4; i++) {
            const signed char* two = from.value + 8 * part + 2 * i;
            out.pair[i] = pack(scale * two[0], scale * two[1]);
        }
        store_eight(weights + row * columns + column + 8 * part, out);
    }
}
