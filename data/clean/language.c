#include "data/clean/language.h"

#include <stdio.h>

#ifdef CRIA_CLD2

#include "data/clean/cld2.h"

#define SIZE_MOST ((size_t)1 << 30) /* CLD2 counts in int */

int language_available(void) { return 1; }

int language_exists(const char *code) { return cld2_exists(code); }

void language_detect(struct text t, char code[LANGUAGE_CODE_SIZE])
{
    const char *name = LANGUAGE_UNKNOWN;
    int size = (int)(t.n < SIZE_MOST ? t.n : SIZE_MOST), sure = 0;
    const char *found = cld2_detect(t.data, size, 0, &sure);
    if (found && !sure) found = cld2_detect(t.data, size, 1, &sure);
    if (found && sure) name = found;
    snprintf(code, LANGUAGE_CODE_SIZE, "%s", name);
}

#else

int language_available(void) { return 0; }

int language_exists(const char *code)
{
    (void)code;
    return 0;
}

void language_detect(struct text t, char code[LANGUAGE_CODE_SIZE])
{
    (void)t;
    snprintf(code, LANGUAGE_CODE_SIZE, "%s", LANGUAGE_UNKNOWN);
}

#endif
