/* input.h: what the fuzz targets share: a fuzzer's bytes read as numbers, and damage done by them.
 *
 * Past the end everything reads as zero, so that each input means something and a shorter one means nearly the same.
 */
#ifndef MPB_FUZZ_INPUT_H
#define MPB_FUZZ_INPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* abort(), unlike exit(), makes a fuzzer keep the input. */
#define REQUIRE(what, ...)                                                                                             \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #what);                                         \
            fprintf(stderr, __VA_ARGS__);                                                                              \
            fputc('\n', stderr);                                                                                       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct input {
    const uint8_t *at, *end;
};

static inline uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        if (in->at < in->end) v |= (uint64_t)*in->at++ << (8 * i);
    return v;
}

/* Overwrites up to 16 bytes, flips a bit, or moves an aligned word by a little or to anywhere. */
static inline void damage(struct input *in, char *at, uint64_t size)
{
    uint64_t how = take(in, 1), where = take(in, 3) % size, word;
    char *aligned = at + (where & ~UINT64_C(7));
    bool fits = (where & ~UINT64_C(7)) + 8 <= size;
    switch (how % 4) {
    case 0:
        for (uint64_t n = 1 + (how >> 2) % 16; n-- > 0 && where < size; where++) at[where] = (char)take(in, 1);
        return;
    case 1: at[where] = (char)(at[where] ^ (1 << (how >> 2) % 8)); return;
    case 2:
        if (!fits) return;
        memcpy(&word, aligned, 8);
        word += (uint64_t)(int64_t)(int16_t)take(in, 2); /* positions, bases and numbers nearly right are the worst */
        memcpy(aligned, &word, 8);
        return;
    default:
        word = take(in, 8);
        if (fits) memcpy(aligned, &word, 8);
    }
}

static inline uint64_t sum_of(const char *bytes, uint64_t n)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) sum += (unsigned char)bytes[i]; /* reads each byte, which AddressSanitizer judges */
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
