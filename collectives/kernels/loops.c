/* The loops of portable.py in C: the same bits, three to five times as fast.
 *
 * No Python in here: the library is loaded with ctypes, so a compiler is all that building needs.
 * Every loop is exact or rounds each value once, as numpy does; nothing may be contracted
 * (-ffp-contract=off) or reordered, and no value depends on the width of the vectors. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

#define VERSION 6 /* of the functions below, as native.py expects them */

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define LOOP __attribute__((target_clones("avx512f", "avx2", "default"))) void
#else
#define LOOP void
#endif

int32_t version(void) { return VERSION; }

/* Rows begin `stride` values apart.
 * largest[b] = the larger of itself and the largest magnitude in block b of any row, as bits */
LOOP largest_bits(const int32_t *values, int64_t rows, int64_t stride, int64_t length,
                  int64_t block, int32_t *largest) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t b = 0, at = 0; at < length; b++, at += block) {
            const int64_t n = length - at < block ? length - at : block;
            const int32_t *x = values + row * stride + at;
            int32_t most = largest[b];
            for (int64_t i = 0; i < n; i++) {
                int32_t magnitude = x[i] & 0x7FFFFFFF;
                most = magnitude > most ? magnitude : most;
            }
            largest[b] = most;
        }
}

/* One block of all rows after the other: `out`, which may be the first row, stays in the cache. */
LOOP round_nearest(const float *values, int64_t rows, int64_t stride, const float *factors,
                   int64_t length, int64_t block, int32_t add, int32_t *out) {
    for (int64_t b = 0, at = 0; at < length; b++, at += block) {
        const int64_t n = length - at < block ? length - at : block;
        const float factor = factors[b];
        int32_t *to = out + at;
        for (int64_t row = 0; row < rows; row++) {
            const float *x = values + row * stride + at;
            if (add || row)
                for (int64_t i = 0; i < n; i++) to[i] += (int32_t)rintf(x[i] * factor);
            else
                for (int64_t i = 0; i < n; i++) to[i] = (int32_t)rintf(x[i] * factor);
        }
    }
}

static inline uint32_t mixed(uint32_t counter, uint32_t first, uint32_t second) {
    uint32_t hash = counter * 0x9E3779B9u + first;
    hash = (hash ^ (hash >> 16)) * 0x21F0AAADu + second;
    hash = (hash ^ (hash >> 15)) * 0x735A2D97u;
    return hash ^ (hash >> 15);
}

/* Block b's values 0 … half-1 use the low 16 bits of hash b * half + i, the rest the high ones. */
static inline int32_t by_chance(float value, float factor, uint32_t chance) {
    return ((int32_t)rintf(value * factor) + (int32_t)chance) >> 16;
}

#define STOCHASTIC(NAME, TYPE)                                                                    \
    LOOP NAME(const float *values, const float *factors, int64_t length, int64_t block,           \
              uint32_t first, uint32_t second, int32_t add, TYPE *out) {                          \
        const int64_t half = (block + 1) / 2;                                                     \
        for (int64_t b = 0, at = 0; at < length; b++, at += block) {                              \
            const int64_t n = length - at < block ? length - at : block;                          \
            const int64_t both = n > half ? n - half : 0, low = n < half ? n : half;              \
            const float *x = values + at, *y = x + half, factor = factors[b];                     \
            TYPE *to = out + at, *high = to + half;                                               \
            const uint32_t counter = (uint32_t)(b * half);                                        \
            if (!add)                                                                             \
                for (int64_t i = 0; i < n; i++) to[i] = 0;                                        \
            for (int64_t i = 0; i < both; i++) {                                                  \
                const uint32_t chances = mixed(counter + (uint32_t)i, first, second);             \
                to[i] += (TYPE)by_chance(x[i], factor, chances & 0xFFFF);                         \
                high[i] += (TYPE)by_chance(y[i], factor, chances >> 16);                          \
            }                                                                                     \
            for (int64_t i = both; i < low; i++) {                                                \
                const uint32_t chances = mixed(counter + (uint32_t)i, first, second);             \
                to[i] += (TYPE)by_chance(x[i], factor, chances & 0xFFFF);                         \
            }                                                                                     \
        }                                                                                         \
    }

STOCHASTIC(round_stochastic_int16, int16_t)
STOCHASTIC(round_stochastic_int8, int8_t)

#define SCALED(NAME, TYPE)                                                                        \
    LOOP NAME(const TYPE *integers, const float *units, int64_t length, int64_t block,            \
              float *out) {                                                                       \
        for (int64_t b = 0, at = 0; at < length; b++, at += block) {                              \
            const int64_t n = length - at < block ? length - at : block;                          \
            const TYPE *x = integers + at;                                                        \
            const float unit = units[b];                                                          \
            float *to = out + at;                                                                 \
            for (int64_t i = 0; i < n; i++) to[i] = (float)x[i] * unit;                           \
        }                                                                                         \
    }

SCALED(scaled_int32, int32_t)
SCALED(scaled_int16, int16_t)
SCALED(scaled_int8, int8_t)

/* Rounded to the nearest bfloat16, ties to even; any NaN becomes one NaN. */
LOOP to_bfloat16(const uint32_t *values, int64_t length, uint16_t *out) {
    for (int64_t i = 0; i < length; i++) {
        const uint32_t bits = values[i];
        const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
        out[i] = (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : rounded);
    }
}

LOOP from_bfloat16(const uint16_t *values, int64_t length, int32_t add, float *out) {
    for (int64_t i = 0; i < length; i++) {
        const union { uint32_t bits; float value; } wide = {(uint32_t)values[i] << 16};
        out[i] = add ? out[i] + wide.value : wide.value;
    }
}

/* Much data: what is written goes past the cache, a whole line at once, so that it need not be read
 * first; what is read is asked for AHEAD bytes before, into the second-level cache. Measured, two
 * processes at once, 64 MB each, GB/s read and written: 12 as memcpy does it, 13 with stores of 16
 * bytes past the cache, 15 with prefetches as well, 19 with stores of 32 bytes, 20 with 64. */
#define LINE 64
#define AHEAD 4096

#if defined(__x86_64__) && defined(__GNUC__)
#define ASK_FOR(ADDRESS) _mm_prefetch((const char *)((uintptr_t)(ADDRESS) + AHEAD), _MM_HINT_T1)
#define WIDE64 __attribute__((target("avx512f")))
#define WIDE32 __attribute__((target("avx2")))
#define BY_WIDTH(NAME, ...)                                                                       \
    (__builtin_cpu_supports("avx512f") ? NAME##_64                                                \
     : __builtin_cpu_supports("avx2")  ? NAME##_32                                                \
                                       : NAME##_16)(__VA_ARGS__)

static inline WIDE64 void put_64(const void *from, void *to) {
    _mm512_stream_si512((__m512i *)to, _mm512_loadu_si512((const __m512i *)from));
}
static inline WIDE32 void put_32(const void *from, void *to) {
    _mm256_stream_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)from));
}
static inline void put_16(const void *from, void *to) {
    _mm_stream_si128((__m128i *)to, _mm_loadu_si128((const __m128i *)from));
}
/* What was put past the cache is not seen after what is written from now on. */
static inline void settle(void) { _mm_sfence(); }
#else
#define ASK_FOR(ADDRESS) (void)0
#define WIDE64
#define WIDE32
#define BY_WIDTH(NAME, ...) NAME##_16(__VA_ARGS__)

static inline void put_64(const void *from, void *to) { memcpy(to, from, 64); }
static inline void put_32(const void *from, void *to) { memcpy(to, from, 32); }
static inline void put_16(const void *from, void *to) { memcpy(to, from, 16); }
static inline void settle(void) {}
#endif

#define COPY(WIDTH, TARGET)                                                                       \
    static TARGET void copy_##WIDTH(const char *source, int64_t length, char *out) {              \
        const int64_t misaligned = -(intptr_t)out & (LINE - 1);                                   \
        int64_t i = misaligned < length ? misaligned : length;                                    \
        memcpy(out, source, (size_t)i);                                                           \
        for (; i + LINE <= length; i += LINE) {                                                   \
            ASK_FOR(source + i);                                                                  \
            for (int64_t j = i; j < i + LINE; j += WIDTH) put_##WIDTH(source + j, out + j);       \
        }                                                                                         \
        memcpy(out + i, source + i, (size_t)(length - i));                                        \
        settle();                                                                                 \
    }

COPY(16, )
COPY(32, WIDE32)
COPY(64, WIDE64)

/* out[n] = source[n], written past the cache */
void copy_past_cache(const char *source, int64_t length, char *out) {
    BY_WIDTH(copy, source, length, out);
}

/* out[n] = parts[0][n] + parts[1][n] + …, in this order, divided by `divisor`; the same in `copy`
 * where there is one. All parts of a vector are read before it is written: out may be one. */
#define SUM_ONE(TYPE)                                                                             \
    {                                                                                             \
        TYPE sum = parts[0][at];                                                                  \
        for (int64_t part = 1; part < count; part++) sum = sum + parts[part][at];                 \
        out[at] = divisor != 1 ? sum / (TYPE)divisor : sum;                                       \
        if (copy) copy[at] = out[at];                                                             \
    }

#define SUM_FOR(NAME, TYPE, WIDTH, TARGET)                                                        \
    static TARGET void NAME##_##WIDTH(const TYPE *const *parts, int64_t count, int64_t length,    \
                                      double divisor, int32_t past_cache, TYPE *out,              \
                                      TYPE *copy) {                                               \
        typedef TYPE vector __attribute__((vector_size(WIDTH), aligned(1), may_alias));           \
        const int64_t width = WIDTH / sizeof(TYPE);                                               \
        const int64_t misaligned = (-(intptr_t)out & (LINE - 1)) / (int64_t)sizeof(TYPE);         \
        const int64_t head = misaligned < length ? misaligned : length;                           \
        const int32_t past = past_cache && ((intptr_t)(out + head) & (LINE - 1)) == 0;            \
        int64_t at = 0;                                                                           \
        for (; at < head; at++) SUM_ONE(TYPE)                                                     \
        for (; at + width <= length; at += width) {                                               \
            vector sum = *(const vector *)(parts[0] + at);                                        \
            ASK_FOR(parts[0] + at);                                                               \
            for (int64_t part = 1; part < count; part++) {                                        \
                sum = sum + *(const vector *)(parts[part] + at);                                  \
                ASK_FOR(parts[part] + at);                                                        \
            }                                                                                     \
            if (divisor != 1) sum = sum / (TYPE)divisor;                                          \
            if (past)                                                                             \
                put_##WIDTH(&sum, out + at);                                                      \
            else                                                                                  \
                *(vector *)(out + at) = sum;                                                      \
            if (copy) *(vector *)(copy + at) = sum;                                               \
        }                                                                                         \
        for (; at < length; at++) SUM_ONE(TYPE)                                                   \
        settle();                                                                                 \
    }

#define SUM(NAME, TYPE)                                                                           \
    SUM_FOR(NAME, TYPE, 16, )                                                                     \
    SUM_FOR(NAME, TYPE, 32, WIDE32)                                                               \
    SUM_FOR(NAME, TYPE, 64, WIDE64)                                                               \
    void NAME(const TYPE *const *parts, int64_t count, int64_t length, double divisor,            \
              int32_t past_cache, TYPE *out, TYPE *copy) {                                        \
        BY_WIDTH(NAME, parts, count, length, divisor, past_cache, out, copy);                     \
    }

SUM(sum_float32, float)
SUM(sum_float64, double)
SUM(sum_int32, uint32_t) /* wraps around */
SUM(sum_int64, uint64_t)

/* Look at a word that another process writes, until its low bits are `steps` or beyond (modulo
 * 2^31), its high bit is set, or it was looked at `times` times. */
void look(const uint32_t *word, uint32_t steps, int64_t times) {
    for (int64_t i = 0; i < times; i++) {
        const uint32_t seen = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        if (seen >> 31 || ((seen - steps) & 0x7FFFFFFFu) < 1u << 30) return;
#if defined(__x86_64__)
        _mm_pause();
#endif
    }
}
