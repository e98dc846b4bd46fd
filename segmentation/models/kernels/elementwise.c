/* ReLU and sums, of so many numbers. */

#include "rows.h"

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
