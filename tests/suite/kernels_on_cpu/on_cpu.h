// Enough of CUDA to run a kernel on the CPU, one block after the other: the threads of a block are coroutines that take turns
// at every barrier. Slow, deterministic, and blind to races that a barrier would hide on a card.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <memory>
#include <vector>

#define ON_CPU
#define __global__
#define __device__
#define __shared__ static

struct Index {
    unsigned x, y, z;
};

inline Index blockIdx, blockDim, gridDim;

// Threads that wait for each other: those of a block, or of a warp.
struct Meeting {
    unsigned members = 0, arrived = 0, held = 0;
};

struct Lane {
    unsigned words[8];
};

struct Thread {
    Index index;
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    bool done = false;
};

inline std::vector<Thread> threads;
inline std::vector<Meeting> warps;
inline std::vector<Lane> lanes; // what each thread shows the others of its warp
inline Meeting block;
inline int any; // of __syncthreads_or
inline unsigned running;
inline ucontext_t scheduler;
inline std::function<void()> body;

#define threadIdx (threads[running].index)

constexpr size_t STACK = 256 * 1024;

inline void meet(Meeting& meeting) {
    unsigned held = meeting.held;
    if (++meeting.arrived == meeting.members) {
        meeting.arrived = 0;
        meeting.held++;
    }
    while (meeting.held == held) swapcontext(&threads[running].context, &scheduler);
}

inline void run_thread() {
    body();
    threads[running].done = true;
}

// Runs every thread of every block. `kernel` calls the kernel with its arguments.
inline void launch(Index grid, unsigned block_threads, std::function<void()> kernel) {
    body = kernel;
    gridDim = grid;
    blockDim = {block_threads, 1, 1};
    threads = std::vector<Thread>(block_threads);
    lanes.resize(block_threads);
    for (Thread& thread : threads) thread.stack.reset(new char[STACK]);
    for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
            block = {block_threads, 0, 0};
            warps.assign((block_threads + 31) / 32, {32, 0, 0});
            for (unsigned place = 0; place < block_threads; place++) {
                Thread& thread = threads[place];
                thread.index = {place, 0, 0};
                thread.done = false;
                getcontext(&thread.context);
                thread.context.uc_stack.ss_sp = thread.stack.get();
                thread.context.uc_stack.ss_size = STACK;
                thread.context.uc_link = &scheduler;
                makecontext(&thread.context, run_thread, 0);
            }
            for (unsigned left = block_threads; left > 0;) {
                left = 0;
                for (running = 0; running < block_threads; running++) {
                    if (threads[running].done) continue;
                    swapcontext(&scheduler, &threads[running].context);
                    left += !threads[running].done;
                }
            }
        }
}

inline Meeting& my_warp() { return warps[running / 32]; }

inline void __syncthreads() { meet(block); }

inline int __syncthreads_or(int predicate) {
    meet(block);
    any = 0;
    meet(block);
    any |= predicate;
    meet(block);
    return any;
}

template <class T>
T __shfl_xor_sync(unsigned, T value, int step) {
    static_assert(sizeof(T) == 4);
    memcpy(lanes[running].words, &value, 4);
    meet(my_warp());
    T other;
    memcpy(&other, lanes[running ^ step].words, 4);
    meet(my_warp());
    return other;
}

inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline float __expf(float x) { return expf(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline int min(int a, int b) { return a < b ? a : b; }

// mma.m16n8k16 of PTX, by its table of who holds what.
inline void multiply_add(float sums[4], const unsigned a[4], unsigned b0, unsigned b1) {
    Lane& mine = lanes[running];
    for (int i = 0; i < 4; i++) mine.words[i] = a[i];
    mine.words[4] = b0;
    mine.words[5] = b1;
    meet(my_warp());
    unsigned warp = running / 32 * 32, lane = running % 32;
    auto half = [](unsigned pair, int odd) { return __uint_as_float(odd ? pair & 0xffff0000u : pair << 16); };
    // (row, k) of a: rows from 8 on are registers 1 and 3, columns from 8 on registers 2 and 3.
    auto left = [&](int row, int k) {
        return half(lanes[warp + row % 8 * 4 + k % 8 / 2].words[row / 8 + k / 8 * 2], k % 2);
    };
    // (k, column) of b.
    auto right = [&](int k, int column) { return half(lanes[warp + column * 4 + k % 8 / 2].words[4 + k / 8], k % 2); };
    for (int i = 0; i < 4; i++) {
        int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) sums[i] += left(row, k) * right(k, column);
    }
    meet(my_warp());
}
