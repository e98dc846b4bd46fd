/* Batch norm of maps, and what ResNet's blocks do behind it. */

#include "rows.h"

/* y = (x - mean) * inverse * weight + bias, with this batch's mean and inverse of its standard deviation [channels],
   towards which the running ones move; then through ReLU if that is wanted, and always after `shortcut` [rows, channels]
   was added, unless it is null. `lines` [4, channels], `partial` [threads, 2, channels] and `total`, likewise, are
   room. */
void batch_norm(const bf16 *x, const bf16 *shortcut, bf16 *y, long rows, long channels, const float *weight,
                const float *bias, float *running_mean, float *running_var, float momentum, float eps, float *mean,
                float *inverse, int relu, float *lines, float *partial, double *total, int threads) {
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
        if (shortcut) normalise(x, shortcut, y, rows, channels, scale, offset, 1, 1);
        else if (relu) normalise(x, x, y, rows, channels, scale, offset, 0, 1);
        else normalise(x, x, y, rows, channels, scale, offset, 0, 0);
    }
}

/* The gradients of x, weight and bias from that of y, where there was no shortcut. */
void batch_norm_backward(const bf16 *gradient, const bf16 *x, bf16 *to_x, long rows, long channels, const float *weight,
                         const float *bias, const float *mean, const float *inverse, float *to_weight, float *to_bias,
                         int relu, float *lines, float *partial, double *total, int threads) {
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
