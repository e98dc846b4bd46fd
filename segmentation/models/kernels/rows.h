/* What the kernels share: loops over maps that lie channels-last in bfloat16, as `rows` pixels of `channels` numbers each.

   What is summed over pixels is summed in float32 over BLOCK rows and in float64 over those, thread by thread and in their
   order, so that equal inputs give equal results. Loops ask for what they read a KiB ahead, since they wait for memory
   otherwise (docs/benchmark.md). Functions here are called by every thread of a parallel region, each for its rows. */

#ifndef ROWS_H
#define ROWS_H

#include <omp.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

enum { BLOCK = 64, AHEAD = 512, LINE = 32 }; /* rows; numbers; numbers of a cache line */

#define INLINE static inline __attribute__((always_inline)) /* so that flags which are constants cost nothing */

INLINE float widen(bf16 number) {
    uint32_t bits = (uint32_t)number << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/* To the nearest, ties to even; what is not a number stays none. */
INLINE bf16 narrow(float wide) {
    uint32_t bits;
    memcpy(&bits, &wide, sizeof bits);
    uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (bf16)rounded;
}

INLINE void fetch(const bf16 *row, long numbers) {
    for (long c = 0; c < numbers; c += LINE) __builtin_prefetch(row + AHEAD + c);
}

/* This thread's part of so many. */
INLINE void share(long all, long *first, long *last) {
    long thread = omp_get_thread_num(), threads = omp_get_num_threads();
    *first = all * thread / threads;
    *last = all * (thread + 1) / threads;
}

/* Add a row to two sums a channel: x - shift and its square, or, of a gradient, it and it times x - shift. With `relu`
   the gradient is that of max(scale * x + offset, 0). */
INLINE void add_row(const bf16 *restrict x, const bf16 *restrict g, long channels, const float *restrict shift,
                    const float *restrict scale, const float *restrict offset, float *restrict one,
                    float *restrict two, int gradient, int relu) {
    fetch(x, channels);
    if (gradient) fetch(g, channels);
#pragma omp simd
    for (long c = 0; c < channels; c++) {
        float number = widen(x[c]), value = number - shift[c];
        float factor = gradient ? widen(g[c]) : value;
        if (relu) factor = scale[c] * number + offset[c] > 0 ? factor : 0;
        one[c] += factor;
        two[c] += factor * value;
    }
}

/* Those sums over this thread's rows. `partial` [2, channels] is room for them, `total` [2, channels] gets them. */
INLINE void add_rows(const bf16 *x, const bf16 *g, long rows, long channels, const float *shift, const float *scale,
                     const float *offset, float *restrict partial, double *restrict total, int gradient, int relu) {
    long first, last;
    share(rows, &first, &last);
    memset(total, 0, 2 * channels * sizeof *total);
    for (long start = first; start < last; start += BLOCK) {
        long stop = start + BLOCK < last ? start + BLOCK : last;
        memset(partial, 0, 2 * channels * sizeof *partial);
        for (long at = start * channels; at < stop * channels; at += channels)
            add_row(x + at, g + at, channels, shift, scale, offset, partial, partial + channels, gradient, relu);
        for (long c = 0; c < 2 * channels; c++) total[c] += partial[c];
    }
}

/* Of all threads, from where thread 0's lies. */
INLINE double whole(const double *total, long stride) {
    double sum = 0;
    for (int thread = 0; thread < omp_get_num_threads(); thread++) sum += total[thread * stride];
    return sum;
}

/* y = scale * x + offset, plus a shortcut if there is one, and no less than 0 with `relu`. */
INLINE void normalise(const bf16 *x, const bf16 *s, bf16 *y, long rows, long channels, const float *restrict scale,
                      const float *restrict offset, int shortcut, int relu) {
    long first, last;
    share(rows, &first, &last);
    for (long at = first * channels; at < last * channels; at += channels) {
        const bf16 *restrict from = x + at, *restrict past = s + at;
        bf16 *restrict to = y + at;
        fetch(from, channels);
        if (shortcut) fetch(past, channels);
#pragma omp simd
        for (long c = 0; c < channels; c++) {
            float value = scale[c] * widen(from[c]) + offset[c];
            if (shortcut) value += widen(past[c]);
            if (relu) value = value < 0 ? 0 : value;
            to[c] = narrow(value);
        }
    }
}

/* scale * g + slope * x + shift, which is the gradient of x; with `relu` as in `add_row`. */
INLINE void back(const bf16 *x, const bf16 *g, bf16 *y, long rows, long channels, const float *restrict scale,
                 const float *restrict offset, const float *restrict slope, const float *restrict shift, int relu) {
    long first, last;
    share(rows, &first, &last);
    for (long at = first * channels; at < last * channels; at += channels) {
        const bf16 *restrict from = x + at, *restrict gradient = g + at;
        bf16 *restrict to = y + at;
        fetch(from, channels);
        fetch(gradient, channels);
#pragma omp simd
        for (long c = 0; c < channels; c++) {
            float number = widen(from[c]), value = widen(gradient[c]);
            if (relu) value = scale[c] * number + offset[c] > 0 ? value : 0;
            to[c] = narrow(scale[c] * value + (slope[c] * number + shift[c]));
        }
    }
}

#endif
