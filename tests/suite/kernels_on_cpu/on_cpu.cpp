// Runs one kernel on the CPU: on_cpu KERNEL GRID_X GRID_Y THREADS < arguments > buffers. An argument is a letter and what it says:
// `b` the bytes of a buffer (their number in 8 bytes first), `0` a null pointer, `i`, `l` and `f` a 32-bit, a 64-bit integer, a float.
// Every buffer comes back as the kernel left it, in order.
#include "on_cpu.h"

#include <stdio.h>
#include <stdlib.h>

#include <string>
#include <utility>

#include "../../../kernels/common.cuh"
#include "../../../kernels/int8.cu"
#include "../../../kernels/log_probs.cu"
#include "../../../kernels/rms_norm.cu"
#include "../../../kernels/rotary.cu"
#include "../../../kernels/swiglu.cu"
#include "../../../kernels/tree_attention.cu"

struct Argument {
    std::unique_ptr<char[]> bytes;
    size_t count = 0;
    int64_t number = 0;
    float real = 0;

    template <class T>
    operator T*() const { return (T*)bytes.get(); }
    operator int() const { return (int)number; }
    operator long long() const { return number; }
    operator float() const { return real; }
};

static void read(void* to, size_t count) {
    if (fread(to, 1, count, stdin) != count) {
        fprintf(stderr, "the arguments end in the middle\n");
        exit(2);
    }
}

static std::vector<Argument> arguments;

template <class... T, size_t... I>
static void call(void (*kernel)(T...), std::index_sequence<I...>) {
    kernel(arguments[I].operator T()...);
}

template <class... T>
static void call(void (*kernel)(T...)) {
    if (arguments.size() != sizeof...(T)) {
        fprintf(stderr, "%zu arguments, the kernel takes %zu\n", arguments.size(), sizeof...(T));
        exit(2);
    }
    call(kernel, std::index_sequence_for<T...>{});
}

int main(int count, char** words) {
    if (count != 5) return 2;
    for (int letter; (letter = getchar()) != EOF;) {
        Argument argument;
        int32_t number;
        int64_t length;
        switch (letter) {
        case 'b':
            read(&length, 8);
            argument.count = length;
            // Room for an empty buffer, and 16 bytes alignment as a card's allocator gives.
            argument.bytes.reset(new char[length + 16]);
            read(argument.bytes.get(), length);
            break;
        case 'i': read(&number, 4); argument.number = number; break;
        case 'l': read(&argument.number, 8); break;
        case 'f': read(&argument.real, 4); break;
        }
        arguments.push_back(std::move(argument));
    }
    std::string name = words[1];
    Index grid = {(unsigned)atoi(words[2]), (unsigned)atoi(words[3]), 1};
    launch(grid, atoi(words[4]), [&] {
        if (name == "rms_norm") call(rms_norm);
        else if (name == "rotary") call(rotary);
        else if (name == "swiglu") call(swiglu);
        else if (name == "log_probs") call(log_probs);
        else if (name == "dequantize_int8") call(dequantize_int8);
        else if (name == "tree_attention_64") call(tree_attention_64);
        else if (name == "tree_attention_128") call(tree_attention_128);
        else exit(3);
    });
    for (const Argument& argument : arguments)
        if (argument.bytes) fwrite(argument.bytes.get(), 1, argument.count, stdout);
}
