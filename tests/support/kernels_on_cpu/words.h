// The words of CUDA that the kernels use, for a C++ compiler of the host. A block's threads run one after the other;
// where a kernel has barriers each thread is a fibre, and a barrier hands over to the next one.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <vector>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#ifdef __ELF__  // in a section of their own, whose ends the linker knows
#define __shared__ static __attribute__((section("shared_memory")))
extern char __start_shared_memory[], __stop_shared_memory[];
#else
#define __shared__ static
#endif

// Shared memory holds anything when a block begins: what no thread of the block wrote is not the last block's.
static void poison_shared_memory() {
#ifdef __ELF__
    std::memset(__start_shared_memory, 0xA5, (size_t)(__stop_shared_memory - __start_shared_memory));
#endif
}

// As CuPy has NVRTC compile, -ftz=true: float32 below 1e-38 is 0 where it is read or made. (Here double's below 2e-308
// are as well, which no kernel meets.)
struct Flushing {
#if defined(__SSE2__)
    unsigned int before = _mm_getcsr();
    Flushing() { _mm_setcsr(before | 0x8040); }
    ~Flushing() { _mm_setcsr(before); }
#elif defined(__aarch64__)
    unsigned long before;
    Flushing() {
        asm volatile("mrs %0, fpcr" : "=r"(before));
        asm volatile("msr fpcr, %0" : : "r"(before | (1ul << 24)));
    }
    ~Flushing() { asm volatile("msr fpcr, %0" : : "r"(before)); }
#endif
};

struct Index {
    unsigned int x, y, z;
};

static Index blockIdx, threadIdx, blockDim;

static unsigned int atomicAdd(unsigned int* at, unsigned int value) {
    unsigned int before = *at;
    *at += value;
    return before;
}

namespace fibres {
static std::vector<ucontext_t> contexts;
static std::vector<Index> places;
static std::vector<bool> done;
static ucontext_t home;
static size_t current;
static bool running = false;
static void (*body)(const void*);
static const void* argument;

static void start() {
    body(argument);
    done[current] = true;
    swapcontext(&contexts[current], &home);
}

// Let every thread go to its next barrier or end, until all have ended. A barrier that some threads skip is a bug.
static void run(void (*kernel)(const void*), const void* table, Index block) {
    const size_t stack = 256 * 1024, count = (size_t)block.x * block.y * block.z;
    static std::vector<char> stacks;
    stacks.resize(stack * count);
    contexts.resize(count);
    places.resize(count);
    done.assign(count, false);
    body = kernel;
    argument = table;
    for (size_t t = 0; t < count; t++) {
        places[t] = {(unsigned int)(t % block.x), (unsigned int)(t / block.x % block.y), (unsigned int)(t / block.x / block.y)};
        getcontext(&contexts[t]);
        contexts[t].uc_stack.ss_sp = stacks.data() + stack * t;
        contexts[t].uc_stack.ss_size = stack;
        contexts[t].uc_link = nullptr;
        makecontext(&contexts[t], start, 0);
    }
    running = true;
    for (size_t left = count; left > 0;) {
        size_t ended = 0;
        for (size_t t = 0; t < count; t++) {
            if (done[t]) continue;
            current = t;
            threadIdx = places[t];
            swapcontext(&home, &contexts[t]);
            ended += done[t];
        }
        left -= ended;
    }
    running = false;
}
}  // namespace fibres

static void __syncthreads() {
    if (!fibres::running) {
        std::fprintf(stderr, "a kernel with a barrier was launched as one without\n");
        std::abort();
    }
    size_t me = fibres::current;
    swapcontext(&fibres::contexts[me], &fibres::home);
    threadIdx = fibres::places[me];
}
