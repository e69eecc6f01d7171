/* cases.c - the op-case table. */
#include "ops/ops.h"

const struct op_case op_cases[] = {
    {OP_embedding, .N = 70, .V = 11, .C = 33},
    {OP_embedding, .N = 1, .V = 3, .C = 1},
    {OP_embedding, .N = 300, .V = 50, .C = 160},

    {OP_norm, .N = 37, .G = 1, .D = 64, .pad = 0},
    {OP_norm, .N = 130, .G = 1, .D = 33, .pad = 5, .accumulate = 1},
    {OP_norm, .N = 70, .G = 3, .D = 16, .pad = 3},
    {OP_norm, .N = 1, .G = 1, .D = 1, .accumulate = 1},
    {OP_norm, .N = 9, .G = 2, .D = 80, .frozen = 1},
    {OP_norm, .N = 1000, .G = 1, .D = 40},

    {OP_rope, .N = 33, .G = 3, .D = 16, .pad = 7},
    {OP_rope, .N = 64, .G = 1, .D = 64},
    {OP_rope, .N = 5, .G = 2, .D = 2},
    {OP_rope, .N = 5, .G = 8, .D = 80, .pad = 1},

    {OP_linear, .N = 37, .I = 29, .O = 31, .pad = 3},
    {OP_linear, .N = 64, .I = 48, .O = 96, .bias = 1, .accumulate = 1},
    {OP_linear, .N = 33, .I = 65, .O = 17, .addend = 1, .pad = 2},
    {OP_linear, .N = 33, .I = 65, .O = 17, .addend = 1, .bias = 1, .pad = 2, .accumulate = 1},
    {OP_linear, .N = 20, .I = 16, .O = 24, .in_place = 1, .pad = 1},
    {OP_linear, .N = 20, .I = 16, .O = 24, .in_place = 1, .bias = 1},
    {OP_linear, .N = 1, .I = 130, .O = 70},
    {OP_linear, .N = 1, .I = 33, .O = 70, .bias = 1, .addend = 1},
    {OP_linear, .N = 1, .I = 64, .O = 5, .in_place = 1},
    {OP_linear, .N = 600, .I = 96, .O = 70, .bias = 1},
    {OP_linear, .N = 90, .I = 601, .O = 450},
    {OP_linear, .N = 0, .I = 3, .O = 4, .bias = 1},

    {OP_lora, .N = 70, .I = 65, .O = 48, .R = 8, .parts = 1, .pad = 3},
    {OP_lora, .N = 70, .I = 65, .O = 48, .R = 8, .parts = 1, .p = 0.1f, .accumulate = 1},
    {OP_lora, .N = 130, .I = 160, .O = 64, .R = 16, .parts = 3, .pad = 1, .accumulate = 1},
    {OP_lora, .N = 130, .I = 160, .O = 64, .R = 16, .parts = 3, .pad = 1, .p = 0.5f},
    {OP_lora, .N = 33, .I = 600, .O = 150, .R = 5, .parts = 3, .p = 0.5f, .frozen = 1},
    {OP_lora, .N = 1, .I = 7, .O = 4, .R = 2, .parts = 3, .frozen = 1},
    {OP_lora, .N = 64, .I = 128, .O = 70, .R = 40, .parts = 3, .p = 0.1f},
    {OP_attention, .H = 2, .KV = 2, .D = 16, .cut = CUT_RAGGED, .pad = 3},
    {OP_attention, .H = 4, .KV = 2, .D = 8, .cut = CUT_RAGGED},
    {OP_attention, .H = 4, .KV = 1, .D = 64, .cut = CUT_RAGGED, .pad = 1},
    {OP_attention, .H = 8, .KV = 1, .D = 20, .cut = CUT_RAGGED, .pad = 1},
    {OP_attention, .H = 3, .KV = 1, .D = 16, .cut = CUT_RAGGED},
    {OP_attention, .H = 1, .KV = 1, .D = 80, .cut = CUT_RAGGED},
    {OP_attention, .H = 1, .KV = 1, .D = 128, .cut = CUT_RAGGED},
    {OP_attention, .H = 2, .KV = 1, .D = 16, .cut = CUT_RAGGED, .window = 1},
    {OP_attention, .H = 2, .KV = 1, .D = 16, .cut = CUT_RAGGED, .window = 5, .pad = 2},
    {OP_attention, .H = 2, .KV = 2, .D = 16, .cut = CUT_RAGGED, .window = 64},
    {OP_attention, .H = 2, .KV = 2, .D = 16, .cut = CUT_RAGGED, .window = 1000},
    {OP_attention, .N = 500, .H = 1, .KV = 1, .D = 16, .cut = CUT_ONE},
    {OP_attention, .N = 500, .H = 2, .KV = 1, .D = 16, .cut = CUT_ONE, .window = 70},
    {OP_attention, .H = 4, .KV = 2, .D = 16, .cut = CUT_SHARED, .pad = 3},
    {OP_attention, .H = 2, .KV = 2, .D = 64, .cut = CUT_SHARED, .window = 5},
    {OP_attention, .H = 2, .KV = 1, .D = 16, .cut = CUT_SHARED, .window = 64},
    {OP_attention, .N = 1, .H = 4, .KV = 2, .D = 64, .cut = CUT_DECODE, .pad = 3},
    {OP_attention, .N = 1, .H = 8, .KV = 1, .D = 16, .cut = CUT_DECODE, .window = 5},
    {OP_attention, .N = 70, .H = 2, .KV = 2, .D = 16, .cut = CUT_DECODE},
    {OP_attention, .N = 70, .H = 2, .KV = 2, .D = 16, .cut = CUT_DECODE, .window = 64},

    {OP_swiglu, .N = 33, .F = 29, .pad = 3},
    {OP_swiglu, .N = 64, .F = 176},
    {OP_swiglu, .N = 1, .F = 1},

    {OP_head, .N = 40, .S = 20, .C = 29, .V = 131, .pad = 3, .extras = 1},
    {OP_head, .N = 40, .S = 20, .C = 29, .V = 131, .pad = 3, .late = 1, .accumulate = 1},
    {OP_head, .N = 700, .S = 600, .C = 16, .V = 70, .extras = 1},
    {OP_head, .N = 700, .S = 600, .C = 16, .V = 70, .late = 1},
    {OP_head, .N = 3, .S = 1, .C = 48, .V = 3001, .extras = 1, .frozen = 1},
    {OP_head, .N = 7, .S = 0, .C = 8, .V = 11, .late = 1},
    {OP_head, .N = 7, .S = 7, .C = 8, .V = 1},
    {OP_head, .N = 50, .S = 33, .C = 16, .V = 5000},

    {OP_grad_norm, .N = 1, .max_norm = 1},
    {OP_grad_norm, .N = 4096, .max_norm = 0},
    {OP_grad_norm, .N = 9001, .max_norm = 0.1f},
    {OP_grad_norm, .N = 100000, .max_norm = 100},

    {OP_adamw, .N = 1},
    {OP_adamw, .N = 9001},

    /* at the end, since a case's number seeds its values */
    {OP_head, .N = 50, .S = 33, .C = 16, .V = 5000, .extras = 1, .frozen = 1}, /* blocks of words */
    {OP_head, .N = 2200, .S = 2080, .C = 8, .V = 1100, .frozen = 1},           /* and of rows */
    {OP_lora, .N = 1090, .I = 33, .O = 24, .R = 8, .parts = 3, .accumulate = 1}, /* 9 sums */
    {OP_lora, .N = 1090, .I = 20, .O = 12, .R = 4, .parts = 1, .p = 0.1f},
    {OP_attention, .N = 400, .H = 3, .KV = 1, .D = 48, .cut = CUT_ONE, .window = 150, .pad = 1},
    {OP_norm, .N = 3, .G = 1, .D = 1024, .accumulate = 1},
    {OP_norm, .N = 5, .G = 1, .D = 2100, .pad = 1, .accumulate = 1}, /* odd and long */
    {OP_lora, .N = 2100, .I = 8, .O = 6, .R = 2, .parts = 1, .p = 0.1f, .accumulate = 1},
    {OP_attention, .H = 10, .KV = 2, .D = 8, .cut = CUT_SHARED, .window = 30},
    {OP_attention, .H = 6, .KV = 1, .D = 8, .cut = CUT_RAGGED},
    {OP_attention, .H = 7, .KV = 1, .D = 8, .cut = CUT_RAGGED, .window = 40},
    {OP_attention, .H = 2, .KV = 1, .D = 96, .cut = CUT_SHARED},
    {OP_attention, .H = 1, .KV = 1, .D = 256, .cut = CUT_SHARED, .window = 64, .pad = 3},
    {OP_head, .N = 40, .S = 20, .C = 24, .V = 131, .picked = 40},
    {OP_head, .N = 40, .S = 20, .C = 29, .V = 131, .picked = 7, .late = 1, .accumulate = 1},
};

const int num_op_cases = sizeof op_cases / sizeof *op_cases;
