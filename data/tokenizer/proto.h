/* proto.h - reads the fields of a protobuf message one after the other, as far as a .model needs.
 */
#ifndef CRIA_DATA_TOKENIZER_PROTO_H
#define CRIA_DATA_TOKENIZER_PROTO_H

#include <stddef.h>
#include <stdint.h>

struct proto { /* what is left of a message */
    const unsigned char *at, *end;
};

enum proto_wire { PROTO_VARINT = 0, PROTO_FIXED64 = 1, PROTO_BYTES = 2, PROTO_FIXED32 = 5 };

struct proto_field {
    uint32_t number;
    enum proto_wire wire;
    uint64_t value;    /* of the number kinds */
    struct proto body; /* of PROTO_BYTES */
};

/* 1 and the next field, 0 at the end, -1 when the message is malformed or cut short. */
int proto_next(struct proto *p, struct proto_field *field);

static inline size_t proto_size(const struct proto *p) { return (size_t)(p->end - p->at); }

float proto_float(const struct proto_field *field); /* of PROTO_FIXED32 */

#endif
