#include "base/quote.h"

enum status quote_yaml(struct buf *out, const char *text)
{
    TRY(buf_putc(out, '"'));
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\') {
            TRY(buf_printf(out, "\\%c", *at));
        } else if (*at == '\n') {
            TRY(buf_puts(out, "\\n"));
        } else if (*at < 0x20 || *at == 0x7F) {
            TRY(buf_printf(out, "\\x%02X", *at));
        } else if (*at == 0xC2 && at[1] < 0xA0) { /* U+0080 ... U+009F */
            TRY(buf_printf(out, "\\x%02X", *++at));
        } else if (*at == 0xEF && at[1] == 0xBB && at[2] == 0xBF) { /* U+FEFF */
            TRY(buf_puts(out, "\\uFEFF"));
            at += 2;
        } else if (*at == 0xEF && at[1] == 0xBF && at[2] >= 0xBE) { /* U+FFFE, U+FFFF */
            TRY(buf_printf(out, "\\uFFF%c", at[2] == 0xBE ? 'E' : 'F'));
            at += 2;
        } else {
            TRY(buf_putc(out, (char)*at));
        }
    }
    return buf_putc(out, '"');
}
