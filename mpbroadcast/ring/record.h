/* record.h: the payload of a recorder's common event, built without Python. event/codec.py has the picture of its bytes. */
#ifndef MPB_RECORD_H
#define MPB_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "claim.h"

/* Unix nanoseconds for an event's name and times: strictly ascending in this process, the lane's index in the low bits, so
 * that two processes never name two events of one object alike. The lane must have been claimed. */
uint64_t mpb_event_time(struct mpb_segment *seg);

/* Bytes of the payload; message: UTF-8. */
size_t mpb_payload_size(size_t static_len, const char *message, size_t message_len);

/* Writes them. t: 19 digits; static_len: at most 999999. */
void mpb_write_payload(char *out, uint64_t t, const char *fixed, size_t static_len, const char *message, size_t message_len);

#endif
