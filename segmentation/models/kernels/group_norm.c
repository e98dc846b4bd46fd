/* Group norm of maps: in each image, a group of neighbouring channels by its own mean and deviation. */

#include "rows.h"

/* y = (x - mean) * inverse * weight + bias, with the mean and the inverse of the standard deviation of a channel's group
   in its image, [images, channels] each. An image has `rows` pixels. `lines` [3, channels], `partial` [threads, 2,
   channels] and `total`, likewise, are room. */
void group_norm(const bf16 *x, bf16 *y, long images, long rows, long channels, long groups, const float *weight,
                const float *bias, float eps, float *mean, float *inverse, float *lines, float *partial, double *total,
                int threads) {
    float *scale = lines, *offset = lines + channels, *shift = lines + 2 * channels;
    long members = channels / groups, stride = 2 * channels;
#pragma omp parallel num_threads(threads)
    for (long image = 0; image < images; image++) {
        long thread = omp_get_thread_num(), at = image * rows * channels, first = image * channels;
#pragma omp single
        for (long c = 0; c < channels; c++) shift[c] = widen(x[at + c]);
        add_rows(x + at, x + at, rows, channels, shift, shift, shift, partial + thread * stride,
                 total + thread * stride, 0, 0);
#pragma omp barrier
#pragma omp for schedule(static)
        for (long group = 0; group < groups; group++) {
            double middle = 0, square = 0;
            for (long c = group * members; c < (group + 1) * members; c++) {
                double off = whole(total + c, stride) / rows, own = shift[c] + off;
                middle += own / members;
                square += (whole(total + channels + c, stride) / rows - off * off + own * own) / members;
            }
            double variance = square - middle * middle;
            for (long c = group * members; c < (group + 1) * members; c++) {
                mean[first + c] = (float)middle;
                inverse[first + c] = (float)(1 / __builtin_sqrt((variance < 0 ? 0 : variance) + eps));
                scale[c] = weight[c] * inverse[first + c];
                offset[c] = bias[c] - mean[first + c] * scale[c];
            }
        }
        normalise(x + at, x + at, y + at, rows, channels, scale, offset, 0, 0);
#pragma omp barrier
    }
}

/* The gradients of x, and, added to what is there, of weight and bias, from that of y. */
void group_norm_backward(const bf16 *gradient, const bf16 *x, bf16 *to_x, long images, long rows, long channels,
                         long groups, const float *weight, const float *mean, const float *inverse, float *to_weight,
                         float *to_bias, float *lines, float *partial, double *total, int threads) {
    float *scale = lines, *slope = lines + channels, *shift = lines + 2 * channels;
    long members = channels / groups, stride = 2 * channels;
#pragma omp parallel num_threads(threads)
    for (long image = 0; image < images; image++) {
        long thread = omp_get_thread_num(), at = image * rows * channels;
        const float *middle = mean + image * channels, *steep = inverse + image * channels;
        add_rows(x + at, gradient + at, rows, channels, middle, middle, middle, partial + thread * stride,
                 total + thread * stride, 1, 0);
#pragma omp barrier
#pragma omp for schedule(static)
        for (long group = 0; group < groups; group++) {
            double sum = 0, product = 0, count = (double)rows * members;
            for (long c = group * members; c < (group + 1) * members; c++) {
                double own = whole(total + c, stride), with = whole(total + channels + c, stride);
                sum += weight[c] * own;
                product += weight[c] * with;
                to_bias[c] += (float)own;
                to_weight[c] += (float)(with * steep[c]);
            }
            for (long c = group * members; c < (group + 1) * members; c++) {
                double steepness = -product / count * steep[c] * steep[c] * steep[c];
                scale[c] = weight[c] * steep[c];
                slope[c] = (float)steepness;
                shift[c] = (float)(-sum / count * steep[c] - steepness * middle[c]);
            }
        }
        back(x + at, gradient + at, to_x + at, rows, channels, scale, scale, slope, shift, 0);
#pragma omp barrier
    }
}
