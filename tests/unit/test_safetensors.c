/* ckpt/file_type, ckpt/safetensors, ckpt/safetensors_write. */
#include "support/check.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "ckpt/safetensors_write.h"

static char folder[] = "/tmp/cria-safetensors-XXXXXX";

static const char *in_folder(const char *name)
{
    static char paths[4][IO_PATH_MAX];
    static int turn;
    char *out = paths[turn++ % 4];
    snprintf(out, IO_PATH_MAX, "%s/%s", folder, name);
    return out;
}

static void put(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* A safetensors file of this header and `data` zero bytes. */
static void put_tensors(const char *path, const char *header, size_t data)
{
    static char bytes[1 << 16];
    uint64_t n = strlen(header);
    assert_true(8 + n + data <= sizeof bytes);
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, n);
    put(path, bytes, 8 + n + data);
}

static void expect_refusal(const char *path, enum status want, const char *says)
{
    struct err e = {0};
    struct tensor_files *f = (struct tensor_files *)1;
    enum status got = tensor_files_open(&f, path, &e);
    char text[2048];
    err_format(&e, text, sizeof text);
    if (got != want || !strstr(text, says)) {
        print_error("%s, wanted %s: %s; got %s: %s\n", path, status_name(want), says,
                    status_name(got), text);
        fail();
    }
    assert_null(f);
}

/* --- types --- */

static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float value(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint16_t to16(enum file_type t, float f)
{
    uint16_t out;
    file_type_from_float(t, &out, &f, 1);
    return out;
}

static float from16(enum file_type t, uint16_t u)
{
    float out;
    file_type_to_float(t, &out, &u, 1);
    return out;
}

static void test_rounding(void **state)
{
    (void)state;
    static const struct {
        enum file_type type;
        uint32_t from;
        uint16_t to;
    } cases[] = {
        {FILE_BF16, 0x3f800000, 0x3f80},
        {FILE_BF16, 0x3f808000, 0x3f80}, /* tie to even: down */
        {FILE_BF16, 0x3f818000, 0x3f82},
        {FILE_BF16, 0x3f808001, 0x3f81}, /* tie up; above */
        {FILE_BF16, 0x7f7fffff, 0x7f80},
        {FILE_BF16, 0xff7fffff, 0xff80}, /* FLT_MAX: infinity */
        {FILE_BF16, 0x7f800000, 0x7f80},
        {FILE_BF16, 0x80000000, 0x8000},
        {FILE_BF16, 0x00000001, 0x0000},
        {FILE_BF16, 0x00008000, 0x0000},
        {FILE_BF16, 0x00018000, 0x0002},
        {FILE_BF16, 0x007fffff, 0x0080}, /* denormals */
        {FILE_BF16, 0x7f800001, 0x7fc0},
        {FILE_BF16, 0xffc01234, 0xffc0}, /* NaN */
        {FILE_F16, 0x3f800000, 0x3c00},
        {FILE_F16, 0x3f801000, 0x3c00}, /* tie down */
        {FILE_F16, 0x3f803000, 0x3c02},
        {FILE_F16, 0x3f801001, 0x3c01}, /* tie up; above */
        {FILE_F16, 0x477fe000, 0x7bff},
        {FILE_F16, 0x477fefff, 0x7bff}, /* 65504, nearly 65520 */
        {FILE_F16, 0x477ff000, 0x7c00},
        {FILE_F16, 0x47800000, 0x7c00},
        {FILE_F16, 0x38800000, 0x0400},
        {FILE_F16, 0x387fffff, 0x0400}, /* 2^-14 and below */
        {FILE_F16, 0x33800000, 0x0001},
        {FILE_F16, 0x33000000, 0x0000}, /* 2^-24; the tie 2^-25 */
        {FILE_F16, 0x33000001, 0x0001},
        {FILE_F16, 0x33c00000, 0x0002}, /* above; tie 1.5 * 2^-24 */
        {FILE_F16, 0x00000001, 0x0000},
        {FILE_F16, 0x80000000, 0x8000},
        {FILE_F16, 0xff800000, 0xfc00},
        {FILE_F16, 0x7f800001, 0x7e00},
        {FILE_F16, 0xffc02000, 0xfe01},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint16_t got = to16(cases[i].type, value(cases[i].from));
        if (got != cases[i].to)
            print_error("%s of %08x: %04x\n", file_type_name(cases[i].type), cases[i].from, got);
        assert_int_equal(got, cases[i].to);
    }
}

/* Every 16-bit pattern to float and back is itself, a NaN stays a NaN of its sign. */
static void test_all_halves(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++)
        for (uint32_t u = 0; u < 65536; u++) {
            enum file_type t = k ? FILE_F16 : FILE_BF16;
            float f = from16(t, (uint16_t)u);
            uint16_t back = to16(t, f);
            if (isnan(f))
                assert_true(isnan(from16(t, back)) && (back & 0x8000) == (u & 0x8000));
            else
                assert_int_equal(back, u);
        }
    assert_true(from16(FILE_F16, 0x3555) == 0x1.554p-2f);
    assert_true(from16(FILE_F16, 0x0001) == 0x1p-24f);
    assert_true(from16(FILE_F16, 0x83ff) == -0x1.ff8p-15f);
}

/* Rounding is to the nearest, against all neighbours by double arithmetic. */
static void test_nearest(void **state)
{
    (void)state;
    for (uint32_t u = 0; u < 0x47000000; u += 9973) {
        float f = value(u), h = from16(FILE_F16, to16(FILE_F16, f));
        uint16_t n = to16(FILE_F16, f);
        double off = fabs((double)h - f);
        if (n) assert_true(off <= fabs((double)from16(FILE_F16, (uint16_t)(n - 1)) - f));
        assert_true(off <= fabs((double)from16(FILE_F16, (uint16_t)(n + 1)) - f));
    }
}

static void test_names(void **state)
{
    (void)state;
    for (int t = 0; t < FILE_TYPES; t++)
        assert_int_equal(file_type_find(file_type_name((enum file_type)t)), t);
    assert_int_equal(file_type_find("f32"), FILE_TYPES);
    double d = 1.0 / 3;
    float f;
    file_type_to_float(FILE_F64, &f, &d, 1);
    assert_true(f == (float)d);
}

/* --- reading --- */

#define T(name, type, shape, from, to) \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"

static const struct {
    const char *header;
    size_t data;
    enum status want;
    const char *says;
} hostile[] = {
    {"", 0, ERR_FORMAT, "empty header"},
    {"[]", 0, ERR_FORMAT, "does not start with {"},
    {" {}", 0, ERR_FORMAT, "does not start with {"},
    {"{ ", 0, ERR_FORMAT, "not JSON"},
    {"{}x", 0, ERR_FORMAT, "not JSON"},
    {"{}", 1, ERR_FORMAT, "bytes behind the last tensor"},
    {"{" T("a", "F32", "[1]", 0, 4) "}", 5, ERR_FORMAT, "bytes behind the last tensor"},
    {"{" T("a", "F32", "[1]", 0, 4) "}", 3, ERR_FORMAT, "\"a\": its data lies behind"},
    {"{" T("a", "F32", "[1]", 4, 8) "}", 8, ERR_FORMAT, "\"a\": a hole before"},
    {"{" T("a", "F32", "[1]", 0, 4) "," T("b", "F32", "[1]", 8, 12) "}", 12, ERR_FORMAT,
     "\"b\": a hole"},
    {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[1]", 4, 8) "}", 8, ERR_FORMAT, "overlaps"},
    {"{" T("a", "F32", "[2]", 0, 8) "," T("b", "F32", "[2]", 0, 8) "}", 8, ERR_FORMAT, "overlaps"},
    {"{" T("a", "F32", "[1]", 0, 4) "," T("a", "F32", "[1]", 4, 8) "}", 8, ERR_FORMAT, "duplicate"},
    {"{" T("a", "F32", "[2]", 0, 4) "}", 4, ERR_FORMAT, "4 bytes do not hold [2] of F32"},
    {"{" T("a", "F32", "[1]", 4, 0) "}", 4, ERR_FORMAT, "should rise from 0"},
    {"{" T("a", "F32", "[1]", -4, 0) "}", 4, ERR_FORMAT, "should rise from 0"},
    {"{" T("a", "F32", "[1]", 0, 4.0) "}", 4, ERR_FORMAT, "two whole numbers"},
    {"{" T("a", "F32", "[1]", 0, 99999999999999999999) "}", 4, ERR_FORMAT,
     "a dimension is not a whole number"},
    {"{" T("a", "F32", "[1]", 9223372036854775803, 9223372036854775807) "}", 4, ERR_FORMAT,
     "behind"},
    {"{" T("a", "F32", "[-1]", 0, 4) "}", 4, ERR_FORMAT, "a dimension is not"},
    {"{" T("a", "F32", "[1.5]", 0, 4) "}", 4, ERR_FORMAT, "a dimension is not"},
    {"{" T("a", "F32", "[\"1\"]", 0, 4) "}", 4, ERR_FORMAT, "a dimension is not"},
    {"{" T("a", "F32", "4", 0, 4) "}", 4, ERR_FORMAT, "\"shape\" should be a list"},
    {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, ERR_FORMAT, "more than 8 dimensions"},
    {"{" T("a", "F32", "[4294967296,4294967296]", 0, 4) "}", 4, ERR_FORMAT, "can be counted"},
    {"{" T("a", "F32", "[4611686018427387905]", 0, 4) "}", 4, ERR_FORMAT, "do not hold"},
    {"{" T("a", "F31", "[1]", 0, 4) "}", 4, ERR_UNSUPPORTED, "unknown type \"F31\""},
    {"{" T("a\\u001b[2J", "F31", "[1]", 0, 4) "}", 4, ERR_UNSUPPORTED, "\"a?[2J\""},
    {"{" T("a\\u0000", "F32", "[1]", 0, 4) "}", 4, ERR_FORMAT, "not JSON"},
    {"{\"a\":7}", 0, ERR_FORMAT, "\"a\": should be an object"},
    {"{\"a\":{}}", 0, ERR_FORMAT, "\"dtype\" should be a string"},
    {"{\"a\":{\"dtype\":\"F32\"}}", 0, ERR_FORMAT, "\"shape\" should be"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 0, ERR_FORMAT, "\"data_offsets\" should be"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0]}}", 0, ERR_FORMAT,
     "\"data_offsets\""},
    {"{\"__metadata__\":{\"a\":1}}", 0, ERR_FORMAT, "__metadata__ \"a\" should be a string"},
    {"{\"__metadata__\":[]}", 0, ERR_FORMAT, "__metadata__ should be an object"},
    {"{\"a\xff\":{}}", 0, ERR_FORMAT, "not JSON"},
};

static void test_hostile_headers(void **state)
{
    (void)state;
    const char *path = in_folder("hostile.safetensors");
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        put_tensors(path, hostile[i].header, hostile[i].data);
        expect_refusal(path, hostile[i].want, hostile[i].says);
        expect_refusal(path, hostile[i].want, "hostile.safetensors");
    }
}

static void test_hostile_files(void **state)
{
    (void)state;
    const char *path = in_folder("x.safetensors");
    expect_refusal(in_folder("absent.safetensors"), ERR_IO, "No such file");
    put(path, "", 0);
    expect_refusal(path, ERR_FORMAT, "too short");
    put(path, "1234567", 7);
    expect_refusal(path, ERR_FORMAT, "too short");
    put(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    expect_refusal(path, ERR_FORMAT, "its header would have");
    put(path, "\x01\xe1\xf5\x05\0\0\0\0{}", 10); /* 100,000,001 */
    expect_refusal(path, ERR_FORMAT, "its header would have 100000001");
    put(path, "\x03\0\0\0\0\0\0\0{}", 10);
    expect_refusal(path, ERR_FORMAT, "cut short");
    put(path, "PK\3\4\0\0\0\0\0\0", 10);
    expect_refusal(path, ERR_UNSUPPORTED, "save_pretrained");
    put(path, "\x80\2}q\0\0\0\0\0\0", 10);
    expect_refusal(path, ERR_UNSUPPORTED, "unpickling runs code");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refusal(path, ERR_FORMAT, "not a regular file");
    unlink(path);
}

static void put_index(const char *dir, const char *text)
{
    char path[IO_PATH_MAX];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    put(path, text, strlen(text));
}

static void test_hostile_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum status want;
        const char *says;
    } cases[] = {
        {"{", ERR_FORMAT, "not JSON"},
        {"[]", ERR_FORMAT, "weight_map"},
        {"{\"weight_map\":{}}", ERR_FORMAT, "weight_map"},
        {"{\"weight_map\":[\"a\"]}", ERR_FORMAT, "weight_map"},
        {"{\"weight_map\":{\"a\":1}}", ERR_FORMAT, "tensor \"a\": its file should be a string"},
        {"{\"weight_map\":{\"a\":\"\"}}", ERR_FORMAT, "not a file of this directory"},
        {"{\"weight_map\":{\"a\":\"/etc/x.safetensors\"}}", ERR_FORMAT, "not a file of this"},
        {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}", ERR_FORMAT, "not a file of this"},
        {"{\"weight_map\":{\"a\":\"..\"}}", ERR_FORMAT, "not a file of this directory"},
        {"{\"weight_map\":{\"a\":\"b\\\\c.safetensors\"}}", ERR_FORMAT, "not a file of this"},
        {"{\"weight_map\":{\"a\":\"pytorch_model.bin\"}}", ERR_FORMAT, "no .safetensors file"},
        {"{\"weight_map\":{\"a\":\"none.safetensors\"}}", ERR_IO, "none.safetensors"},
        {"{\"weight_map\":{\"b\":\"s.safetensors\"}}", ERR_FORMAT, "\"b\" is not in s.safetensors"},
    };
    char dir[IO_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", in_folder("indexed"));
    assert_int_equal(mkdir(dir, 0777), 0);
    put_tensors(in_folder("indexed/s.safetensors"), "{" T("a", "F32", "[1]", 0, 4) "}", 4);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_index(dir, cases[i].text);
        expect_refusal(dir, cases[i].want, cases[i].says);
    }
    /* A tensor that the index places elsewhere, or nowhere, is not taken from where it also lies.
     */
    put_tensors(in_folder("indexed/t.safetensors"),
                "{" T("a", "F32", "[1]", 0, 4) "," T("c", "F32", "[]", 4, 8) "}", 8);
    put_index(dir, "{\"weight_map\":{\"a\":\"t.safetensors\"}}");
    struct err e = {0};
    struct tensor_files *f;
    CHECK_OK(tensor_files_open(&f, dir, &e), &e);
    assert_int_equal(tensor_files_count(f), 1);
    assert_non_null(strstr(tensor_file_path(f, tensor_files_at(f, 0)), "t.safetensors"));
    tensor_files_close(f);
}

static void test_directories(void **state)
{
    (void)state;
    char dir[IO_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", in_folder("pickled"));
    assert_int_equal(mkdir(dir, 0777), 0);
    expect_refusal(dir, ERR_IO, "no model.safetensors");
    put(in_folder("pickled/adapter_model.safetensors"), "", 0);
    expect_refusal(dir, ERR_IO, "this is an adapter");
    put(in_folder("pickled/training_args.bin"), "", 0);
    expect_refusal(dir, ERR_IO, "no model.safetensors");
    put(in_folder("pickled/pytorch_model.bin"), "", 0);
    expect_refusal(dir, ERR_UNSUPPORTED, "pytorch_model.bin");
    expect_refusal(dir, ERR_UNSUPPORTED, "save_pretrained");
}

static void test_reading(void **state)
{
    (void)state;
    const char *path = in_folder("plain.safetensors");
    struct err e = {0};
    struct tensor_files *f;
    /* Not padded, a zero-size tensor between, an unknown key in an entry. */
    put_tensors(
        path,
        "{\"__metadata__\":{\"format\":\"pt\"}," T(
            "z", "F32", "[0,3]", 8,
            8) ","
               "\"i\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8],\"more\":1}," T(
                   "b", "BF16", "[2,2]", 8, 16) "}",
        16);
    FILE *raw = fopen(path, "r+b");
    fseek(raw, -8, SEEK_END);
    const uint16_t values[] = {0x3f80, 0x4000, 0x4040, 0x4080};
    assert_int_equal(fwrite(values, 2, 4, raw), 4);
    fclose(raw);
    CHECK_OK(tensor_files_open(&f, path, &e), &e);
    assert_string_equal(tensor_files_metadata(f, "format"), "pt");
    assert_null(tensor_files_metadata(f, "x"));
    assert_null(tensor_files_find(f, "y"));
    assert_int_equal(tensor_files_count(f), 3);
    const struct tensor_info *b = tensor_files_find(f, "b"), *i = tensor_files_find(f, "i");
    float row[3] = {9, 9, 9};
    CHECK_OK(tensor_read_float(f, b, 2, 2, row, &e), &e);
    assert_true(row[0] == 3 && row[1] == 4 && row[2] == 9);
    assert_int_equal(tensor_read_float(f, b, 3, 2, row, &e), ERR_FORMAT);
    assert_int_equal(tensor_read_float(f, b, SIZE_MAX, 2, row, &e), ERR_FORMAT);
    CHECK_OK(tensor_read_float(f, tensor_files_find(f, "z"), 0, 0, row, &e), &e);
    assert_int_equal(tensor_read_float(f, i, 0, 1, row, &e), ERR_UNSUPPORTED);
    int64_t whole = -1;
    CHECK_OK(tensor_read_bytes(f, i, 0, i->count, &whole, &e), &e);
    assert_int_equal(whole, 0);
    uint16_t third = 0;
    CHECK_OK(tensor_read_bytes(f, b, 2, 1, &third, &e), &e);
    assert_int_equal(third, 0x4040);
    assert_int_equal(tensor_read_bytes(f, b, 3, 2, row, &e), ERR_FORMAT);
    CHECK_OK(tensor_expect_type(f, i, "i", FILE_I64, 0, NULL, &e), &e);
    assert_int_equal(tensor_expect_type(f, i, "i", FILE_U8, 0, NULL, &e), ERR_FORMAT);
    assert_non_null(strstr(e.message, "holds I64, not U8"));
    assert_int_equal(tensor_expect_type(f, b, "b", FILE_BF16, 1, (int64_t[]){4}, &e), ERR_SHAPE);
    assert_int_equal(tensor_expect_type(f, NULL, "q", FILE_U8, 0, NULL, &e), ERR_FORMAT);
    CHECK_OK(tensor_expect(f, b, "b", 2, (int64_t[]){2, 2}, &e), &e);
    assert_int_equal(tensor_expect(f, b, "b", 2, (int64_t[]){2, 3}, &e), ERR_SHAPE);
    assert_non_null(strstr(e.message, "b: shape [2, 2], config wants [2, 3]"));
    assert_int_equal(tensor_expect(f, b, "b", 1, (int64_t[]){2}, &e), ERR_SHAPE);
    assert_int_equal(tensor_expect(f, i, "i", 0, NULL, &e), ERR_FORMAT);
    assert_int_equal(tensor_expect(f, NULL, "q", 0, NULL, &e), ERR_FORMAT);
    assert_non_null(strstr(e.message, "\"q\" is missing"));
    assert_int_equal(truncate(path, (off_t)(b->offset + 4)), 0); /* shrinks under us */
    assert_int_equal(tensor_read_float(f, b, 0, 4, row, &e), ERR_FORMAT);
    tensor_files_close(f);
}

/* Cut at every byte: refused, never read past. */
static void test_short_files(void **state)
{
    (void)state;
    const char *path = in_folder("short.safetensors");
    const char *header = "{" T("a", "F16", "[3]", 0, 6) "," T("b", "F32", "[2]", 6, 14) "}";
    put_tensors(path, header, 14);
    for (int64_t n = io_file_size(path) - 1; n >= 0; n--) {
        struct err e = {0};
        struct tensor_files *f;
        assert_int_equal(truncate(path, n), 0);
        assert_int_equal(tensor_files_open(&f, path, &e), ERR_FORMAT);
        assert_null(f);
    }
}

/* Every byte of a header replaced: never anything but OK or a refusal (the sanitizers watch). */
static void test_flipped_bytes(void **state)
{
    (void)state;
    const char *path = in_folder("flipped.safetensors");
    const char *header = "{" T("a", "F16", "[3]", 0, 6) "," T("b", "F32", "[2]", 6, 14) "}";
    size_t n = 8 + strlen(header);
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 6; k++) {
            struct err e = {0};
            struct tensor_files *f;
            float out[8];
            put_tensors(path, header, 14);
            FILE *raw = fopen(path, "r+b");
            fseek(raw, (long)i, SEEK_SET);
            fputc("\0\xff"
                  "9-\"]"[k],
                  raw);
            fclose(raw);
            if (tensor_files_open(&f, path, &e)) continue;
            for (size_t j = 0; j < tensor_files_count(f); j++) {
                const struct tensor_info *t = tensor_files_at(f, j);
                if (t->count <= 8 && tensor_read_float(f, t, 0, t->count, out, &e)) continue;
            }
            tensor_files_close(f);
        }
}

/* --- writing --- */

#define BIG 200001 /* more than a block, not a multiple of one */

static float big[BIG];

static enum status fill_big(void *context, size_t first, size_t count, float *out, struct err *e)
{
    size_t *next = context;
    (void)e;
    assert_int_equal(first, *next);
    *next += count;
    memcpy(out, big + first, count * sizeof *out);
    return OK;
}

static enum status fill_badly(void *context, size_t first, size_t count, float *out, struct err *e)
{
    (void)context, (void)count, (void)out;
    return first ? err_set(e, ERR_NUMERIC, "not now") : (memset(out, 0, count * sizeof *out), OK);
}

static void make_big(void)
{
    uint32_t u = 1;
    for (size_t i = 0; i < BIG; i++) {
        u = u * 1664525 + 1013904223;
        big[i] = value((u & 0x8fffffff) | 0x38000000); /* within the halves' normal range */
    }
}

static void check_tensor(const struct tensor_files *f, const char *name, enum file_type type)
{
    static float got[BIG];
    struct err e = {0};
    const struct tensor_info *t = tensor_files_find(f, name);
    assert_non_null(t);
    assert_int_equal(t->type, type);
    CHECK_OK(tensor_expect(f, t, name, 2, (int64_t[]){3, BIG / 3}, &e), &e);
    CHECK_OK(tensor_read_float(f, t, 0, BIG, got, &e), &e);
    for (size_t i = 0; i < BIG; i++) {
        float want = big[i];
        if (file_type_size(type) == 2) want = from16(type, to16(type, want));
        assert_int_equal(bits(got[i]), bits(want));
    }
}

static enum status fill_bytes(void *context, size_t first, size_t count, void *out, struct err *e)
{
    (void)context, (void)e;
    for (size_t i = 0; i < count; i++) ((uint8_t *)out)[i] = (uint8_t)((first + i) * 7);
    return OK;
}

static void test_round_trip(void **state)
{
    (void)state;
    const char *path = in_folder("round.safetensors");
    struct err e = {0};
    struct tensor_files *f;
    size_t next = 0;
    float one = 7;
    const struct tensor_source sources[] = {
        {.name = "z.bf16", .type = FILE_BF16, .rank = 2, .shape = {3, BIG / 3}, .data = big},
        {.name = "b.f16",
         .type = FILE_F16,
         .rank = 2,
         .shape = {3, BIG / 3},
         .fill = fill_big,
         .context = &next},
        {.name = "b.f32", .type = FILE_F32, .rank = 2, .shape = {3, BIG / 3}, .data = big},
        {.name = "a.f32", .type = FILE_F32, .rank = 2, .shape = {3, BIG / 3}, .data = big},
        {.name = "q\"\n\xc3\xa9", .type = FILE_F64, .rank = 0, .data = &one},
        {.name = "none", .type = FILE_F64, .rank = 2, .shape = {0, 5}},
        {.name = "a.u8", .type = FILE_U8, .rank = 1, .shape = {BIG}, .fill_bytes = fill_bytes},
    };
    CHECK_OK(tensor_file_write(path, sources, 7, &e), &e);
    assert_int_equal(next, BIG);
    CHECK_OK(tensor_files_open(&f, path, &e), &e);
    assert_int_equal(tensor_files_count(f), 7);
    const struct tensor_info *codes = tensor_files_find(f, "a.u8");
    uint8_t *bytes = mem_calloc(BIG, 1);
    assert_true(codes && bytes && codes->count == BIG);
    CHECK_OK(tensor_read_bytes(f, codes, 0, BIG, bytes, &e), &e);
    for (size_t i = 0; i < BIG; i++) assert_int_equal(bytes[i], (uint8_t)(i * 7));
    mem_free(bytes);
    assert_string_equal(tensor_files_metadata(f, "format"), "pt");
    check_tensor(f, "z.bf16", FILE_BF16);
    check_tensor(f, "b.f16", FILE_F16);
    check_tensor(f, "b.f32", FILE_F32);
    check_tensor(f, "a.f32", FILE_F32);
    const struct tensor_info *a = tensor_files_find(f, "a.f32"), *b = tensor_files_find(f, "b.f32"),
                             *h = tensor_files_find(f, "b.f16"),
                             *z = tensor_files_find(f, "z.bf16"),
                             *q = tensor_files_find(f, "q\"\n\xc3\xa9");
    assert_true(q->offset < a->offset && a->offset < b->offset && b->offset < z->offset &&
                z->offset < h->offset); /* F64, F32 by name, BF16, F16 */
    assert_int_equal(q->offset % 8, 0);
    float seven = 0;
    CHECK_OK(tensor_read_float(f, q, 0, 1, &seven, &e), &e);
    assert_true(seven == 7);
    tensor_files_close(f);
    assert_false(io_exists(in_folder("round.safetensors.tmp")));
}

static void test_refused_writes(void **state)
{
    (void)state;
    const char *path = in_folder("refused.safetensors");
    struct err e = {0};
    struct tensor_source s[2] = {
        {.name = "a", .type = FILE_F32, .rank = 1, .shape = {3}, .data = big},
        {.name = "a", .type = FILE_F32, .rank = 1, .shape = {3}, .data = big}};
    CHECK_OK(tensor_file_write(path, s, 1, &e), &e);
    int64_t size = io_file_size(path);
    assert_int_equal(tensor_file_write(path, s, 2, &e), ERR_FORMAT);
    s[1].type = FILE_BF16;
    assert_int_equal(tensor_file_write(path, s, 2, &e), ERR_FORMAT);
    assert_int_equal(tensor_dir_write(folder, s, 2, 4, &e), ERR_FORMAT);
    s[0].type = FILE_I64;
    assert_int_equal(tensor_file_write(path, s, 1, &e), ERR_UNSUPPORTED);
    s[0] = (struct tensor_source){.name = "a", .type = FILE_F32, .rank = 2, .shape = {-1, 1}};
    assert_int_equal(tensor_file_write(path, s, 1, &e), ERR_SHAPE);
    s[0].shape[0] = s[0].shape[1] = INT64_MAX / 2;
    assert_int_equal(tensor_file_write(path, s, 1, &e), ERR_SHAPE);
    s[0].rank = 9;
    assert_int_equal(tensor_file_write(path, s, 1, &e), ERR_SHAPE);
    s[0] = (struct tensor_source){
        .name = "a", .type = FILE_BF16, .rank = 1, .shape = {BIG}, .fill = fill_badly};
    assert_int_equal(tensor_file_write(path, s, 1, &e), ERR_NUMERIC);
    assert_string_equal(e.message, "tensor \"a\": not now");
    assert_int_equal(io_file_size(path), size); /* the former file is as it was */
    assert_false(io_exists(in_folder("refused.safetensors.tmp")));
    assert_int_equal(tensor_file_write(in_folder("no/such/dir"), s, 0, &e), ERR_IO);
}

/* A full disk's cousin that needs no rights: a limit on file sizes. */
static void test_no_room(void **state)
{
    (void)state;
    const char *path = in_folder("room.safetensors");
    struct err e = {0};
    struct rlimit was, small;
    struct tensor_source s = {.name = "a", .type = FILE_BF16, .rank = 1, .shape = {3}, .data = big};
    CHECK_OK(tensor_file_write(path, &s, 1, &e), &e);
    int64_t size = io_file_size(path);
    s.shape[0] = BIG;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small = (struct rlimit){100000, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum status got = tensor_file_write(path, &s, 1, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(got, ERR_DISK_FULL);
    assert_non_null(strstr(e.message, "room.safetensors"));
    assert_int_equal(io_file_size(path), size);
    assert_false(io_exists(in_folder("room.safetensors.tmp")));
}

static void test_shards(void **state)
{
    (void)state;
    struct err e = {0};
    struct tensor_files *f;
    char dir[IO_PATH_MAX];
    struct tensor_source s[4];
    const char *names[] = {"d", "c", "b", "a"};
    snprintf(dir, sizeof dir, "%s", in_folder("sharded"));
    assert_int_equal(mkdir(dir, 0777), 0);
    put(in_folder("sharded/model-00001-of-00007.safetensors"), "", 0);
    put(in_folder("sharded/model-1-of-2.safetensors"), "", 0); /* not a name of ours */
    for (int i = 0; i < 4; i++)
        s[i] = (struct tensor_source){
            .name = names[i], .type = FILE_F16, .rank = 2, .shape = {3, BIG / 3}, .data = big};
    CHECK_OK(tensor_dir_write(dir, s, 4, TENSOR_SHARD_BYTES, &e), &e);
    assert_true(io_exists(in_folder("sharded/model.safetensors")));
    assert_false(io_exists(in_folder("sharded/model-00001-of-00007.safetensors")));
    CHECK_OK(tensor_dir_write(dir, s, 4, 4 * BIG, &e), &e); /* two a shard, just fitting */
    assert_true(io_exists(in_folder("sharded/model-00002-of-00002.safetensors")));
    assert_false(io_exists(in_folder("sharded/model.safetensors")));
    CHECK_OK(tensor_dir_write(dir, s, 4, 1, &e), &e); /* each too large, one a shard */
    assert_true(io_exists(in_folder("sharded/model-00004-of-00004.safetensors")));
    assert_false(io_exists(in_folder("sharded/model-00002-of-00002.safetensors")));
    CHECK_OK(tensor_files_open(&f, dir, &e), &e);
    for (int i = 0; i < 4; i++) check_tensor(f, names[i], FILE_F16);
    assert_string_equal(tensor_files_at(f, 0)->name, "a");
    tensor_files_close(f);
    CHECK_OK(tensor_dir_write(dir, s, 4, TENSOR_SHARD_BYTES, &e), &e);
    assert_false(io_exists(in_folder("sharded/model.safetensors.index.json")));
    assert_false(io_exists(in_folder("sharded/model-00001-of-00004.safetensors")));
    assert_true(io_exists(in_folder("sharded/model-1-of-2.safetensors")));
    CHECK_OK(tensor_files_open(&f, dir, &e), &e);
    check_tensor(f, "c", FILE_F16);
    tensor_files_close(f);
}

/* A directory onto itself: what is read stays readable while its name is replaced. */
static void test_onto_itself(void **state)
{
    (void)state;
    struct err e = {0};
    struct tensor_files *f;
    char dir[IO_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", in_folder("sharded"));
    CHECK_OK(tensor_files_open(&f, dir, &e), &e);
    float *copy = mem_calloc(BIG, sizeof *copy);
    struct tensor_source s = {
        .name = "n", .type = FILE_F32, .rank = 2, .shape = {3, BIG / 3}, .data = big};
    CHECK_OK(tensor_dir_write(dir, &s, 1, TENSOR_SHARD_BYTES, &e), &e);
    CHECK_OK(tensor_read_float(f, tensor_files_find(f, "a"), 0, BIG, copy, &e), &e);
    tensor_files_close(f);
    mem_free(copy);
}

/* --- no memory --- */

/* Everything once, each allocation failing in turn (jansson's too: see main). */
static enum status write_and_read(struct err *e)
{
    char dir[IO_PATH_MAX];
    struct tensor_files *f;
    struct tensor_source s[2] = {
        {.name = "a", .type = FILE_BF16, .rank = 2, .shape = {3, BIG / 3}, .data = big},
        {.name = "b", .type = FILE_F32, .rank = 2, .shape = {3, BIG / 3}, .data = big}};
    snprintf(dir, sizeof dir, "%s", in_folder("memory"));
    TRY(io_make_dirs(dir, e));
    TRY(tensor_dir_write(dir, s, 2, 1, e));
    TRY(tensor_files_open(&f, dir, e));
    enum status status = tensor_read_float(f, tensor_files_find(f, "a"), 0, 10, (float[10]){0}, e);
    tensor_files_close(f);
    return status;
}

static void test_no_memory(void **state)
{
    (void)state;
    long n = 0;
    enum status s;
    do {
        struct err e = {0};
        mem_fail_after(++n);
        s = write_and_read(&e);
        mem_fail_after(0);
        assert_true(s == OK || s == ERR_MEMORY);
    } while (s && n < 10000);
    assert_int_equal(s, OK);
    assert_true(n > 40);
}

static int set_up(void **state)
{
    (void)state;
    make_big();
    json_set_alloc_funcs(mem_alloc, mem_free); /* so that a sweep reaches jansson */
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct err e = {0};
    (void)state;
    return io_remove_tree(folder, &e) ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounding),        cmocka_unit_test(test_all_halves),
        cmocka_unit_test(test_nearest),         cmocka_unit_test(test_names),
        cmocka_unit_test(test_hostile_headers), cmocka_unit_test(test_hostile_files),
        cmocka_unit_test(test_hostile_indexes), cmocka_unit_test(test_directories),
        cmocka_unit_test(test_reading),         cmocka_unit_test(test_short_files),
        cmocka_unit_test(test_flipped_bytes),   cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused_writes),  cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_shards),          cmocka_unit_test(test_onto_itself),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
