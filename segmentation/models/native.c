/* Batch norm, ReLU and the sum of a residual block, of maps that lie channels-last in bfloat16: `rows` pixels of
   `channels` numbers each.

   What is summed over pixels is summed in float32 over BLOCK rows and in float64 over those, thread by thread and in their
   order, so that equal inputs give equal results. Loops ask for what they read a KiB ahead, since they wait for memory
   otherwise (docs/benchmark.md). */

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

/* y = (x - mean) * inverse * weight + bias, with this batch's mean and inverse of its standard deviation [channels],
   towards which the running ones move; then `shortcut` [rows, channels] is added, unless it is null, and ReLU applied if
   it is wanted. `lines` [4, channels], `partial` [threads, 2, channels] and `total`, likewise, are room. */
void batch_norm(const bf16 *x, const bf16 *shortcut, bf16 *y, long rows, long channels, const float *weight,
                const float *bias, float *running_mean, float *running_var, float momentum, float eps, float *mean,
                float *inverse, float *lines, float *partial, double *total, long relu, int threads) {
    float *scale = lines, *offset = lines + channels, *shift = lines + 2 * channels;
    for (long c = 0; c < channels; c++) shift[c] = widen(x[c]); /* near the mean, so that little is cancelled */
#pragma omp parallel num_threads(threads)
    {
        long stride = 2 * channels, thread = omp_get_thread_num();
        float *own = partial + thread * stride;
        add_rows(x, x, rows, channels, shift, shift, shift, own, total + thread * stride, 0, 0);
#pragma omp barrier
#pragma omp for schedule(static)
        for (long c = 0; c < channels; c++) {
            double middle = whole(total + c, stride) / rows;
            double variance = whole(total + channels + c, stride) / rows - middle * middle;
            variance = variance < 0 ? 0 : variance;
            mean[c] = (float)(middle + shift[c]);
            inverse[c] = (float)(1 / __builtin_sqrt(variance + eps));
            scale[c] = weight[c] * inverse[c];
            offset[c] = bias[c] - mean[c] * scale[c];
            running_mean[c] += momentum * (mean[c] - running_mean[c]);
            running_var[c] += momentum * ((float)(variance * rows / (rows - 1)) - running_var[c]);
        }
        if (shortcut && relu) normalise(x, shortcut, y, rows, channels, scale, offset, 1, 1);
        else if (shortcut) normalise(x, shortcut, y, rows, channels, scale, offset, 1, 0);
        else if (relu) normalise(x, x, y, rows, channels, scale, offset, 0, 1);
        else normalise(x, x, y, rows, channels, scale, offset, 0, 0);
    }
}

/* The gradients of x, weight and bias from that of y, where there was no shortcut. */
void batch_norm_backward(const bf16 *gradient, const bf16 *x, bf16 *to_x, long rows, long channels, const float *weight,
                         const float *bias, const float *mean, const float *inverse, float *to_weight, float *to_bias,
                         float *lines, float *partial, double *total, long relu, int threads) {
    float *scale = lines, *offset = lines + channels, *slope = lines + 2 * channels, *shift = lines + 3 * channels;
    for (long c = 0; c < channels; c++) {
        scale[c] = weight[c] * inverse[c];
        offset[c] = bias[c] - mean[c] * scale[c];
    }
#pragma omp parallel num_threads(threads)
    {
        long stride = 2 * channels, thread = omp_get_thread_num();
        float *own = partial + thread * stride;
        if (relu) add_rows(x, gradient, rows, channels, mean, scale, offset, own, total + thread * stride, 1, 1);
        else add_rows(x, gradient, rows, channels, mean, scale, offset, own, total + thread * stride, 1, 0);
#pragma omp barrier
#pragma omp for schedule(static)
        for (long c = 0; c < channels; c++) {
            to_bias[c] = (float)whole(total + c, stride);
            to_weight[c] = (float)whole(total + channels + c, stride) * inverse[c];
            slope[c] = -scale[c] * inverse[c] * to_weight[c] / rows;
            shift[c] = -scale[c] * to_bias[c] / rows - slope[c] * mean[c];
        }
        if (relu) back(x, gradient, to_x, rows, channels, scale, offset, slope, shift, 1);
        else back(x, gradient, to_x, rows, channels, scale, offset, slope, shift, 0);
    }
}

/* Into y, which may be x: what is negative becomes 0, what is not a number stays none. */
void relu(const bf16 *x, bf16 *y, long numbers, int threads) {
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (long i = 0; i < numbers; i++) y[i] = (x[i] & 0x8000) && (x[i] & 0x7fff) <= 0x7f80 ? 0 : x[i];
}

/* The gradient of x from those of the result y, and y. */
void relu_backward(const bf16 *gradient, const bf16 *y, bf16 *to_x, long numbers, int threads) {
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (long i = 0; i < numbers; i++) to_x[i] = (int16_t)y[i] > 0 ? gradient[i] : 0;
}

/* y = a + b. */
void sum(const bf16 *a, const bf16 *b, bf16 *y, long numbers, int threads) {
#pragma omp parallel num_threads(threads)
    {
        long first, last;
        share(numbers / LINE, &first, &last);
        for (long at = first * LINE; at < last * LINE; at += LINE) {
            fetch(a + at, LINE);
            fetch(b + at, LINE);
#pragma omp simd
            for (long i = at; i < at + LINE; i++) y[i] = narrow(widen(a[i]) + widen(b[i]));
        }
#pragma omp single
        for (long i = numbers / LINE * LINE; i < numbers; i++) y[i] = narrow(widen(a[i]) + widen(b[i]));
    }
}
