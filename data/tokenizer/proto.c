#include "data/tokenizer/proto.h"

#include <string.h>

static int read_varint(struct proto *p, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; shift < 64 && p->at < p->end; shift += 7) {
        unsigned char byte = *p->at++;
        *out |= (uint64_t)(byte & 0x7F) << shift;
        if (!(byte & 0x80)) return 0;
    }
    return -1;
}

static int read_fixed(struct proto *p, int bytes, uint64_t *out)
{
    if (p->end - p->at < bytes) return -1;
    *out = 0;
    for (int i = 0; i < bytes; i++) *out |= (uint64_t)p->at[i] << (8 * i);
    p->at += bytes;
    return 0;
}

int proto_next(struct proto *p, struct proto_field *field)
{
    uint64_t key, n;
    if (p->at == p->end) return 0;
    if (read_varint(p, &key) || key >> 3 == 0 || key >> 3 > UINT32_MAX) return -1;
    field->number = (uint32_t)(key >> 3);
    field->wire = (enum proto_wire)(key & 7);
    field->value = 0;
    field->body = (struct proto){p->at, p->at};
    switch (field->wire) {
    case PROTO_VARINT: return read_varint(p, &field->value) ? -1 : 1;
    case PROTO_FIXED64: return read_fixed(p, 8, &field->value) ? -1 : 1;
    case PROTO_FIXED32: return read_fixed(p, 4, &field->value) ? -1 : 1;
    case PROTO_BYTES:
        if (read_varint(p, &n) || n > (uint64_t)(p->end - p->at)) return -1;
        field->body = (struct proto){p->at, p->at + n};
        p->at += n;
        return 1;
    }
    return -1;
}

float proto_float(const struct proto_field *field)
{
    uint32_t bits = (uint32_t)field->value;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
