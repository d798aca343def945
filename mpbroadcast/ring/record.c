/* record.c: see record.h. */
#define _GNU_SOURCE 1
#include "record.h"

#include <string.h>
#include <time.h>

uint64_t mpb_event_time(struct mpb_segment *seg)
{
    uint64_t step = 1; /* the smallest power of two that holds every lane's index: 64 ns by default */
    while (step < seg->nlanes) step <<= 1;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t t = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    t = (t & ~(step - 1)) | seg->mine->lane_index;
    if (t <= seg->mine->last_time) t = (seg->mine->last_time & ~(step - 1)) + step + seg->mine->lane_index;
    seg->mine->last_time = t;
    return t;
}

/* What a byte becomes inside a JSON string: 1 = itself, 2 = a backslash and a letter, 6 = \u00XX. */
static unsigned width(unsigned char c)
{
    if (c >= 0x20) return c == '"' || c == '\\' ? 2 : 1;
    return c == '\b' || c == '\f' || c == '\n' || c == '\r' || c == '\t' ? 2 : 6;
}

static char letter(unsigned char c)
{
    switch (c) {
    case '\b': return 'b';
    case '\f': return 'f';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    default: return (char)c;
    }
}

size_t mpb_payload_size(size_t static_len, const char *message, size_t message_len)
{
    size_t n = 28 + static_len + 4; /* [time,length,  static  ," and "] */
    for (size_t i = 0; i < message_len; i++) n += width((unsigned char)message[i]);
    return n;
}

static void digits(char *out, int wide, uint64_t v)
{
    memset(out, ' ', (size_t)wide);
    do out[--wide] = (char)('0' + v % 10);
    while ((v /= 10) && wide);
}

static char *quote(char *out, const char *message, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)message[i];
        unsigned w = width(c);
        if (w == 1) {
            *out++ = (char)c;
        } else if (w == 2) {
            *out++ = '\\';
            *out++ = letter(c);
        } else {
            memcpy(out, "\\u00", 4);
            out[4] = hex[c >> 4];
            out[5] = hex[c & 15];
            out += 6;
        }
    }
    return out;
}

void mpb_write_payload(char *out, uint64_t t, const char *fixed, size_t static_len, const char *message, size_t message_len)
{
    out[0] = '[';
    digits(out + 1, 19, t);
    out[20] = ',';
    digits(out + 21, 6, static_len);
    out[27] = ',';
    memcpy(out + 28, fixed, static_len);
    out += 28 + static_len;
    *out++ = ',';
    *out++ = '"';
    out = quote(out, message, message_len);
    *out++ = '"';
    *out++ = ']';
}
