/* Linear layers and attention whose result for a row has the same bits whatever rows are beside it.
 *
 * Every sum is taken in one order that no number of rows changes: a linear layer's over its inputs
 * one after the other, attention's as said below. Vectors lie across what is not summed over, so
 * neither their width nor how many rows share a weight in a register shows in a bit. Products are
 * added with one rounding (-ffp-contract=fast: a fused instruction, which `version` looks for). */

#include <stdint.h>
#include <string.h>

#define VERSION 1 /* of the functions below, as native.py expects them */
#define LANES 16
#define PANEL 64 /* columns of a linear layer that lie together; 4 vectors */
#define VECTORS (PANEL / LANES)

typedef float vector __attribute__((vector_size(64)));
typedef int32_t whole __attribute__((vector_size(64)));
typedef float loose __attribute__((vector_size(64), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

/* Written for 32 registers of 16 numbers; 0 where there are none, and torch does better. */
#if defined(__x86_64__) && defined(__GNUC__)
#define KERNEL __attribute__((target("avx512f,fma"))) void
int32_t version(void) { return __builtin_cpu_supports("avx512f") ? VERSION : 0; }
#else
#define KERNEL void
int32_t version(void) { return 0; }
#endif

/* So many rows at once, each sum in a register of its own. A panel's weights are read once for all.
 */
#define BEGIN(r) vector a##r = bias[0], b##r = bias[1], c##r = bias[2], d##r = bias[3];
#define ADD(r)                                                \
    {                                                         \
        const float value = x[(r) * x_stride + k];            \
        a##r += w[0] * value;                                 \
        b##r += w[1] * value;                                 \
        c##r += w[2] * value;                                 \
        d##r += w[3] * value;                                 \
    }
#define PUT(r)                                                \
    {                                                         \
        loose *to = (loose *)(y + (r) * y_stride);            \
        to[0] = a##r;                                         \
        to[1] = b##r;                                         \
        to[2] = c##r;                                         \
        to[3] = d##r;                                         \
    }
#define EACH_1(DO) DO(0)
#define EACH_2(DO) EACH_1(DO) DO(1)
#define EACH_3(DO) EACH_2(DO) DO(2)
#define EACH_4(DO) EACH_3(DO) DO(3)
#define EACH_5(DO) EACH_4(DO) DO(4)
#define EACH_6(DO) EACH_5(DO) DO(5)
#define ROWS(n)                                                                                  \
    INLINE void rows_##n(const float *x, int64_t x_stride, const vector *w, const vector *bias,  \
                         int64_t inputs, float *y, int64_t y_stride) {                           \
        EACH_##n(BEGIN) for (int64_t k = 0; k < inputs; k++, w += VECTORS) { EACH_##n(ADD) }     \
        EACH_##n(PUT)                                                                            \
    }
ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6)

/* One row and two panels: twice as many sums under way hide how long an addition takes. */
INLINE void one_row(const float *x, const vector *w, const vector *bias, int64_t inputs, float *y) {
    const vector *u = w + inputs * VECTORS;
    vector a = bias[0], b = bias[1], c = bias[2], d = bias[3];
    vector e = bias[4], f = bias[5], g = bias[6], h = bias[7];
    for (int64_t k = 0; k < inputs; k++, w += VECTORS, u += VECTORS) {
        const float value = x[k];
        a += w[0] * value, b += w[1] * value, c += w[2] * value, d += w[3] * value;
        e += u[0] * value, f += u[1] * value, g += u[2] * value, h += u[3] * value;
    }
    loose *to = (loose *)y;
    to[0] = a, to[1] = b, to[2] = c, to[3] = d, to[4] = e, to[5] = f, to[6] = g, to[7] = h;
}

/* y[rows, panels * 64] = x[rows, inputs] times weights[panels, inputs, 64], plus bias[panels * 64].
 * Weights, bias: 64-byte aligned. */
KERNEL linear(const float *x, int64_t x_stride, const vector *weights, const vector *bias,
              int64_t inputs, int64_t panels, float *y, int64_t rows) {
    const int64_t y_stride = panels * PANEL;
    for (int64_t p = 0; p < panels; p++) {
        const vector *panel = weights + p * inputs * VECTORS, *b = bias + p * VECTORS;
        float *to = y + p * PANEL;
        if (rows == 1 && p + 1 < panels) {
            one_row(x, panel, b, inputs, to);
            p++;
            continue;
        }
        int64_t r = 0;
#define DO(n) rows_##n(x + r * x_stride, x_stride, panel, b, inputs, to + r * y_stride, y_stride)
        for (; r + 6 <= rows; r += 6) DO(6);
        switch (rows - r) {
            case 5: DO(5); break;
            case 4: DO(4); break;
            case 3: DO(3); break;
            case 2: DO(2); break;
            case 1: DO(1); break;
        }
#undef DO
    }
}

/* e to the x, x from -87 to 0, to about one unit in the last place (Cephes' expf). */
INLINE vector exponential(vector x) {
    const vector magic = 12582912.0f - (vector){}; /* 1.5 * 2^23: adding it rounds to a whole */
    const vector shifted = x * 1.44269504088896341f + magic;
    const vector n = shifted - magic;
    vector r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vector y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    const vector square = r * r;
    y = y * square + r;
    y = y + 1.0f;
    const whole power = ((whole)shifted - (whole)magic + 127) << 23;
    return y * (vector)power;
}

/* One query of one head over `keys` keys. keys_t[width, capacity], values[capacity, width];
 * width a multiple of 16, capacity too. scores[capacity] is room to work in.
 * A score sums over the width in order; the weights' total over every 16th key, then those 16 in
 * order; the result over every 4th key, then those 4 in order. */
INLINE void one_head(const float *query, const float *keys_t, const float *values, float scale,
                     int64_t head_width, int64_t width, int64_t capacity, int64_t keys,
                     float *scores, float *out) {
    const int64_t blocks = (keys + LANES - 1) / LANES;
    const whole lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const vector least = -87.0f - (vector){};
    float most = -3.0e38f;
    int64_t b = 0;
#define SCORES(n)                                                                     \
    {                                                                                 \
        vector sum[n];                                                                \
        memset(sum, 0, sizeof sum);                                                   \
        for (int64_t i = 0; i < head_width; i++)                                      \
            for (int v = 0; v < n; v++)                                               \
                sum[v] += *(const loose *)(keys_t + i * capacity + (b + v) * LANES) * query[i]; \
        for (int v = 0; v < n; v++) *(loose *)(scores + (b + v) * LANES) = sum[v] * scale;      \
    }
    for (; b + 4 <= blocks; b += 4) SCORES(4);
    for (; b < blocks; b++) SCORES(1);
#undef SCORES
    for (int64_t j = 0; j < keys; j++) most = scores[j] > most ? scores[j] : most;
    vector total = {};
    for (b = 0; b < blocks; b++) {
        const vector x = *(loose *)(scores + b * LANES) - most;
        const whole low = x < least;
        const vector floored = (vector)(((whole)x & ~low) | ((whole)least & low));
        const whole inside = lane < (int32_t)(keys - b * LANES);
        const vector e = (vector)((whole)exponential(floored) & inside);
        *(loose *)(scores + b * LANES) = e;
        total += e;
    }
    float all = 0;
    for (int i = 0; i < LANES; i++) all += total[i];
    for (int64_t at = 0; at < width; at += LANES) {
        vector sum[4];
        memset(sum, 0, sizeof sum);
        const float *value = values + at;
        int64_t j = 0;
        for (; j + 4 <= keys; j += 4)
            for (int v = 0; v < 4; v++)
                sum[v] += *(const loose *)(value + (j + v) * width) * scores[j + v];
        for (int v = 0; j < keys; j++, v++)
            sum[v] += *(const loose *)(value + j * width) * scores[j];
        *(loose *)(out + at) = (sum[0] + sum[1] + sum[2] + sum[3]) / all;
    }
}

/* Row r is position places[r] of slot slots[r]; its own key and value are put into the cache first.
 * mixed[rows, stride], of which [heads * width] are written; query, key, value [rows, stride each].
 * Cache of one layer: keys_t[slots, heads, width, capacity], values[slots, heads, capacity, width].
 */
KERNEL attention(const float *query, const float *key, const float *value, int64_t stride,
                 float *keys_t, float *values, const int64_t *slots, const int64_t *places,
                 int64_t rows, int64_t heads, int64_t head_width, int64_t width, int64_t capacity,
                 float scale, float *scores, float *mixed, int64_t mixed_stride) {
    const int64_t of_head = width * capacity;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++) {
            const int64_t base = (slots[r] * heads + h) * of_head;
            const float *k = key + r * stride + h * head_width, *v = value + r * stride + h * head_width;
            for (int64_t i = 0; i < head_width; i++) keys_t[base + i * capacity + places[r]] = k[i];
            memcpy(values + base + places[r] * width, v, head_width * sizeof(float));
        }
    float wide[1024];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++) {
            const int64_t base = (slots[r] * heads + h) * of_head;
            one_head(query + r * stride + h * head_width, keys_t + base, values + base, scale,
                     head_width, width, capacity, places[r] + 1, scores, wide);
            memcpy(mixed + r * mixed_stride + h * head_width, wide, head_width * sizeof(float));
        }
}
